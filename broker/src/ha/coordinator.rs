//! The coordinator of a broker's group, as the configuration names it.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rocket_coordinator::file::FileCoordinator;
use rocket_coordinator::fixed::{FixedCoordinator, Register};
use rocket_coordinator::kubernetes::KubernetesCoordinator;
use rocket_coordinator::{Cas, Coordinator, ReadAnswer};
use rocket_ha::{Candidates, SelfElection};
use rocket_link::Secret;
use rocket_replication::replica::Flush;
use rocket_replication::{DiskId, GroupUid, Policy, Proposal, Replication, State};
use tokio_util::task::TaskTracker;

use super::JoinError;
use crate::config::{BrokerConfig, CoordinatorAt, FlushDiskType, ReplicationMode};
use crate::mutant::mutations;

/// Where a fixed master keeps its group's state, below its folder.
const REGISTER: &str = "rocket/coordinator";
/// How long a fixed master waits between two looks at its slaves, as long as it may not lead.
const FIXED_PATIENCE_MS: u64 = 250;
/// Each try fails only when another process changed the state meanwhile.
const CHANGES_MAX: u32 = 100;

/// How a replica agrees with the others of its group.
pub(super) struct Agreement {
    pub(super) coordinator: Arc<dyn Coordinator>,
    /// How masters are elected; `None`: an operator elects.
    pub(super) self_election: Option<SelfElection>,
    /// What is served to the others, by a fixed master.
    pub(super) register: Option<Register>,
    /// Whose folder this replica has, when that is known.
    pub(super) writer: Arc<OnceLock<DiskId>>,
    /// What the configuration asks of the group: replicas in sync and modes. `None`: nobody asks here.
    wish: Option<(u8, Policy)>,
    weaker: Weaker,
}

/// What becomes of a wish for less than the group has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weaker {
    /// It is asked for: the configuration says that too.
    Asked,
    /// The group keeps what is stronger. Nobody may have wished for it: these are the defaults.
    NotAsked,
}

impl Agreement {
    /// Opens the coordinator at `at`. Its tasks belong to `tasks` and end when nobody uses it any more.
    pub(super) async fn open(
        config: &BrokerConfig,
        at: &CoordinatorAt,
        secret: &Secret,
        tasks: &TaskTracker,
    ) -> Result<Self, JoinError> {
        let writer: Arc<OnceLock<DiskId>> = Arc::default();
        let expected_replicas = usize::try_from(config.total_replicas).unwrap_or(usize::MAX);
        let election = SelfElection {
            expected_replicas,
            ..SelfElection::default()
        };
        let wish = (config.group_min_in_sync(), policy(config));
        let (mut register, mut wishes) = (None, Some(wish));
        let (coordinator, self_election): (Arc<dyn Coordinator>, _) = match at {
            CoordinatorAt::File(folder) => {
                let coordinator = file(config, folder, wish, tasks).await?;
                (Arc::new(coordinator), Some(election))
            }
            CoordinatorAt::Static(address) if config.is_standby() => {
                let (address, writer) = (address.to_string(), Arc::clone(&writer));
                let coordinator = FixedCoordinator::new(address, secret.clone(), writer, tasks);
                wishes = None;
                let election = SelfElection {
                    candidates: Candidates::Another,
                    ..election
                };
                (Arc::new(coordinator), Some(election))
            }
            CoordinatorAt::Static(_) => {
                let folder = config.store_path_root_dir.join(REGISTER);
                let coordinator: Arc<dyn Coordinator> =
                    Arc::new(file(config, &folder, wish, tasks).await?);
                register = Some(Register::new(Arc::clone(&coordinator)));
                let election = SelfElection {
                    candidates: Candidates::ThisOne,
                    patience_ms: FIXED_PATIENCE_MS,
                    ..election
                };
                (coordinator, Some(election))
            }
            CoordinatorAt::Kubernetes { namespace, name } => {
                let coordinator = KubernetesCoordinator::connect(namespace, name, tasks).await?;
                // The operator elects, and says how many must be in sync.
                wishes = None;
                (Arc::new(coordinator), None)
            }
        };
        Ok(Self {
            coordinator,
            self_election,
            register,
            writer,
            wish: wishes,
            weaker: if config.weaken_group {
                Weaker::Asked
            } else {
                Weaker::NotAsked
            },
        })
    }

    /// Asks the group for what the configuration says. Only for who has locked the replica's folder: a second start on it must
    /// change nothing of a group that runs.
    pub(super) async fn ask(&self) -> Result<(), JoinError> {
        match self.wish {
            Some(wish) => ask_for(&*self.coordinator, wish, self.weaker).await,
            None => Ok(()),
        }
    }
}

