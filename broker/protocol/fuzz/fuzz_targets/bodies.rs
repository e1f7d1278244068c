//! Typed bodies: the first byte chooses the type; what is read is written and reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rocket_protocol::body::*;

macro_rules! body {
    ($data:expr, $type:ty) => {
        if let Ok(body) = <$type>::parse($data) {
            let again = <$type>::parse(&body.to_json()).expect("a body of ours");
            assert_eq!(again.to_json(), body.to_json());
        }
    };
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    match kind % 13 {
        0 => body!(data, HeartbeatData),
        1 => body!(data, RouteData),
        2 => body!(data, RegisterBrokerBody),
        3 => body!(data, LockBatchRequest),
        4 => body!(data, SubscriptionGroupConfig),
        5 => body!(data, TopicStats),
        6 => body!(data, ConsumeStats),
        7 => body!(data, ConsumerStatus),
        8 => body!(data, ConsumerOffsetTable),
        9 => body!(data, ResetOffset),
        10 => body!(data, BatchAck),
        11 => {
            if let Ok(body) = RegisterBrokerBody::parse_compressed(data, true) {
                RegisterBrokerBody::parse_compressed(&body.to_compressed(), true)
                    .expect("a body of ours");
            }
        }
        _ => {
            let _ = std::str::from_utf8(data).map(parse_properties);
        }
    }
});
