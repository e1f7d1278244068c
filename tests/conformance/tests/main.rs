//! Clients that others wrote against a running cluster: ours, or with `CONFORMANCE_TARGET=apache` Apache's own, which is how the
//! suite itself is checked.
//!
//! A JVM's start is what costs time, so all scenarios of one client run side by side in one process of a driver (`java/driver`, `go`);
//! the driver says what it saw, and each test here judges one behaviour of one client.
#![forbid(unsafe_code)]

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod directories;
#[cfg(test)]
mod kubernetes;
#[cfg(test)]
mod mqadmin;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod scenarios;
