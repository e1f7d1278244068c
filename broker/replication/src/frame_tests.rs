use super::*;
use crate::epochs::{EPOCHS_MAX, Epochs};
use crate::identity::{DiskId, Former, GroupUid, Incarnation, Member, ReplicaId, Version};
use crate::messages::{
    Ack, Beat, Data, Fetch, Hello, Holding, LINK_VERSION, Range, Reason, Refuse, Report, RoleName,
    Welcome,
};

fn member() -> Member {
    Member {
        replica_id: ReplicaId(3),
        incarnation: Incarnation(0x0102_0304),
    }
}

fn epochs() -> Epochs {
    let entry = |e, s| EpochStart {
        epoch: Epoch(e),
        start: PhysicalOffset(s),
    };
    Epochs::new(vec![entry(1, 0), entry(4, 512)]).unwrap()
}

fn samples() -> Vec<Message> {
    let at = PhysicalOffset;
    vec![
        Message::Hello(Hello {
            version: LINK_VERSION,
            group_uid: GroupUid(7),
            member: member(),
            disk_id: DiskId(8),
            max_epoch: Epoch(4),
            log_min: at(0),
            log_end: at(900),
            epochs: epochs(),
            confirm: at(800),
            durable: true,
        }),
        Message::Welcome(Welcome {
            member: member(),
            epoch: Epoch(4),
            start: at(512),
            epochs: epochs(),
            log_min: at(0),
            log_end: at(1000),
            confirm: at(900),
        }),
        Message::Refuse(Refuse {
            reason: Reason::BehindRetention,
            max_epoch: Epoch(9),
        }),
        Message::Data(Data {
            epoch: Epoch(4),
            bytes_epoch: EpochStart {
                epoch: Epoch(4),
                start: at(512),
            },
            offset: at(900),
            file_end: at(2048),
            confirm: at(880),
            bytes: Bytes::from_static(b"record"),
        }),
        Message::Refuse(Refuse {
            reason: Reason::Stopping,
            max_epoch: Epoch(9),
        }),
        Message::Ack(Ack {
            epoch: Epoch(4),
            offset: at(906),
        }),
        Message::Beat(Beat {
            epoch: Epoch(4),
            offset: at(906),
            stamp_ms: 77,
        }),
        Message::Probe,
        Message::Report(Report {
            member: member(),
            role: RoleName::InSync,
            max_epoch: Epoch(4),
            last: epochs().last(),
            log_end: at(906),
            durable_end: at(906),
            confirm: at(880),
            version: Version(12),
            master_linked: true,
            damaged: false,
        }),
        Message::Report(Report {
            member: member(),
            role: RoleName::CatchUp,
            max_epoch: Epoch(4),
            last: None,
            log_end: at(906),
            durable_end: at(906),
            confirm: at(880),
            version: Version(12),
            master_linked: false,
            damaged: true,
        }),
        Message::Nudge,
        Message::Fetch(Fetch {
            group_uid: GroupUid(7),
            offset: at(65_536),
            length: 65_536,
            bytes_epoch: EpochStart {
                epoch: Epoch(4),
                start: at(512),
            },
        }),
        Message::Range(Range {
            offset: at(65_536),
            checksums: vec![1, 2],
            bytes: Bytes::from_static(b"block"),
        }),
        Message::Survey,
    ]
    .into_iter()
    .chain(holdings())
    .collect()
}

fn holdings() -> [Message; 3] {
    [
        Message::Holding(Box::new(holding())),
        Message::Holding(Box::new(Holding {
            group: None,
            last: None,
            damaged: true,
            ..holding()
        })),
        Message::Holding(Box::new(Holding {
            former: Some(Former {
                group_uid: GroupUid(6),
                max_epoch: Epoch(3),
            }),
            ..holding()
        })),
    ]
}

fn holding() -> Holding {
    Holding {
        disk_id: DiskId(8),
        group: Some((GroupUid(7), ReplicaId(3))),
        former: None,
        incarnation: Incarnation(0x0102_0304),
        role: RoleName::Booting,
        max_epoch: Epoch(4),
        version: Version(12),
        last: epochs().last(),
        log_end: PhysicalOffset(906),
        damaged: false,
    }
}

fn framed(message: &Message) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode(message, &mut bytes).unwrap();
    bytes
}

