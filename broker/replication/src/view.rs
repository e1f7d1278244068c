//! What others see of a replica: its report to electors, its role, whether it takes sends, and what its shell may look at.

use rocket_protocol::ids::PhysicalOffset;

use crate::coordinator::Tracker;
use crate::identity::{Epoch, Member, Version};
use crate::local::Log;
use crate::master::Master;
use crate::messages::{Holding, Report, RoleName};
use crate::mutations::Mutant;
use crate::policy::{Flush, Held, InForce, Policy};
use crate::repair::Repair;
use crate::replica::{Replica, Role, Writes};
use crate::slave::Slave;

impl Replica {
    /// What this replica tells an elector; `None` before it is registered.
    pub fn report(&self) -> Option<Report> {
        let core = &self.core;
        Some(Report {
            member: core.me()?,
            role: self.role(),
            max_epoch: core.max_epoch,
            last: core.log.epochs.last(),
            log_end: core.log.end,
            durable_end: core.log.durable_end,
            confirm: core.log.confirm,
            version: core.max_version,
            master_linked: matches!(&self.role, Role::Following(s) if s.is_streaming()),
            damaged: self.is_damaged() && !core.mutations.has(Mutant::M44),
        })
    }

    /// What this replica holds, whatever its group's object says, and also before it is registered (§8.16).
    pub fn holding(&self) -> Holding {
        let core = &self.core;
        Holding {
            disk_id: core.disk_id,
            group: core.meta,
            former: core.former,
            incarnation: core.incarnation,
            role: self.role(),
            max_epoch: core.max_epoch,
            version: core.max_version,
            last: core.log.epochs.last(),
            log_end: core.log.end,
            damaged: self.is_damaged(),
        }
    }

    /// Its role, as it is reported.
    pub fn role(&self) -> RoleName {
        match &self.role {
            Role::Booting => RoleName::Booting,
            Role::Idle => RoleName::Idle,
            Role::Following(_) => {
                let in_sync = self
                    .core
                    .me()
                    .zip(self.core.tracker.seen())
                    .is_some_and(|(me, s)| s.in_sync.contains(&me));
                if in_sync {
                    RoleName::InSync
                } else {
                    RoleName::CatchUp
                }
            }
            Role::Leading(master) if master.is_serving() => RoleName::Master,
            Role::Leading(_) => RoleName::Activating,
            Role::Halted(_) => RoleName::Halted,
        }
    }

    /// Whether a send may be appended now.
    pub fn writes(&self) -> Writes {
        match &self.role {
            Role::Leading(master) => master.writes(),
            _ => Writes::NotMaster,
        }
    }

    /// What counts here now: a store that flushes in another mode cannot keep what this replica acknowledges.
    pub fn flush(&self) -> Flush {
        self.core.flush
    }

    /// What answers wait for now (§5.1): what a master has said is in force, and what this one is about to say, if that is
    /// stronger. `own` stands in for a word that was never given. `None`: the object asks for no modes.
    pub fn modes(&self, own: Policy) -> Option<Policy> {
        let tracker = &self.core.tracker;
        let seen = tracker.seen().filter(|state| state.policy.is_some())?;
        let said = seen.in_force.map_or(own, InForce::policy);
        let open = tracker.open().and_then(|state| state.in_force);
        let about_to = open.map_or(said, InForce::policy);
        Some(if self.core.mutations.has(Mutant::M41) {
            about_to
        } else {
            said.stronger(about_to)
        })
    }

    /// How far its log is held as a master.
    pub fn held(&self) -> Held {
        let log = &self.core.log;
        let committed_durable = self
            .leading()
            .map_or(PhysicalOffset(0), |master| master.commit().durable());
        Held {
            appended: log.end,
            durable: log.durable_end.min(log.end),
            committed: log.confirm,
            committed_durable: committed_durable.min(log.confirm),
        }
    }

    /// This process as a member of its group, once registered.
    pub fn member(&self) -> Option<Member> {
        self.core.me()
    }

    /// The log as this machine knows it.
    pub fn log(&self) -> &Log {
        &self.core.log
    }

    /// The newest state that it acted on, and its own write that may still land.
    pub fn tracker(&self) -> &Tracker {
        &self.core.tracker
    }

    /// The highest epoch and version that it durably saw.
    pub fn seen(&self) -> (Epoch, Version) {
        (self.core.max_epoch, self.core.max_version)
    }

    /// Whether a part of its log is damaged (§8.15).
    pub fn is_damaged(&self) -> bool {
        self.core.damaged
    }

    /// How the repair of that goes.
    pub fn repair(&self) -> &Repair {
        &self.repair
    }

    /// The mastership, if this replica leads.
    pub fn leading(&self) -> Option<&Master> {
        match &self.role {
            Role::Leading(master) => Some(master),
            _ => None,
        }
    }

    /// The following, if this replica follows.
    pub fn following(&self) -> Option<&Slave> {
        match &self.role {
            Role::Following(slave) => Some(slave),
            _ => None,
        }
    }
}
