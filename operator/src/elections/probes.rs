//! Asking the replicas of one group how they fare, over authenticated links that stay open: a process that ends closes its
//! link, and that is the first sign of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rocket_link::{Event, LinkId, Links, Message, Outgoing, Secret, Settings};
use rocket_replication::identity::ReplicaId;
use rocket_replication::state::State;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::judge::Round;
use super::rebuild::Survey;

/// A connection that fails so soon was refused; one that takes longer got no answer, which says less.
const REFUSAL: Duration = Duration::from_millis(250);
/// How long the one replica that is thought to be gone is waited for when all others have answered.
const MISSING: Duration = Duration::from_millis(20);

/// Where a replica is reached that says an address of itself: there, except in tests.
#[derive(Clone)]
pub struct Route(Arc<dyn Fn(&str) -> String + Send + Sync>);

impl Default for Route {
    fn default() -> Self {
        Self(Arc::new(str::to_owned))
    }
}

impl Route {
    /// A way of its own from the recorded `host:port` to one that can be connected to.
    pub fn new(way: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(way))
    }

    fn to(&self, address: &str) -> String {
        (self.0)(address)
    }
}

struct Open {
    address: String,
    link: LinkId,
    since: Instant,
    is_up: bool,
}

/// See the module.
pub(super) struct Probes {
    links: Links,
    events: UnboundedReceiver<Event>,
    route: Route,
    open: BTreeMap<ReplicaId, Open>,
    _stop: DropGuard,
}

impl Probes {
    /// No links yet. Their tasks belong to `tasks` and end with this, or when `stop` is cancelled.
    pub(super) fn new(
        secret: Secret,
        route: Route,
        tasks: TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let stop = stop.child_token();
        let (links, events) = Links::new(Settings::default(), secret, tasks, stop.clone());
        Self {
            links,
            events,
            route,
            open: BTreeMap::new(),
            _stop: stop.drop_guard(),
        }
    }

    /// Asks all replicas that `state` knows, and waits until each has answered or `wait` is over. `missing`: one that has not
    /// answered for so long that only the others are waited for.
    ///
    /// An answer to an earlier question that comes late counts: it was given after that question.
    pub(super) async fn ask(
        &mut self,
        state: &State,
        wait: Duration,
        missing: Option<ReplicaId>,
    ) -> Round {
        while let Ok(event) = self.events.try_recv() {
            self.happened(&event);
        }
        self.follow(state);
        let mut round = Round::default();
        let mut retried = BTreeSet::new();
        let mut waiting: BTreeMap<LinkId, ReplicaId> = self
            .open
            .iter()
            .map(|(id, open)| (open.link, *id))
            .collect();
        for open in self.open.values().filter(|open| open.is_up) {
            self.probe(open.link);
        }
        let mut deadline = Instant::now() + wait;
        while !waiting.is_empty() {
            if waiting.values().all(|id| Some(*id) == missing) {
                deadline = deadline.min(Instant::now() + MISSING);
            }
            let Ok(Some(event)) = timeout_at(deadline, self.events.recv()).await else {
                break;
            };
            let former = self.happened(&event);
            match (event, former) {
                (Event::Connected(link), _) => self.probe(link),
                (Event::ConnectFailed(link), Some((id, open))) => {
                    waiting.remove(&link);
                    if open.since.elapsed() < REFUSAL {
                        round.refused.insert(id);
                    }
                }
                (Event::Disconnected(link), Some((id, open))) => {
                    waiting.remove(&link);
                    // Whether anybody listens there shows when one knocks again.
                    if retried.insert(id) {
                        waiting.insert(self.connect(id, open.address), id);
                    } else {
                        round.refused.insert(id);
                    }
                }
                (Event::Received { link, message, .. }, _) => {
                    if let Message::Report(report) = message
                        && waiting.remove(&link).is_some()
                    {
                        round.reports.push(report);
                    }
                }
                (Event::ConnectFailed(_) | Event::Disconnected(_), None) => {}
            }
        }
        round
    }

    /// Asks each of `addresses`, by pod, what it holds (docs/replication.md §8.16), over links of their own, and waits until each has
    /// answered or failed, or `wait` is over. A broker that does not know the question closes the link.
    pub(super) async fn survey(
        &mut self,
        addresses: &BTreeMap<String, String>,
        wait: Duration,
    ) -> Survey {
        while let Ok(event) = self.events.try_recv() {
            self.happened(&event);
        }
        let mut survey = Survey::new();
        let mut waiting: BTreeMap<LinkId, &String> = addresses
            .iter()
            .map(|(pod, address)| (self.links.connect(self.route.to(address)), pod))
            .collect();
        let deadline = Instant::now() + wait;
        while !waiting.is_empty() {
            let Ok(Some(event)) = timeout_at(deadline, self.events.recv()).await else {
                break;
            };
            self.happened(&event);
            match event {
                Event::Connected(link) if waiting.contains_key(&link) => {
                    self.links.send(link, Outgoing::Message(Message::Survey));
                }
                Event::ConnectFailed(link) | Event::Disconnected(link) => {
                    waiting.remove(&link);
                }
                Event::Received {
                    link,
                    message: Message::Holding(holding),
                    ..
                } => {
                    if let Some(pod) = waiting.remove(&link) {
                        survey.insert(pod.clone(), *holding);
                        self.links.close(link);
                    }
                }
                Event::Connected(_) | Event::Received { .. } => {}
            }
        }
        for link in waiting.into_keys() {
            self.links.close(link);
        }
        survey
    }

