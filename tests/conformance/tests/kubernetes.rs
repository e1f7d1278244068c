//! The operator, its chart and brokers on a real Kubernetes, seen with the eyes of whoever runs them: through `kubectl` and `helm`.
//!
//! `tests/conformance/on-cluster` brings the cluster and the programs and tells where they are by environment variables; without
//! them every test here says loudly what it did not show. All tests share one Kubernetes and one operator, each works in a namespace
//! of its own (under the `restricted` Pod Security level, which is thereby shown for every pod), so they may run beside each other.
//! What counts requests or stops the operator is in `alone` and runs after the others, one at a time; so does what takes nodes,
//! cables and the API server away, in `failover`.

mod alone;
mod bench;
mod deletion;
mod edits;
mod examples;
mod failover;
mod fields;
mod messages;
mod objects;
mod refusals;
mod repair;
mod shape;
mod space;