/// The register in `folder`; one that is made anew asks for what the configuration says.
async fn file(
    config: &BrokerConfig,
    folder: &Path,
    (min_in_sync, policy): (u8, Policy),
    tasks: &TaskTracker,
) -> Result<FileCoordinator, JoinError> {
    let uid = GroupUid(rand::random());
    let in_sync_min = config.replication().in_sync_min;
    if policy.replication == Replication::Async && in_sync_min > 1 {
        tracing::warn!(
            in_sync_min,
            "with replication ASYNC no answer waits for another replica: minInSyncReplicas and inSyncReplicas have no effect"
        );
    }
    let first = State::new(uid, min_in_sync, Proposal(rand::random())).begun_with(policy);
    Ok(FileCoordinator::open(folder, first, tasks).await?)
}

/// The modes that the configuration asks for.
fn policy(config: &BrokerConfig) -> Policy {
    Policy {
        flush: flush(config),
        replication: match config.replication().mode {
            ReplicationMode::Sync => Replication::Sync,
            ReplicationMode::Async => Replication::Async,
        },
    }
}

pub(super) fn flush(config: &BrokerConfig) -> Flush {
    match config.flush_disk_type {
        FlushDiskType::Sync => Flush::Sync,
        FlushDiskType::Async => Flush::Async,
    }
}

/// What is asked of the group in `state` by a configuration that wishes for `wish`.
fn asked(state: &State, wish: (u8, Policy), weaker: Weaker) -> (u8, Policy) {
    let (min_in_sync, policy) = wish;
    match weaker {
        Weaker::Asked => wish,
        Weaker::NotAsked => (
            min_in_sync.max(state.min_in_sync),
            state.policy.map_or(policy, |has| has.stronger(policy)),
        ),
    }
}

/// §5.1, §8.17: nobody else keeps the state of a file to what the configuration says. The process that started last decides, but
/// by an oversight it weakens nothing.
async fn ask_for(
    coordinator: &dyn Coordinator,
    wish: (u8, Policy),
    weaker: Weaker,
) -> Result<(), JoinError> {
    for _ in 0..CHANGES_MAX {
        let ReadAnswer::State(state) = coordinator.read_current().await else {
            return Err(JoinError::State);
        };
        let (min_in_sync, policy) = asked(&state, wish, weaker);
        if (min_in_sync, policy) != wish {
            tracing::warn!(
                group = ?(state.min_in_sync, state.policy),
                configured = ?wish,
                "the group keeps what is stronger than in this configuration: replicas that must be in sync, flush, replication; weakenGroup = true asks for less"
            );
        }
        if state.min_in_sync == min_in_sync && state.policy == Some(policy) {
            return Ok(());
        }
        tracing::warn!(
            found = ?(state.min_in_sync, state.policy),
            wanted = ?(min_in_sync, policy),
            "the group takes its modes from this configuration: replicas that must be in sync, flush, replication"
        );
        let proposal = Proposal(rand::random());
        let mut new = state.with_min_in_sync(proposal, min_in_sync, mutations());
        new.policy = Some(policy);
        // Whatever is answered, the next read shows what came of it.
        let _answer = coordinator
            .cas(Cas {
                expected: state.version,
                new: Arc::new(new),
            })
            .await;
    }
    Err(JoinError::State)
}

#[cfg(test)]
mod tests {
    use rocket_coordinator::memory::MemoryCoordinator;

    use super::*;

    const fn modes(flush: Flush, replication: Replication) -> Policy {
        Policy { flush, replication }
    }

    const STRONGEST: Policy = modes(Flush::Sync, Replication::Sync);
    const WEAKEST: Policy = modes(Flush::Async, Replication::Async);

    /// What a group that was begun with `begun` has when a replica has started that wishes for `wish`.
    async fn left(begun: (u8, Policy), wish: (u8, Policy), weaker: Weaker) -> (u8, Option<Policy>) {
        let first = State::new(GroupUid(1), begun.0, Proposal(1)).begun_with(begun.1);
        let register = MemoryCoordinator::new(first);
        ask_for(&register, wish, weaker).await.unwrap();
        match register.read_current().await {
            ReadAnswer::State(state) => (state.min_in_sync, state.policy),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_configuration_weakens_its_group_only_if_it_says_so() {
        let (strong, weak) = ((2, STRONGEST), (1, WEAKEST));
        let of = |(min_in_sync, policy)| (min_in_sync, Some(policy));
        assert_eq!(left(strong, weak, Weaker::NotAsked).await, of(strong));
        assert_eq!(left(strong, weak, Weaker::Asked).await, of(weak));
        for weaker in [Weaker::NotAsked, Weaker::Asked] {
            assert_eq!(left(weak, strong, weaker).await, of(strong));
            assert_eq!(left(strong, strong, weaker).await, of(strong));
        }
        // Each by itself: what is stronger is taken, what is weaker is not.
        let mixed = (3, modes(Flush::Sync, Replication::Async));
        let begun = (2, modes(Flush::Async, Replication::Sync));
        assert_eq!(
            left(begun, mixed, Weaker::NotAsked).await,
            of((3, STRONGEST))
        );
    }
}
