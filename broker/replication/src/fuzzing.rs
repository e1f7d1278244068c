//! Entries of the fuzzer (`broker/fuzz`): frames of a link and of a register, and the coordinator's object. A finding is a panic.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a finding is a panic"
)]

use bytes::BytesMut;

use crate::frame::{HEAD_BYTES, decode, encode};
use crate::register;
use crate::state::State;

/// Name and entry of a target.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[
    ("replication_frame", replication_frame),
    ("register_frame", register_frame),
    ("group_state", group_state),
];

/// A stream of frames. The first byte says whether it is taken as it is, or as the payload of one frame whose head is right;
/// what decodes is encoded and decodes to the same.
fn replication_frame(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else {
        return;
    };
    let mut input = if kind >= 128 {
        BytesMut::from(data)
    } else {
        framed(kind % 15, data)
    };
    while let Ok(Some(message)) = decode(&mut input) {
        let mut out = BytesMut::new();
        encode(&message, &mut out).expect("what was within its bound is again");
        let again = decode(&mut out).expect("a frame of ours");
        assert_eq!(again.expect("a whole frame"), message);
    }
}

/// The same for requests to a register and their answers. Their state is the next target's.
fn register_frame(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else {
        return;
    };
    let mut input = if kind >= 128 {
        BytesMut::from(data)
    } else {
        framed(30 + kind % 25, data)
    };
    while let Ok(Some(frame)) = register::decode(&mut input) {
        let whole = register::encode(&frame).expect("what was within its bound is again");
        let again = register::decode(&mut BytesMut::from(&whole[..])).expect("a frame of ours");
        assert_eq!(again.expect("a whole frame"), frame);
    }
}

/// A frame whose head is right.
fn framed(kind: u8, data: &[u8]) -> BytesMut {
    let mut head = [0; 8];
    head[..4].copy_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
    head[4] = kind;
    let sum = crc32c::crc32c_append(crc32c::crc32c(&head), data);
    let mut input = BytesMut::new();
    input.extend_from_slice(&head);
    input.extend_from_slice(&sum.to_be_bytes());
    input.extend_from_slice(data);
    assert_eq!(input.len(), HEAD_BYTES + data.len());
    input
}

/// The coordinator's object in JSON, as file and as status; what is read is written and reads the same, and a change to it
/// from itself is checked.
fn group_state(data: &[u8]) {
    if let Ok(state) = serde_json::from_slice::<State>(data) {
        let text = serde_json::to_vec(&state).expect("a state can be written");
        assert_eq!(
            serde_json::from_slice::<State>(&text).expect("a state of ours"),
            state
        );
        let _ = State::check_transition(&state, &state);
    }
}

#[cfg(test)]
mod tests {
    use super::TARGETS;

    #[test]
    fn what_the_fuzzer_found_worth_keeping_goes_through_its_decoder() {
        for (name, run) in TARGETS {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/");
            for entry in std::fs::read_dir(format!("{folder}{name}")).expect(name) {
                run(&std::fs::read(entry.unwrap().path()).unwrap());
            }
        }
    }
}
