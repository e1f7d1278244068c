//! A replica of a group at work, and what has clients served as its role says, up to its stop.

use std::sync::Arc;
use std::time::Duration;

use rocket_replication::messages::RoleName;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::crew::{Alarm, Crew};
use crate::ha::{Follower, Joined};
use crate::health::BrokerHealth;
use crate::listening::Port;
use crate::metrics::Metrics;
use crate::serving::Stage;

/// How often it is looked whether what serves has followed the role of the replica.
const NOTING: Duration = Duration::from_millis(5);
/// How long a stop waits at most for those to go elsewhere who are connected here.
const PARTING: Duration = Duration::from_secs(5);

/// See the module.
pub(crate) struct Replica {
    pub(crate) joined: Joined,
    following: Crew,
    /// Lets go sends that wait for a master.
    ushering: Crew,
    /// Sends that are being passed on to the next master.
    passing: TaskTracker,
    /// Until when sends are passed on, if they are.
    passed: watch::Receiver<Option<Instant>>,
}

impl Replica {
    /// Has clients served, or not, as the role of the replica says. `ports_apart`: how far the replication port is above that for clients.
    pub(crate) fn start(
        joined: Joined,
        stage: &Arc<Stage>,
        (health, metrics): (&Arc<BrokerHealth>, Arc<Metrics>),
        (port, ports_apart): (&Port, i32),
        (group, alarm): (&str, &Alarm),
    ) -> Self {
        let board = Arc::clone(&joined.board);
        if joined.serves {
            port.gate.keep_waiting(move || board.writes());
        }
        let ushering = Crew::default();
        let usher = Arc::clone(&port.gate).usher(ushering.stop.clone());
        ushering.tasks.spawn(alarm.watch("sends that wait", usher));
        let (passes, passed) = watch::channel(None);
        let passing = TaskTracker::new();
        let follower = Follower {
            group: group.to_owned(),
            serves: joined.serves,
            stage: Arc::clone(stage),
            metadata: Arc::clone(&joined.metadata),
            health: Arc::clone(health),
            metrics,
            ports_apart,
            passing: passing.clone(),
            passes,
        };
        let following = Crew::default();
        let run = follower.run(joined.group.standing(), following.stop.clone());
        let run = alarm.watch("role of the replica", run);
        following.tasks.spawn(run);
        Self {
            joined,
            following,
            ushering,
            passing,
            passed,
        }
    }

    /// Has another replica take over, if this one is master, and passes on to it for a while whoever is still connected here.
    pub(crate) async fn take_leave(&self, stage: &Stage) {
        self.joined.take_leave().await;
        let standing = self.joined.group.standing();
        let leads = || standing.borrow().role == RoleName::Master;
        let noted = async {
            while stage.is_serving() && !leads() {
                tokio::time::sleep(NOTING).await;
            }
        };
        let mut passed = self.passed.clone();
        let parted = async {
            noted.await;
            // An error says that nobody passes anything on.
            let _ = passed.wait_for(Option::is_none).await;
        };
        // In vain: who is still connected finds the port closed.
        let _ = timeout(PARTING, parted).await;
        self.following.dismiss().await;
    }

    /// From now on nobody waits for a master.
    pub(crate) async fn let_go(&self) {
        self.ushering.dismiss().await;
    }

    /// Waits for the answers to what was passed on.
    pub(crate) async fn passed_on(&self) {
        self.passing.close();
        self.passing.wait().await;
    }
}
