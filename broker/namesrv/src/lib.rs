//! The route registry and its request processor.
#![forbid(unsafe_code)]
