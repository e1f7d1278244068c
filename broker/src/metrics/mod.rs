//! Metrics: one table each for broker and name server, from which the series, their help and `docs/metrics.md` come.
//!
//! Names are RocketMQ 5's where it has one, so that its dashboards work. `cluster`, `node_type` and `node_id` are on every series and are
//! put there by the registry; of the other labels only topic and consumer group come from outside, as in RocketMQ, and both are bounded by
//! what the broker has created. Gauges are read when they are scraped ([`Scrape`]), counters are counted where the thing happens.

mod broker;
mod namesrv;
mod page;
mod table;

use std::collections::HashMap;

use parking_lot::Mutex;
use prometheus::{Registry, TextEncoder};

pub use broker::{MessageType, Metrics, Series, TopicSeries};
pub use namesrv::NamesrvMetrics;
pub use page::markdown;
pub use table::{Definition, Definitions};

/// A registry whose series all carry RocketMQ's three labels of a node.
///
/// # Errors
/// When a value cannot be a label, which no checked name is.
pub fn registry(
    cluster: &str,
    node_type: &str,
    node_id: &str,
) -> Result<Registry, prometheus::Error> {
    let labels = [
        ("cluster", cluster),
        ("node_type", node_type),
        ("node_id", node_id),
    ];
    let labels: HashMap<String, String> = labels
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Registry::new_custom(None, Some(labels))
}

type Refresh = Box<dyn Fn() + Send + Sync>;

/// A registry and what must be read anew before it is printed.
pub struct Scrape {
    registry: Registry,
    refreshes: Mutex<Vec<Refresh>>,
    /// Another node of the same process.
    included: Mutex<Vec<Scrape>>,
}

impl Scrape {
    /// Prints `registry`.
    pub fn new(registry: Registry) -> Self {
        Self {
            registry,
            refreshes: Mutex::default(),
            included: Mutex::default(),
        }
    }

    /// Has `refresh` called before each print. It must not block.
    pub fn on_scrape(&self, refresh: impl Fn() + Send + Sync + 'static) {
        self.refreshes.lock().push(Box::new(refresh));
    }

    /// Prints `other` after this one. Their series must differ in name.
    pub fn include(&self, other: Self) {
        self.included.lock().push(other);
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// When two series collide.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        for refresh in self.refreshes.lock().iter() {
            refresh();
        }
        let mut text = TextEncoder::new().encode_to_string(&self.registry.gather())?;
        for included in self.included.lock().iter() {
            text.push_str(&included.text()?);
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
