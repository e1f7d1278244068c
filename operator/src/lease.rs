//! One operator leads: a Lease that is renewed while it works and given back when it stops.
//!
//! Clocks of two machines are never compared. A holder is taken for gone when its record was *seen unchanged* for a whole
//! lease duration on the watcher's own monotonic clock; what time the holder wrote does not matter. Safety of messages
//! does not depend on any of this: two operators at once would only write the same objects twice.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

/// How long a silent holder keeps the lease.
pub const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for this long stops, before anybody else may begin.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often one who waits looks at the lease: a lease that was given back is taken within a second.
pub const LOOK: Duration = Duration::from_millis(750);
/// How often the holder renews it.
pub const PERIOD: Duration = Duration::from_secs(2);

/// What was seen of the lease, on our own clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who holds it; empty when it was given back.
    pub holder: String,
    /// Resource version of the record.
    pub record: String,
    /// When this very record was first seen.
    pub since: Instant,
}

/// What to do about the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Write our name into it.
    Take,
    /// Renew what is ours.
    Renew,
    /// Leave it alone.
    Wait,
}

/// Decides from what was seen.
pub fn decide(me: &str, seen: &Seen, now: Instant) -> Step {
    if seen.holder == me {
        Step::Renew
    } else if seen.holder.is_empty() || now.saturating_duration_since(seen.since) >= DURATION {
        Step::Take
    } else {
        Step::Wait
    }
}

/// Takes a new look into account: the clock starts again only when the record changed.
pub fn look(former: Option<Seen>, holder: String, record: String, now: Instant) -> Seen {
    match former {
        Some(former) if former.record == record && former.holder == holder => former,
        _ => Seen {
            holder,
            record,
            since: now,
        },
    }
}

/// One process's part in the election.
pub struct Election {
    api: Api<Lease>,
    name: String,
    me: String,
    seen: Option<Seen>,
}

/// Why leading ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// We were told to stop.
    Asked,
    /// Somebody else leads, or we could not renew in time.
    Lost,
}

impl Election {
    /// An election over the lease `name`, under the name `me`.
    pub fn new(client: Client, namespace: &str, name: &str, me: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            me: me.to_owned(),
            seen: None,
        }
    }

    /// Waits until this process leads. `false` when it was told to stop before.
    pub async fn win(&mut self, stop: &CancellationToken) -> bool {
        loop {
            match tokio::time::timeout(PERIOD * 2, self.step()).await {
                Ok(Ok(true)) => return true,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    lease = self.name,
                    "cannot look at the lease"
                ),
                Err(_) => tracing::warn!(
                    lease = self.name,
                    "the API server does not answer about the lease"
                ),
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Renews until told to stop or until the lease is lost. Any failure but a seen other holder counts as unknown.
    pub async fn keep(&mut self, stop: &CancellationToken) -> End {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return End::Asked,
                () = tokio::time::sleep(PERIOD) => {}
            }
            match tokio::time::timeout(PERIOD * 2, self.step()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false))
                    if self
                        .seen
                        .as_ref()
                        .is_some_and(|seen| !seen.holder.is_empty() && seen.holder != self.me) =>
                {
                    return End::Lost;
                }
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    lease = self.name,
                    "cannot renew the lease"
                ),
                Err(_) => tracing::warn!(
                    lease = self.name,
                    "the API server does not answer about the lease"
                ),
            }
            if renewed.elapsed() >= RENEW_DEADLINE {
                return End::Lost;
            }
        }
    }

    /// Gives the lease back, so that another process takes it at its next look.
    ///
    /// # Errors
    /// When the API server does not answer; the lease then ends by itself.
    pub async fn release(&mut self) -> kube::Result<()> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            return Ok(());
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&self.me) {
            spec.holder_identity = Some(String::new());
            self.api
                .replace(&self.name, &PostParams::default(), &lease)
                .await?;
        }
        Ok(())
    }

    /// Looks once and acts. `true` when the lease is ours.
    async fn step(&mut self) -> kube::Result<bool> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.record(None)),
            };
            return self
                .write(|api| async move { api.create(&PostParams::default(), &lease).await })
                .await;
        };
        let holder = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.clone())
            .unwrap_or_default();
        let now = Instant::now();
        let seen = look(
            self.seen.take(),
            holder,
            lease.resource_version().unwrap_or_default(),
            now,
        );
        let step = decide(&self.me, &seen, now);
        self.seen = Some(seen);
        if step == Step::Wait {
            return Ok(false);
        }
        lease.spec = Some(self.record(lease.spec.as_ref()));
        lease.metadata.managed_fields = None;
        let name = self.name.clone();
        self.write(|api| async move { api.replace(&name, &PostParams::default(), &lease).await })
            .await
    }

    /// Writes under the resource version that was read; somebody else's write in between means that it is not ours.
    async fn write<F>(&mut self, write: impl FnOnce(Api<Lease>) -> F) -> kube::Result<bool>
    where
        F: Future<Output = kube::Result<Lease>>,
    {
        match write(self.api.clone()).await {
            Ok(lease) => {
                self.seen = Some(Seen {
                    holder: self.me.clone(),
                    record: lease.resource_version().unwrap_or_default(),
                    since: Instant::now(),
                });
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The record with our name, renewed now.
    fn record(&self, former: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let is_ours = former.is_some_and(|spec| spec.holder_identity.as_deref() == Some(&self.me));
        let transitions = former
            .and_then(|spec| spec.lease_transitions)
            .unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: Some(i32::try_from(DURATION.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: former
                .filter(|_| is_ours)
                .and_then(|spec| spec.acquire_time.clone())
                .or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(if is_ours || former.is_none() {
                transitions
            } else {
                transitions.saturating_add(1)
            }),
            ..LeaseSpec::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_silent_holder_keeps_the_lease_for_its_whole_duration_on_our_clock() {
        let start = Instant::now();
        let mut seen = None;
        for second in (0..60).step_by(2) {
            let now = at(start, second);
            // Renewed for the first 20 seconds, silent afterwards.
            let record = second.min(20).to_string();
            let look = look(seen.take(), "other".into(), record, now);
            let expected = if second >= 35 { Step::Take } else { Step::Wait };
            assert_eq!(decide("me", &look, now), expected, "at {second} s");
            seen = Some(look);
        }
    }

    #[test]
    fn a_lease_that_was_given_back_is_taken_at_once() {
        let now = Instant::now();
        assert_eq!(
            decide("me", &look(None, String::new(), "7".into(), now), now),
            Step::Take
        );
    }

    #[test]
    fn our_own_lease_is_renewed_however_old_its_record_is() {
        let start = Instant::now();
        let seen = look(None, "me".into(), "7".into(), start);
        assert_eq!(decide("me", &seen, at(start, 3600)), Step::Renew);
    }
}
