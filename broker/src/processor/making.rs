//! What waits for the disk: topics and consumer groups that requests make, on disk before the answer, and messages that single
//! requests ask for, wherever in the log they are.
//!
//! Writing and syncing a file takes milliseconds, as reading what is not in memory does, during which a connection's task must
//! not keep a worker of the runtime from others: it gives the worker away meanwhile ([`BrokerProcessor::waiting`],
//! [`BrokerProcessor::reading`]), and only so many do so at a time. Those who write together are written together
//! (`metadata::writer`). Pulls have a way of their own (`catch_up`).

use std::sync::Arc;

use rocket_protocol::ResponseCode;
use rocket_protocol::body::SubscriptionGroupConfig;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

use super::BrokerProcessor;
use super::refusal::Refusal;
use crate::config::BrokerConfig;
use crate::metadata::CreateGroupError;
use crate::round;

/// Requests that may wait for metadata to be written, and as many that may read, at a time. Each holds a thread.
pub(super) const WAITING_MAX: usize = 64;

impl BrokerProcessor {
    /// Writes metadata, on this thread, while others take over its tasks.
    ///
    /// # Errors
    /// Too many do that right now.
    pub(super) fn waiting<T>(&self, work: impl FnOnce() -> T) -> Result<T, Refusal> {
        Self::aside(
            &self.writers,
            "[REJECTREQUEST]too many topics and groups are being made, start flow control for a while",
            work,
        )
    }

    /// Reads the log where it may not be in memory, on this thread, while others take over its tasks.
    ///
    /// # Errors
    /// Too many do that right now.
    pub(super) fn reading<T>(&self, work: impl FnOnce() -> T) -> Result<T, Refusal> {
        Self::aside(
            &self.readers,
            "[REJECTREQUEST]too many requests read from the disk, start flow control for a while",
            work,
        )
    }

    fn aside<T>(places: &Semaphore, busy: &str, work: impl FnOnce() -> T) -> Result<T, Refusal> {
        let Ok(_place) = places.try_acquire() else {
            return Err(Refusal::new(ResponseCode::SYSTEM_BUSY, busy));
        };
        // Where there is one thread only, as in tests, there is nobody to give the tasks to.
        let has_others = Handle::try_current()
            .is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
        Ok(if has_others {
            round::aside(work)
        } else {
            work()
        })
    }

    /// The settings of a group; one that is not known is made if the configuration lets it.
    pub(super) fn group_of(
        &self,
        group: &str,
        config: &BrokerConfig,
    ) -> Result<Option<Arc<SubscriptionGroupConfig>>, Refusal> {
        let groups = &self.deps.metadata.groups;
        if let Some(known) = groups.get(group) {
            return Ok(Some(known));
        }
        let made = match groups.may_create(group, config) {
            Ok(None) => return Ok(None),
            Ok(Some(_)) => self.waiting(|| groups.find_or_create(group, config, self.now()))?,
            Err(error) => Err(error),
        };
        match made {
            Ok(made) => Ok(made),
            Err(CreateGroupError::File(error)) => Err(error.into()),
            Err(CreateGroupError::TooMany(max)) => Err(Refusal::new(
                ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
                format!(
                    "subscription group not exist, {group}: this broker has autoCreateGroupsMax = {max} groups and makes no more for clients. \
                     Make it with mqadmin updateSubGroup, delete groups that nobody uses, or raise autoCreateGroupsMax."
                ),
            )),
        }
    }
}
