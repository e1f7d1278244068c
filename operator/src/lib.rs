//! The operator: turns one `RocketCluster` into name servers and broker groups, and tells the truth about them.
//!
//! A reconcile runs once through five rooms: [`observe`] reads everything that it needs, [`validate`] makes a checked
//! specification, [`build`] makes the objects that should exist, [`apply`] writes those that differ, [`status`] says
//! what is true. What decides is pure (`validate`, `build`, `master`, `roll`, `volumes`, `drift`, `status`, `lease::decide`);
//! what acts reads the present, never the event that woke it, so that running it twice changes nothing.
#![forbid(unsafe_code)]

pub mod apply;
pub mod build;
pub mod check;
pub mod cli;
pub mod context;
pub mod controller;
pub mod crd;
pub mod drift;
pub mod http;
pub mod kind;
pub mod lease;
pub mod master;
pub mod metrics;
pub mod names;
pub mod observe;
pub mod reconcile;
pub mod roll;
pub mod status;
pub mod validate;
pub mod volumes;
