//! A send's header read in place and the long way: where the first says something, both say the same. The first byte chooses the
//! form of the header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rocket_protocol::RequestCode;
use rocket_protocol::frame::{Limits, view};
use rocket_protocol::header::{HeaderFields, SendMessageHeader, SendMessageV2Header};
use rocket_protocol::send::{Scratch, SendView};

fuzz_target!(|data: &[u8]| {
    let Some((&kind, header)) = data.split_first() else {
        return;
    };
    let len = u32::try_from(header.len()).unwrap();
    let mut frame = (len + 4).to_be_bytes().to_vec();
    frame.extend_from_slice(&(u32::from(kind % 2) << 24 | len).to_be_bytes());
    frame.extend_from_slice(header);
    let limits = Limits::default();
    let mut scratch = Scratch::default();
    let Ok(Some(whole)) = view(&frame, &limits) else {
        return;
    };
    if let Some(send) = SendView::read(&whole, &limits, &mut scratch) {
        let command = whole.to_command(&limits).expect("both take it");
        let header = match command.request_code() {
            RequestCode::SEND_MESSAGE => SendMessageHeader::read(&command.ext),
            _ => SendMessageV2Header::read(&command.ext).map(Into::into),
        };
        let header = header.expect("both take it");
        assert_eq!(send, SendView::of(&command, &header));
    }
});
