//! The broker and name server processes: configuration, sockets, request processors, metrics, registration, start and stop.
#![forbid(unsafe_code)]

pub mod announcement;
pub mod broker;
pub mod cli;
pub mod clients;
pub mod clock;
pub mod commit_policy;
pub mod config;
pub mod crew;
pub mod gate;
pub mod gauges;
pub mod ha;
pub mod health;
pub mod http;
pub mod identity;
mod kept;
mod listening;
pub mod logging;
pub mod long_polling;
mod memory;
pub mod metadata;
pub mod metrics;
pub mod mutant;
pub mod name_server;
pub mod process;
pub mod processor;
mod recovered;
pub mod refuser;
pub mod registration;
mod relay;
mod replica;
pub mod retention;
mod round;
mod serving;
pub mod store_settings;
mod take_over;
mod waiting_room;
