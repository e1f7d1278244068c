//! The operator: turns one `RocketCluster` into name servers and broker groups, and tells the truth about them.
//!
//! A reconcile runs once through five rooms: [`observe`] reads everything that it needs, [`validate`] makes a checked
//! specification, [`build`] makes the objects that should exist, [`apply`] writes those that differ, [`status`] says
//! what is true. What decides is pure (`validate`, `build`, `config_files`, `address`, `master`, `elected`, `members`, `roll`, `volumes`, `drift`, `status`, `lease::decide`);
//! what acts reads the present, never the event that woke it, so that running it twice changes nothing.
//!
//! Beside the reconciles [`elections`] looks after the groups that elect their masters. A reconcile tells it what was observed
//! and never waits for it. [`operations`] carries out what people ask for once.
#![forbid(unsafe_code)]

pub mod address;
pub mod apply;
pub mod build;
pub mod check;
pub mod cli;
pub mod config_files;
pub mod context;
pub mod controller;
pub mod crd;
pub mod drift;
pub mod elected;
pub mod elections;
pub mod http;
pub mod kind;
pub mod lease;
pub mod master;
pub mod members;
pub mod metrics;
pub mod names;
pub mod observe;
pub mod operations;
pub mod reconcile;
pub mod roles;
pub mod roll;
pub mod secret;
pub mod status;
pub mod validate;
pub mod volumes;
