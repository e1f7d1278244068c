//! Replication links (docs/replication.md §7): TCP between the brokers of a group, opened by mutual authentication, carrying
//! the frames of [`rocket_replication::frame`].
//!
//! What a message means is the business of the state machines in `rocket-replication`; here bytes become messages and
//! messages bytes. A link that breaks a rule is closed, and its peer may open another.
#![forbid(unsafe_code)]

mod connection;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod links;
mod opening;
mod outgoing;
mod register;
mod secret;

pub use links::{Event, Links, Settings, Share};
pub use outgoing::{DataHead, Outgoing};
pub use register::{DialError, dial_register};
pub use rocket_replication::messages::{LinkId, Message};
pub use secret::{Secret, SecretError};
