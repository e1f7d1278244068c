//! A stream of frames: whatever decodes is encoded and decodes to the same command.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use rocket_protocol::frame::{Limits, decode, encode};

fuzz_target!(|data: &[u8]| {
    let mut buffer = BytesMut::from(data);
    while let Ok(Some(command)) = decode(&mut buffer, &Limits::default()) {
        let mut out = BytesMut::new();
        encode(&command, &mut out);
        let again = decode(&mut out, &Limits::default())
            .expect("a frame of ours")
            .expect("a whole frame");
        // An unknown language has no name of its own in JSON, and a repeated field is one field in neither form's map.
        assert_eq!(
            (again.code, again.opaque, again.flag, again.version),
            (command.code, command.opaque, command.flag, command.version)
        );
        assert_eq!(again.body, command.body);
        for (key, _) in command.ext.iter() {
            assert_eq!(again.ext.get(key), command.ext.get(key));
        }
    }
});
