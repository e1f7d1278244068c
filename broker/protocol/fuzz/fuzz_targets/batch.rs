//! The body of a batch: what is taken whole is written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rocket_protocol::message::{BatchMessage, batch};

fuzz_target!(|data: &[u8]| {
    let views: Result<Vec<_>, _> = batch::views(data).collect();
    if let Ok(views) = views {
        let mut out = Vec::new();
        for view in &views {
            BatchMessage::from(*view).encode(&mut out);
        }
        assert_eq!(out.len(), data.len());
        let again: Vec<_> = batch::views(&out)
            .collect::<Result<_, _>>()
            .expect("a batch of ours");
        assert_eq!(again, views);
    }
});