#[test]
fn every_message_comes_back_as_it_was() {
    let mut stream = BytesMut::new();
    for message in samples() {
        encode(&message, &mut stream).unwrap();
    }
    for message in samples() {
        assert_eq!(decode(&mut stream), Ok(Some(message)));
    }
    assert_eq!(decode(&mut stream), Ok(None));
}

#[test]
fn part_of_a_frame_is_waited_for_and_not_consumed() {
    for message in samples() {
        let whole = framed(&message);
        for length in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..length]);
            assert_eq!(decode(&mut part), Ok(None));
            assert_eq!(part.len(), length);
        }
    }
}

#[test]
fn any_flipped_bit_is_noticed() {
    for message in samples() {
        let whole = framed(&message);
        for bit in 0..whole.len() * 8 {
            let mut bent = whole.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            let read = decode(&mut bent);
            assert!(
                matches!(read, Err(_) | Ok(None)),
                "bit {bit} of {message:?} went unnoticed"
            );
        }
    }
}

/// Hole 6 of the list of known ones: random bytes on the port were taken for acknowledgements.
#[test]
fn random_bytes_are_never_an_acknowledgement() {
    let mut word = 0x1234_5678_9abc_def1_u64;
    for _ in 0..20_000 {
        let mut noise = BytesMut::new();
        for _ in 0..8 {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            noise.put_u64(word);
        }
        noise[4] = 5;
        noise[..4].copy_from_slice(&16_u32.to_be_bytes());
        noise[5..8].fill(0);
        assert!(matches!(
            decode(&mut noise),
            Err(FrameError::Checksum { kind: 5 })
        ));
    }
}

#[test]
fn length_over_its_bound_is_refused_before_the_payload_is_read() {
    let mut head = BytesMut::new();
    head.put_u32(u32::try_from(CONTROL_BYTES_MAX).unwrap() + 1);
    head.put_slice(&[5, 0, 0, 0, 0, 0, 0, 0]);
    assert!(matches!(
        decode(&mut head),
        Err(FrameError::TooLong { kind: 5, .. })
    ));
}

#[test]
fn full_epoch_list_fits_a_control_frame() {
    let entries = (1..=EPOCHS_MAX as u64).map(|e| EpochStart {
        epoch: Epoch(e),
        start: PhysicalOffset(e),
    });
    let Message::Hello(hello) = &samples()[0] else {
        panic!("the first sample is a hello")
    };
    let hello = Hello {
        epochs: Epochs::new(entries.collect()).unwrap(),
        ..hello.clone()
    };
    assert_eq!(
        decode(&mut framed(&Message::Hello(hello.clone()))),
        Ok(Some(Message::Hello(hello)))
    );
}

#[test]
fn largest_data_fits_and_one_byte_more_does_not() {
    let Message::Data(data) = &samples()[3] else {
        panic!("the fourth sample is data")
    };
    let sized = |length| {
        Message::Data(Data {
            bytes: Bytes::from(vec![7; length]),
            ..data.clone()
        })
    };
    let mut out = BytesMut::new();
    assert_eq!(
        encode(&sized(DATA_BYTES_MAX - DATA_FIELD_BYTES), &mut out),
        Ok(())
    );
    let before = out.len();
    let over = encode(&sized(DATA_BYTES_MAX - DATA_FIELD_BYTES + 1), &mut out);
    assert!(matches!(over, Err(FrameError::TooLong { kind: 4, .. })));
    assert_eq!(out.len(), before);
}

#[test]
fn disordered_epoch_list_is_refused() {
    let mut frame = framed(&samples()[1]);
    let at = frame.len() - 16;
    frame[at..at + 8].copy_from_slice(&1_u64.to_be_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame[..8]), &frame[HEAD_BYTES..]);
    frame[8..HEAD_BYTES].copy_from_slice(&checksum.to_be_bytes());
    assert_eq!(decode(&mut frame), Err(FrameError::Payload { kind: 2 }));
}

#[test]
fn bytes_of_an_acknowledgement_are_these() {
    let frame = framed(&Message::Ack(Ack {
        epoch: Epoch(4),
        offset: PhysicalOffset(906),
    }));
    assert_eq!(frame[..8], [0, 0, 0, 16, 5, 0, 0, 0]);
    assert_eq!(
        frame[12..],
        [0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 3, 0x8a]
    );
}
