//! The body of a batch: what is taken whole is written again.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rocket_protocol::message::batch;

fuzz_target!(|data: &[u8]| {
    let messages: Result<Vec<_>, _> = batch::messages(Bytes::copy_from_slice(data)).collect();
    if let Ok(messages) = messages {
        let mut out = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut out));
        assert_eq!(out.len(), data.len());
        let again: Vec<_> = batch::messages(out.into())
            .collect::<Result<_, _>>()
            .expect("a batch of ours");
        assert_eq!(again, messages);
    }
});
