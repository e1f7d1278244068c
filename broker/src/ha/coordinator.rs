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
        })
    }

    /// Asks the group for what the configuration says. Only for who has locked the replica's folder: a second start on it must
    /// change nothing of a group that runs.
    pub(super) async fn ask(&self) -> Result<(), JoinError> {
        match self.wish {
            Some((min_in_sync, policy)) => ask_for(&*self.coordinator, min_in_sync, policy).await,
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

/// §5.1, §8.17: nobody else keeps the state of a file to what the configuration says. The process that started last decides.
async fn ask_for(
    coordinator: &dyn Coordinator,
    min_in_sync: u8,
    policy: Policy,
) -> Result<(), JoinError> {
    for _ in 0..CHANGES_MAX {
        let ReadAnswer::State(state) = coordinator.read_current().await else {
            return Err(JoinError::State);
        };
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
