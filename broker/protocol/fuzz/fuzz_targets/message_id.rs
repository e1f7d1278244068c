//! Message ids: what is read prints the same, but for the case of its digits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rocket_protocol::message::{OffsetMessageId, UniqueKey};

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<OffsetMessageId>() {
        assert!(id.to_string().eq_ignore_ascii_case(text));
    }
    if let Ok(key) = text.parse::<UniqueKey>() {
        assert!(key.to_string().eq_ignore_ascii_case(text));
    }
});
