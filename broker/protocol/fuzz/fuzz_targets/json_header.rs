//! A JSON header without its frame's words in the way, so that the scanner and the full parser are reached at once.
#![no_main]

use bytes::{BufMut, BytesMut};
use libfuzzer_sys::fuzz_target;
use rocket_protocol::frame::{Limits, decode};

fuzz_target!(|data: &[u8]| {
    let mut buffer = BytesMut::new();
    buffer.put_u32(u32::try_from(data.len() + 4).unwrap());
    buffer.put_u32(u32::try_from(data.len()).unwrap());
    buffer.put_slice(data);
    let scanned = decode(&mut buffer, &Limits::default());
    // An unknown member makes the scanner leave the header to the full parser: both have to say the same.
    let Some(rest) = data.strip_prefix(b"{") else {
        return;
    };
    if let Ok(Some(command)) = scanned {
        let comma: &[u8] = if rest.trim_ascii_start().starts_with(b"}") {
            b""
        } else {
            b","
        };
        let header = [b"{\"unknown\":0", comma, rest].concat();
        let mut buffer = BytesMut::new();
        buffer.put_u32(u32::try_from(header.len() + 4).unwrap());
        buffer.put_u32(u32::try_from(header.len()).unwrap());
        buffer.put_slice(&header);
        let parsed = decode(&mut buffer, &Limits::default())
            .expect("the full parser agrees")
            .expect("a whole frame");
        assert_eq!(
            (parsed.code, parsed.opaque, parsed.flag),
            (command.code, command.opaque, command.flag)
        );
        for (key, _) in command.ext.iter() {
            assert_eq!(parsed.ext.get(key), command.ext.get(key));
        }
    }
});
