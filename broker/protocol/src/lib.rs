//! RocketMQ's wire protocol and record format.
#![forbid(unsafe_code)]
