//! The broker and name server processes: configuration, sockets, request processors, metrics, registration, start and stop.
#![forbid(unsafe_code)]

pub mod cli;
pub mod clients;
pub mod clock;
pub mod config;
pub mod http;
pub mod identity;
pub mod logging;
pub mod long_polling;
pub mod metadata;
pub mod metrics;
pub mod process;
