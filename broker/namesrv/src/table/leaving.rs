//! How brokers leave: by a farewell, with their connection, by silence, or under another name. The queues of all groups that are left are changed in one
//! pass over the routes, however many brokers a connection had.

use std::collections::BTreeSet;

use rocket_protocol::ids::UnixMillis;

use super::{Channel, Live, MASTER_ID, PERM_WRITE, RouteTable};

/// Groups that addresses left, whose queues are still to be changed, in one pass for all of them.
#[derive(Debug, Default)]
struct Left {
    /// Nobody is left.
    empty: BTreeSet<String>,
    /// A slave stands in from now on; it takes no writes.
    led_by_slaves: BTreeSet<String>,
}

impl RouteTable {
    /// Takes a broker's farewell that came over `channel`. Ignored when the address was registered over another connection since.
    pub fn unregister(&mut self, cluster: &str, name: &str, addr: &str, channel: Channel) {
        if self
            .live_channel(cluster, addr)
            .is_some_and(|last| last != channel)
        {
            return;
        }
        if let Some(live) = self.forget(cluster, addr) {
            self.former.left(cluster, &live);
        }
        self.leave_one(name, addr);
    }

    /// A connection is gone, and with it every broker that registered over it. Returns their addresses.
    pub fn channel_closed(&mut self, channel: Channel) -> Vec<String> {
        self.drop_live(|live| live.channel == channel)
            .into_iter()
            .map(|(addr, _)| addr)
            .collect()
    }

    /// Forgets brokers that were silent for too long. Returns their addresses and the connections that should be closed.
    pub fn expire(&mut self, now: UnixMillis) -> Vec<(String, Channel)> {
        let silent = |live: &Live| {
            i128::from(now.0) - i128::from(live.heard.0)
                > i128::try_from(live.expiry.as_millis()).unwrap_or(i128::MAX)
        };
        let dropped = self.drop_live(silent);
        self.former.expire(now);
        dropped
    }

    fn drop_live(&mut self, gone: impl Fn(&Live) -> bool) -> Vec<(String, Channel)> {
        let dropped: Vec<_> = self.live.extract_if(|_, live| gone(live)).collect();
        let mut left = Left::default();
        for ((cluster, addr), live) in &dropped {
            self.former.lost(cluster, live);
            self.leave(cluster, &live.name, addr, &mut left);
        }
        self.change_queues(&left);
        dropped
            .into_iter()
            .map(|((_, addr), live)| (addr, live.channel))
            .collect()
    }

    /// Takes a registration back, and its address out of the group that it is in. Returns what it was.
    pub(super) fn forget(&mut self, cluster: &str, addr: &str) -> Option<Live> {
        let key = (cluster.to_owned(), addr.to_owned());
        let live = self.live.remove(&key)?;
        let mut left = Left::default();
        self.leave(cluster, &live.name, addr, &mut left);
        self.change_queues(&left);
        Some(live)
    }

    /// Takes the address of a registration that is gone out of its group, unless the group is another cluster's by now and somebody lives there
    /// under the same address.
    fn leave(&mut self, cluster: &str, name: &str, addr: &str, left: &mut Left) {
        let stays = self.groups.get(name).is_some_and(|group| {
            let key = (group.cluster.clone(), addr.to_owned());
            group.cluster != cluster && self.live.contains_key(&key)
        });
        if !stays {
            self.drop_address(name, addr, left);
        }
    }

    /// Takes an address out of a group.
    pub(super) fn leave_one(&mut self, name: &str, addr: &str) {
        let mut left = Left::default();
        self.drop_address(name, addr, &mut left);
        self.change_queues(&left);
    }

    /// Takes an address out of a group, and the group away when it was the last; `left` remembers what follows for the queues.
    fn drop_address(&mut self, name: &str, addr: &str, left: &mut Left) {
        let Some(group) = self.groups.get_mut(name) else {
            return;
        };
        let before = group.addrs.len();
        group.addrs.retain(|_, held| held != addr);
        if group.addrs.is_empty() {
            self.groups.remove(name);
            left.empty.insert(name.to_owned());
        } else if group.addrs.len() < before
            && group.acting_master
            && !group.addrs.contains_key(&MASTER_ID)
        {
            left.led_by_slaves.insert(name.to_owned());
        }
    }

    fn change_queues(&mut self, left: &Left) {
        if left.empty.is_empty() && left.led_by_slaves.is_empty() {
            return;
        }
        self.routes.retain(|_, name, queues| {
            if left.led_by_slaves.contains(name) {
                queues.perm &= !PERM_WRITE;
            }
            !left.empty.contains(name)
        });
    }
}
