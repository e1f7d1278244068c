//! Frames over sockets.
#![forbid(unsafe_code)]
