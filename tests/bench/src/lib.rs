//! Load generator.
#![forbid(unsafe_code)]
