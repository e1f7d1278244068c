use super::*;

fn frames() -> Vec<Frame> {
    let state = Bytes::from_static(b"{\"format\":1}");
    vec![
        Frame::Read,
        Frame::Watch,
        Frame::Cas {
            writer: DiskId(7),
            expected: Version(3),
            state: state.clone(),
        },
        Frame::State(state),
        Frame::Gone,
        Frame::Unreachable,
        Frame::Written(CasAnswer::Applied(Version(4))),
        Frame::Written(CasAnswer::Conflict),
        Frame::Written(CasAnswer::Unknown),
        Frame::Written(CasAnswer::Unsent),
        Frame::Beat,
    ]
}

#[test]
fn frames_come_back_one_after_the_other_however_they_arrive() {
    let mut input = BytesMut::new();
    let mut found = Vec::new();
    for frame in frames() {
        for byte in encode(&frame).unwrap() {
            input.put_u8(byte);
            found.extend(decode(&mut input).unwrap());
        }
    }
    assert_eq!(found, frames());
    assert!(input.is_empty());
}

#[test]
fn flipped_bit_is_never_a_frame() {
    for frame in frames() {
        let whole = encode(&frame).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut input = BytesMut::from(&whole[..]);
            input[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !matches!(decode(&mut input), Ok(Some(_))),
                "{frame:?}, bit {bit}"
            );
        }
    }
}

#[test]
fn length_beyond_its_bound_is_refused_before_its_bytes_are_there() {
    for (kind, bound) in [
        (32, 0),
        (34, PAYLOAD_BYTES_MAX),
        (48, STATE_BYTES_MAX),
        (51, 9),
    ] {
        let mut input = BytesMut::new();
        input.put_u32(u32::try_from(bound).unwrap() + 1);
        input.put_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
        let length = bound + 1;
        assert_eq!(
            decode(&mut input),
            Err(FrameError::TooLong { kind, length })
        );
    }
    let state = Bytes::from(vec![b' '; STATE_BYTES_MAX + 1]);
    assert!(encode(&Frame::State(state)).is_err());
}

#[test]
fn frames_of_a_link_are_none_of_a_register() {
    let mut link = BytesMut::new();
    crate::frame::encode(&crate::messages::Message::Nudge, &mut link).unwrap();
    assert_eq!(decode(&mut link), Err(FrameError::Type { kind: 9 }));
    let mut ours = BytesMut::from(&encode(&Frame::Read).unwrap()[..]);
    assert_eq!(
        crate::frame::decode(&mut ours),
        Err(FrameError::Type { kind: 32 })
    );
}
