//! The Secret by which an elector proves itself to the replicas of its group: read before its first look, and again while none of
//! them answers. It may have been made anew since, and replicas that began later know only that.

use std::time::Duration;

use kube::ResourceExt;
use rocket_link::Secret;
use tokio::time::{Instant, sleep};

use super::{Elector, FIRST_WAIT_MS, Post};
use crate::elections::probes::Probes;
use crate::secret::{self, Found, Unread};

/// Pause before it is asked for again where there is none yet.
const PAUSE: Duration = Duration::from_secs(2);
/// For how long no replica answers before it is read again.
const UNHEARD: Duration = Duration::from_secs(5);

/// What an elector knows of its Secret.
pub(super) struct Proof {
    version: String,
    /// Since when no replica has answered, or when it was read again for that.
    unheard: Option<Instant>,
    /// Why it could not be read again.
    wanting: Option<Unread>,
}

impl Proof {
    pub(super) fn new(version: String) -> Self {
        Self {
            version,
            unheard: None,
            wanting: None,
        }
    }

    /// Whether no replica answers and the Secret could not be read again.
    pub(super) fn is_wanting(&self) -> bool {
        self.wanting.is_some()
    }
}

/// Links that are proved with `secret`.
pub(super) fn probes(post: &Post, secret: Secret) -> Probes {
    let (route, tasks) = (post.context.route.clone(), post.tasks.clone());
    Probes::new(secret, route, tasks, &post.stop)
}

/// Waits until it is there.
pub(super) async fn first(post: &Post) -> Found {
    let begun = Instant::now();
    loop {
        let why = match read(post).await {
            Ok(found) => {
                *post.finding.lock() = None;
                return found;
            }
            Err(why) => why,
        };
        // One that is yet to be made, or a server that restarts, is no finding.
        if begun.elapsed() >= Duration::from_millis(FIRST_WAIT_MS) {
            post.find(&cannot_read(post, &why));
        }
        sleep(PAUSE).await;
    }
}

impl Elector {
    /// Whether anybody answered. When nobody has for some time the Secret is read again.
    pub(super) async fn heard(&mut self, is_anybody: bool) {
        if is_anybody {
            (self.proof.unheard, self.proof.wanting) = (None, None);
            return;
        }
        let since = *self.proof.unheard.get_or_insert_with(Instant::now);
        if since.elapsed() < UNHEARD {
            return;
        }
        self.proof.wanting = match read(&self.post).await {
            Ok(found) => {
                self.prove_with(found);
                None
            }
            Err(why) => Some(why),
        };
        self.proof.unheard = Some(Instant::now());
    }

    fn prove_with(&mut self, found: Found) {
        if found.version == self.proof.version {
            return;
        }
        tracing::warn!(
            group = self.post.group,
            secret = self.post.secret,
            "no replica answers, and the Secret is another one by now: asking with that"
        );
        self.probes = probes(&self.post, found.secret);
        self.proof.version = found.version;
    }

    /// Has people told why nobody can be asked.
    pub(super) fn cannot_prove(&self) {
        if let Some(why) = &self.proof.wanting {
            self.post.find(&cannot_read(&self.post, why));
        }
    }
}

async fn read(post: &Post) -> Result<Found, Unread> {
    let cluster = post.wanted.borrow().cluster.uid().unwrap_or_default();
    let name = (post.namespace.as_str(), post.secret.as_str());
    secret::read(&post.context.client, name, &cluster).await
}

fn cannot_read(post: &Post, why: &Unread) -> String {
    format!(
        "group {}: the operator cannot read Secret {}, so it can ask no replica and elect no master: {why}",
        post.index, post.secret
    )
}
