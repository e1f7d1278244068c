//! The custom resources.
#![forbid(unsafe_code)]
