//! The epochs of masters whose connections are gone: while one of them would still be taken for alive had its connection stayed, no master of an
//! earlier epoch takes its place. (Otherwise a master that was replaced, and does not know it, is the route whenever its successor connects anew.)

use std::collections::HashMap;

use rocket_protocol::ids::UnixMillis;

use super::{EXPIRY_DEFAULT, Live};

/// Groups remembered at most. Of more, those that would be forgotten first are.
const FORMER_MAX: usize = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Former {
    /// By cluster and group.
    masters: HashMap<(String, String), Master>,
}

#[derive(Debug, Clone, Copy)]
struct Master {
    /// State version: its epoch.
    state: i64,
    until: UnixMillis,
}

impl Former {
    /// The connection of who registered as `live` is gone. Outside of a replicated group (epoch 0) nothing follows from that.
    pub(super) fn lost(&mut self, cluster: &str, live: &Live) {
        if !live.is_master || live.version.state <= 0 {
            return;
        }
        let silence = live.expiry.min(EXPIRY_DEFAULT);
        let silence_ms = i64::try_from(silence.as_millis()).unwrap_or(i64::MAX);
        let master = Master {
            state: live.version.state,
            until: UnixMillis(live.heard.0.saturating_add(silence_ms)),
        };
        let key = (cluster.to_owned(), live.name.clone());
        let known = self.masters.get(&key);
        if known.is_some_and(|known| known.state > master.state) {
            return;
        }
        if known.is_none() && self.masters.len() >= FORMER_MAX {
            let first = self.masters.iter().min_by_key(|(_, it)| it.until.0);
            if let Some(first) = first.map(|(key, _)| key.clone()) {
                self.masters.remove(&first);
            }
        }
        self.masters.insert(key, master);
    }

    /// A master of epoch `state` said farewell: nobody is to wait for it. What is known of a later one stays.
    pub(super) fn left(&mut self, cluster: &str, live: &Live) {
        if !live.is_master {
            return;
        }
        let key = (cluster.to_owned(), live.name.clone());
        if let Some(known) = self.masters.get(&key)
            && known.state <= live.version.state
        {
            self.masters.remove(&key);
        }
    }

    /// Whether the group had a master of a later epoch than `state` a moment ago.
    pub(super) fn is_later(&self, cluster: &str, name: &str, state: i64, now: UnixMillis) -> bool {
        let key = (cluster.to_owned(), name.to_owned());
        let known = self.masters.get(&key);
        known.is_some_and(|known| known.state > state && now.0 <= known.until.0)
    }

    /// Forgets those that would have expired.
    pub(super) fn expire(&mut self, now: UnixMillis) {
        self.masters.retain(|_, known| now.0 <= known.until.0);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.masters.len()
    }
}
