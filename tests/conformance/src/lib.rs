//! Real clients against the broker, a real Kubernetes against the operator.
//!
//! The library holds what both the tests and the `golden` program need: Apache's own programs and our drivers fetched and
//! compiled once into a cache (`programs`), servers that end with their owner (`process`, `apache`, `standalone`), the facts that
//! a driver prints (`facts`), and the proxy that records frames (`proxy`, `golden`). It knows none of our rooms: what is under
//! test is the built program, spoken to by clients that others wrote.
#![forbid(unsafe_code)]

pub mod apache;
pub mod facts;
pub mod frame;
pub mod golden;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod standalone;
pub mod stores;
