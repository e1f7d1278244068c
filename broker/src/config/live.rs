//! The configuration of a running broker: hot keys may change, all others are as they were at start.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::broker::BrokerConfig;
use super::error::{Error, Place, Problem};
use super::source;
use super::table::{Apply, Settings, apply, unknown};

/// Shared by everything that reads the configuration. [`LiveConfig::load`] is cheap enough for every request.
#[derive(Debug)]
pub struct LiveConfig {
    current: ArcSwap<BrokerConfig>,
    /// Two administrators at a time must not lose each other's change.
    updating: Mutex<()>,
}

impl LiveConfig {
    /// Starts with what was read at start.
    pub fn new(config: BrokerConfig) -> Self {
        Self {
            current: ArcSwap::from_pointee(config),
            updating: Mutex::new(()),
        }
    }

    /// The configuration as it is now.
    pub fn load(&self) -> arc_swap::Guard<Arc<BrokerConfig>> {
        self.current.load()
    }

    /// Changes hot keys from properties text, all or none; the change lasts until the process ends. Returns the names of the changed keys.
    ///
    /// # Errors
    /// Unknown keys, keys without effect, bad values, and keys that are read at start only and would change.
    pub fn update(&self, properties: &str) -> Result<Vec<&'static str>, Error> {
        let _guard = self.updating.lock();
        let mut next = BrokerConfig::clone(&self.current.load());
        let mut changed = Vec::new();
        let mut problems = Vec::new();
        for entry in source::properties(properties, |_| Place::Request)? {
            let mut ignored = BrokerConfig::IGNORED.iter();
            if let Some(ignored) = ignored.find(|ignored| ignored.name == entry.key) {
                problems.push(Problem::NoEffect {
                    place: entry.place,
                    key: ignored.name,
                    why: ignored.why,
                });
                continue;
            }
            let Some(key) = BrokerConfig::key(&entry.key) else {
                problems.push(unknown::<BrokerConfig>(&entry.place, &entry.key));
                continue;
            };
            let before = next.get(key.name);
            if let Err(problem) = apply(&mut next, &entry) {
                problems.push(problem);
            } else if next.get(key.name) != before {
                if key.apply == Apply::Restart {
                    problems.push(Problem::NeedsRestart {
                        place: entry.place,
                        key: key.name,
                    });
                }
                changed.push(key.name);
            }
        }
        if !problems.is_empty() {
            return Err(Error { problems });
        }
        self.current.store(Arc::new(next));
        Ok(changed)
    }
}