    /// Ends when a link does. Nothing is lost if it is not waited for.
    pub(super) async fn cut(&mut self) {
        while let Some(event) = self.events.recv().await {
            self.happened(&event);
            if let Event::Disconnected(_) = event {
                return;
            }
        }
    }

    /// Tells all replicas that are reached to read the record.
    pub(super) fn nudge(&self) {
        for open in self.open.values().filter(|open| open.is_up) {
            let nudge = Outgoing::Message(Message::Nudge);
            self.links.send(open.link, nudge);
        }
    }

    /// Links follow the addresses in the record.
    fn follow(&mut self, state: &State) {
        let wanted: BTreeMap<ReplicaId, String> = state
            .replicas
            .iter()
            .filter(|(_, replica)| !replica.lost)
            .map(|(id, replica)| (*id, self.route.to(&replica.address)))
            .collect();
        let links = &self.links;
        self.open.retain(|id, open| {
            let stays = wanted.get(id) == Some(&open.address);
            if !stays {
                links.close(open.link);
            }
            stays
        });
        for (id, address) in wanted {
            if !self.open.contains_key(&id) {
                self.connect(id, address);
            }
        }
    }

    fn connect(&mut self, id: ReplicaId, address: String) -> LinkId {
        let link = self.links.connect(address.clone());
        let open = Open {
            address,
            link,
            since: Instant::now(),
            is_up: false,
        };
        self.open.insert(id, open);
        link
    }

    fn probe(&self, link: LinkId) {
        self.links.send(link, Outgoing::Message(Message::Probe));
    }

    /// Notes what became of a link; gives back one that is gone.
    fn happened(&mut self, event: &Event) -> Option<(ReplicaId, Open)> {
        let (Event::Connected(link) | Event::ConnectFailed(link) | Event::Disconnected(link)) =
            event
        else {
            return None;
        };
        let (id, open) = self.open.iter_mut().find(|(_, open)| open.link == *link)?;
        if let Event::Connected(_) = event {
            open.is_up = true;
            return None;
        }
        let id = *id;
        self.open.remove(&id).map(|open| (id, open))
    }
}

#[cfg(test)]
mod tests {
    use rocket_replication::memory::{group, member};
    use tokio::net::TcpListener;

    use super::*;
    use crate::elections::played::{answer, secret};

    const WAIT: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn answers_refusals_and_silence_are_told_apart() {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut state = group(3);
        let mut listeners = Vec::new();
        for replica in state.replicas.values_mut() {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            replica.address = listener.local_addr().unwrap().to_string();
            listeners.push(listener);
        }
        // The third accepts nobody, the second is gone, the first answers.
        let _silent = listeners.pop();
        drop(listeners.pop());
        let process = stop.child_token();
        answer(1, listeners.remove(0), &tasks, &process);
        let mut probes = Probes::new(secret(), Route::default(), tasks.clone(), &stop);
        for _ in 0..2 {
            let round = probes.ask(&state, WAIT, None).await;
            let answered: Vec<_> = round.reports.iter().map(|report| report.member).collect();
            assert_eq!(answered, [member(1)]);
            assert_eq!(round.refused, BTreeSet::from([ReplicaId(2)]));
        }
        process.cancel();
        let cut = tokio::time::timeout(Duration::from_secs(5), probes.cut());
        cut.await.expect("the end of a process is noticed at once");
        let round = probes.ask(&state, WAIT, None).await;
        assert!(round.reports.is_empty());
        assert!(round.refused.contains(&ReplicaId(1)));
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn one_that_is_missing_is_not_waited_for_when_all_others_have_answered() {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut state = group(2);
        let mut listeners = Vec::new();
        for replica in state.replicas.values_mut() {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            replica.address = listener.local_addr().unwrap().to_string();
            listeners.push(listener);
        }
        // The second takes links and says nothing: waited for, it would be given up as one that cuts every connection.
        let settings = Settings::default();
        let (silent, _unheard) = Links::new(settings, secret(), tasks.clone(), stop.clone());
        silent.listen(listeners.remove(1));
        answer(1, listeners.remove(0), &tasks, &stop);
        let mut probes = Probes::new(secret(), Route::default(), tasks.clone(), &stop);
        let patience = Duration::from_mins(1);
        let round = probes.ask(&state, patience, Some(ReplicaId(2))).await;
        assert_eq!(round.reports.len(), 1);
        assert_eq!(round.refused, BTreeSet::new());
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }
}
