//! Master and slave state machines of one broker group.
#![forbid(unsafe_code)]
