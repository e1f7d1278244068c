//! What an elector does because it was asked to: a planned handover, and a person's choice of a replica. And what it notes at
//! every look for those who ask.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use rocket_api::Reason;
use rocket_replication::elector::{Circumstances, Decision, decide};
use rocket_replication::identity::{Epoch, ReplicaId};
use rocket_replication::mutations::Mutations;
use rocket_replication::state::State;

use super::{Elector, WAIT, master_pod};
use crate::context;
use crate::elections::force::{self, Obstacle};
use crate::elections::handover::{self, Course, Handing};
use crate::elections::judge::Round;
use crate::elections::rebuild::Survey;
use crate::elections::{Answer, Handed, Order, Standing, Task};

/// What is said when a write was not applied, or not known to be.
const NOT_WRITTEN: &str =
    "the record of the group changed meanwhile, or the API server did not answer";

impl Elector {
    pub(super) async fn obey(&mut self, order: Order) {
        // Of a request that has ended meanwhile, failed for its asker, nothing is begun. A rolling update never waits for an answer.
        let is_of_update = matches!(order.task, Task::HandOver { by: None, .. });
        if order.done.is_closed() && !is_of_update {
            return;
        }
        let answer = match order.task {
            Task::HandOver { to, at, by } => self.hand_over(to, at, by).await,
            Task::Force { to, at, reason } => self.force(to, at, &reason).await,
            Task::Rebuild { volumes, reason } => self.rebuild(&volumes, &reason).await,
            Task::Discard => self.discard().await,
        };
        if let Err(why) = &answer {
            tracing::info!(
                group = self.post.group,
                why,
                "what was asked for was not done"
            );
        }
        // Who asked may have gone.
        let _ = order.done.send(answer);
    }

    /// §8.12, as "anybody": asks the master by the record.
    async fn hand_over(&mut self, to: ReplicaId, at: Epoch, by: Option<String>) -> Answer {
        let state = self.read().await.ok_or(NOT_WRITTEN)?;
        let round = self.probes.ask(&state, WAIT, None).await;
        self.note(&state, &round).await;
        if state.epoch != at {
            return Err(format!("the group is in epoch {} by now", state.epoch));
        }
        let obstacle = handover::master_obstacle(&state, &round.reports)
            .or_else(|| handover::obstacle(&state, &round.reports, to));
        if let Some(why) = obstacle {
            return Err(why);
        }
        if by.is_none() {
            self.tell_rolling_update(&state, to).await;
        }
        let new = state.handover_asked(self.post.context.proposal(), Some(to));
        // The master cannot have heard of it before, so it took sends until now at least.
        let asked_ms = self.now_ms();
        let new = self.replace(&state, new).await.ok_or(NOT_WRITTEN)?;
        if by.is_none() {
            let elections = &self.post.context.elections;
            elections.asked(&self.post.namespace, &self.post.group);
        }
        self.handing = Some(Handing {
            by,
            to,
            at,
            version: new.version,
            asked_ms,
        });
        Ok(())
    }

    async fn tell_rolling_update(&self, state: &State, to: ReplicaId) {
        let decision = context::Decision {
            warning: false,
            reason: Reason::HandingOver,
            action: "HandOver",
            note: format!(
                "group {}: asking {} to hand over to {}, so that its pod can be replaced",
                self.post.index,
                master_pod(state).unwrap_or_default(),
                handover::pod(state, to),
            ),
            about: Some(("RocketBrokerGroup", self.post.group.clone())),
        };
        let cluster = Arc::clone(&self.post.wanted.borrow().cluster);
        self.post.context.publish(&cluster, &decision).await;
    }

    /// §8.14: an election by a person's decision.
    async fn force(&mut self, to: ReplicaId, at: Epoch, reason: &str) -> Answer {
        let state = self.read().await.ok_or(NOT_WRITTEN)?;
        let round = self.probes.ask(&state, WAIT, None).await;
        self.note(&state, &round).await;
        if let Some(Obstacle::Yet(why) | Obstacle::Never(why)) =
            force::obstacle(&state, &round.reports, to, at)
        {
            return Err(why);
        }
        let seen = Circumstances {
            reports: &round.reports,
            forced: Some((to, at)),
            ..Circumstances::default()
        };
        let proposal = self.post.context.proposal();
        let Decision::Elect(mut new) = decide(&state, &seen, proposal, Mutations::default()) else {
            return Err("a replica has seen a newer record of the group".to_owned());
        };
        if let Some(unclean) = new.unclean.last_mut() {
            reason.clone_into(&mut unclean.reason);
        }
        let (now_ms, master) = (self.now_ms(), state.master);
        let missed_ms = self.judge.missed_ms(now_ms);
        tracing::warn!(
            group = self.post.group,
            ?master,
            reason,
            "a person's decision is carried out"
        );
        if self
            .write(&state, *new, now_ms.saturating_sub(missed_ms))
            .await
        {
            Ok(())
        } else {
            Err(NOT_WRITTEN.to_owned())
        }
    }

    /// Keeps what the replicas said for those who ask, and sees a handover through to its end.
    pub(super) async fn note(&mut self, state: &State, round: &Round) {
        let course = self.handing.as_ref().map_or(Course::Going, |handing| {
            handing.look(self.now_ms(), state, &round.reports)
        });
        let ended = match course {
            Course::Going => None,
            Course::Opened { .. } | Course::TakenBack | Course::Lost => self.handing.take(),
        };
        {
            let mut seen = self.post.seen.lock();
            let former = seen.take().and_then(|standing| standing.handed);
            let handed = ended.as_ref().map(|handing| Handed {
                by: handing.by.clone(),
                course,
                ended: Timestamp::now(),
            });
            *seen = Some(Standing {
                reports: round.reports.clone(),
                survey: Survey::new(),
                handed: handed.or(former),
            });
        }
        if let (Some(handing), Course::Opened { epoch, pause }) = (ended, course) {
            let metrics = &self.post.context.metrics;
            metrics.write_pause_seconds.observe(pause.as_secs_f64());
            let to = handover::pod(state, handing.to);
            let decision = context::Decision {
                warning: false,
                reason: Reason::HandedOver,
                action: "HandOver",
                note: format!(
                    "group {}: {to} took over in epoch {epoch} by a planned handover; no sends were taken for {} ms at most",
                    self.post.index,
                    pause.as_millis()
                ),
                about: Some(("Pod", to)),
            };
            let cluster = Arc::clone(&self.post.wanted.borrow().cluster);
            self.post.context.publish(&cluster, &decision).await;
        } else if course == Course::TakenBack {
            let master = master_pod(state).unwrap_or_default();
            tracing::warn!(
                group = self.post.group,
                master,
                "a planned handover did not come about"
            );
        }
    }
}
