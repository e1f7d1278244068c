//! Records back to back, as a consumer gets them.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rocket_protocol::{Message, RecordView, TopicName};

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Ok((view, len)) = RecordView::parse_trusting(rest) {
        assert_eq!(view.len(), len);
        let _ = (RecordView::parse(rest), view.property("TAGS"));
        if let Ok(topic) = TopicName::parse(view.topic()) {
            let message = Message {
                topic,
                queue_id: view.queue_id(),
                flag: view.flag(),
                sys_flag: view.sys_flag(),
                born_timestamp: view.born_timestamp(),
                born_host: view.born_host(),
                store_host: view.store_host(),
                reconsume_times: view.reconsume_times(),
                prepared_transaction_offset: view.prepared_transaction_offset(),
                body: Bytes::copy_from_slice(view.body()),
                body_crc: view.body_crc(),
                properties: Bytes::copy_from_slice(view.properties()),
            };
            let mut out = Vec::new();
            message.encode(
                view.queue_offset(),
                view.physical_offset(),
                view.store_timestamp(),
                &mut out,
            );
            // A short topic may have come in the second version.
            let (again, _) = RecordView::parse_trusting(&out).expect("a record of ours");
            assert_eq!(
                (again.topic(), again.body(), again.properties()),
                (view.topic(), view.body(), view.properties())
            );
        }
        rest = &rest[len..];
    }
});
