//! A properties string: the scan and the full parse find the same.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rocket_protocol::message::properties::{Properties, pairs, scan};

fuzz_target!(|data: &[u8]| {
    let source = Bytes::copy_from_slice(data);
    let parsed = Properties::parse(&source);
    let written = parsed.to_bytes();
    for (name, value) in parsed.iter() {
        assert_eq!(scan(&written, name), Some(value));
    }
    for (name, _) in pairs(data) {
        assert!(parsed.get(name).is_some());
    }
    assert_eq!(Properties::parse(&written), parsed);
});
