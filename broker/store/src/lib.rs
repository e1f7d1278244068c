//! The message store of one broker.
#![forbid(unsafe_code)]
