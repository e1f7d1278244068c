//! Entries of the fuzzer: every decoder of this crate on bytes that anybody may have sent. A finding is a panic.
//!
//! `broker/fuzz` runs them; the tests here run the corpora that it left behind. Not in any program: only tests and the
//! fuzzer's own build (`--cfg fuzzing`) have this module.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_imports,
    clippy::missing_panics_doc,
    reason = "a finding is a panic"
)]

/// Name and entry of a target.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[
    ("frame", frame),
    ("json_header", json_header),
    ("send_view", send_view),
    ("record", record),
    ("batch", batch),
    ("properties", properties),
    ("message_id", message_id),
    ("json", json),
    ("bodies", bodies),
    ("headers", headers),
    ("names", names),
];

/// A stream of frames: whatever decodes is encoded and decodes to the same command.
fn frame(data: &[u8]) {
    use crate::frame::{Limits, decode, encode};
    use bytes::BytesMut;

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
}

/// A JSON header without its frame's words in the way, so that the scanner and the full parser are reached at once.
fn json_header(data: &[u8]) {
    use crate::frame::{Limits, decode};
    use bytes::{BufMut, BytesMut};

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
}

/// A send's header read in place and the long way: where the first says something, both say the same. The first byte chooses the
/// form of the header.
fn send_view(data: &[u8]) {
    use crate::RequestCode;
    use crate::frame::{Limits, view};
    use crate::header::{HeaderFields, SendMessageHeader, SendMessageV2Header};
    use crate::send::{Scratch, SendView};

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
}

/// Records back to back, as a consumer gets them.
fn record(data: &[u8]) {
    use crate::{Message, RecordView, TopicName};
    use bytes::Bytes;

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
}

/// The body of a batch: what is taken whole is written again.
fn batch(data: &[u8]) {
    use crate::message::{BatchMessage, batch};

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
}

/// A properties string: the scan and the full parse find the same.
fn properties(data: &[u8]) {
    use crate::message::properties::{Properties, pairs, scan};
    use bytes::Bytes;

    let source = Bytes::copy_from_slice(data);
    let parsed = Properties::parse(&source);
    let written = parsed.to_bytes();
    for (name, value) in parsed.iter() {
        assert_eq!(scan(&written, name), Some(value));
    }
    for (name, _) in pairs(data) {
        assert!(parsed.get(name).is_some());
    }
    assert_eq!(Properties::parse(&written), parsed);
}

/// Message ids: what is read prints the same, but for the case of its digits.
fn message_id(data: &[u8]) {
    use crate::message::{OffsetMessageId, UniqueKey};

    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(id) = text.parse::<OffsetMessageId>() {
        assert!(id.to_string().eq_ignore_ascii_case(text));
    }
    if let Ok(key) = text.parse::<UniqueKey>() {
        assert!(key.to_string().eq_ignore_ascii_case(text));
    }
}

/// fastjson's dialect: what is taken is JSON afterwards, and stays the same when it is taken again.
fn json(data: &[u8]) {
    use crate::json;

    if let Ok(value) = json::parse(data) {
        let again = json::parse(&json::to_json(&value)).expect("JSON of ours");
        assert!(is_same(&value, &again), "{value} {again}");
    }
}

fn is_same(one: &serde_json::Value, other: &serde_json::Value) -> bool {
    match (one, other) {
        // The parser's last digit of a fraction is not exact, and nothing here needs it to be.
        (serde_json::Value::Number(one), serde_json::Value::Number(other)) => {
            one.is_f64() && other.is_f64() || one == other
        }
        (serde_json::Value::Array(one), serde_json::Value::Array(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| is_same(one, other))
        }
        (serde_json::Value::Object(one), serde_json::Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| one.0 == other.0 && is_same(one.1, other.1))
        }
        _ => one == other,
    }
}

/// Typed bodies: the first byte chooses the type; what is read is written and reads the same.
fn bodies(data: &[u8]) {
    use crate::body::*;

    macro_rules! body {
        ($data:expr, $type:ty) => {
            if let Ok(body) = <$type>::parse($data) {
                let again = <$type>::parse(&body.to_json()).expect("a body of ours");
                assert_eq!(again.to_json(), body.to_json());
            }
        };
    }

    // The last digit of a fraction is not exact, and nothing needs it to be.
    macro_rules! fractions {
        ($data:expr, $type:ty) => {
            if let Ok(body) = <$type>::parse($data) {
                <$type>::parse(&body.to_json()).expect("a body of ours");
            }
        };
    }

    let Some((kind, data)) = data.split_first() else {
        return;
    };
    match kind % 15 {
        0 => body!(data, HeartbeatData),
        1 => body!(data, RouteData),
        2 => body!(data, RegisterBrokerBody),
        3 => body!(data, LockBatchRequest),
        4 => body!(data, SubscriptionGroupConfig),
        5 => fractions!(data, TopicStats),
        6 => fractions!(data, ConsumeStats),
        7 => body!(data, ConsumerStatus),
        8 => body!(data, ConsumerOffsetTable),
        9 => body!(data, ResetOffset),
        10 => body!(data, BatchAck),
        12 => body!(data, TopicConfigTable),
        13 => body!(data, SubscriptionGroupTable),
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
}

/// The typed headers: the first byte chooses one, and its fields get the texts that follow, each ended by a zero byte.
fn headers(data: &[u8]) {
    use crate::header::*;

    fn read<T: crate::HeaderFields + Default>(data: &[u8]) {
        use crate::{ByteStr, ExtFields};
        let mut names = ExtFields::default();
        T::default().write(&mut names);
        let mut ext = ExtFields::default();
        for ((name, _), text) in names.iter().zip(data.split(|&byte| byte == 0)) {
            let text = String::from_utf8_lossy(text).into_owned();
            ext.insert(ByteStr::from(name.to_owned()), ByteStr::from(text));
        }
        if let Ok(header) = T::read(&ext) {
            let mut out = ExtFields::default();
            header.write(&mut out);
            T::read(&out).expect("a header of ours");
        }
    }

    const ALL: &[fn(&[u8])] = &[
        read::<CreateTopicHeader>,
        read::<GetAllTopicConfigHeader>,
        read::<GetAllTopicConfigResponseHeader>,
        read::<GetAllSubscriptionGroupHeader>,
        read::<GetAllSubscriptionGroupResponseHeader>,
        read::<GroupHeader>,
        read::<DeleteSubscriptionGroupHeader>,
        read::<GetBrokerConfigResponseHeader>,
        read::<GetConsumeStatsHeader>,
        read::<ProducerGroupHeader>,
        read::<GroupTopicHeader>,
        read::<CloneGroupOffsetHeader>,
        read::<ViewBrokerStatsHeader>,
        read::<GetBrokerConsumeStatsHeader>,
        read::<UserHeader>,
        read::<ListUsersHeader>,
        read::<AclHeader>,
        read::<ListAclsHeader>,
        read::<ResetMasterFlushOffsetHeader>,
        read::<HeartbeatResponseHeader>,
        read::<UnregisterClientHeader>,
        read::<ResetOffsetHeader>,
        read::<GetConsumerStatusHeader>,
        read::<GetConsumerRunningInfoHeader>,
        read::<ConsumeMessageDirectlyHeader>,
        read::<PullMessageHeader>,
        read::<PullMessageResponseHeader>,
        read::<QueryConsumerOffsetHeader>,
        read::<UpdateConsumerOffsetHeader>,
        read::<SearchOffsetHeader>,
        read::<GetMaxOffsetHeader>,
        read::<GetMinOffsetHeader>,
        read::<GetEarliestMsgStoretimeHeader>,
        read::<OffsetResponseHeader>,
        read::<TimestampResponseHeader>,
        read::<ViewMessageHeader>,
        read::<QueryMessageHeader>,
        read::<QueryMessageResponseHeader>,
        read::<ConsumerGroupHeader>,
        read::<GetRouteInfoHeader>,
        read::<RegisterBrokerHeader>,
        read::<RegisterBrokerResponseHeader>,
        read::<BrokerIdentityHeader>,
        read::<QueryDataVersionResponseHeader>,
        read::<BrokerHeartbeatHeader>,
        read::<GetTopicsByClusterHeader>,
        read::<DeleteTopicFromNamesrvHeader>,
        read::<TopicHeader>,
        read::<PutKvConfigHeader>,
        read::<KvKeyHeader>,
        read::<GetKvConfigResponseHeader>,
        read::<NamespaceHeader>,
        read::<BrokerNameHeader>,
        read::<WipeWritePermResponseHeader>,
        read::<AddWritePermResponseHeader>,
        read::<GetBrokerMemberGroupHeader>,
        read::<PopMessageHeader>,
        read::<PopMessageResponseHeader>,
        read::<AckMessageHeader>,
        read::<ChangeInvisibleTimeHeader>,
        read::<ChangeInvisibleTimeResponseHeader>,
        read::<PeekMessageHeader>,
        read::<NotificationHeader>,
        read::<NotificationResponseHeader>,
        read::<PollingInfoHeader>,
        read::<PollingInfoResponseHeader>,
        read::<ExchangeHaInfoHeader>,
        read::<NotifyMinBrokerIdChangeHeader>,
        read::<NotifyBrokerRoleChangedHeader>,
        read::<SendMessageResponseHeader>,
        read::<ConsumerSendMsgBackHeader>,
        read::<EndTransactionHeader>,
        read::<CheckTransactionStateHeader>,
        read::<ReplyMessageHeader>,
        read::<RecallMessageHeader>,
        read::<RecallMessageResponseHeader>,
    ];
    if let Some((kind, data)) = data.split_first() {
        ALL[usize::from(*kind) % ALL.len()](data);
    }
}

/// Names of topics and groups, and what is derived from them.
fn names(data: &[u8]) {
    use crate::{GroupName, TopicName};
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(topic) = TopicName::parse(text) {
        assert_eq!(topic.as_str(), text);
        let _ = (topic.is_system(), topic.is_closed_for_send());
        if let Some(group) = topic.retry_group() {
            assert_eq!(TopicName::retry_topic(&group), topic);
        }
    }
    if let Ok(group) = GroupName::parse(text) {
        for topic in [TopicName::retry_topic(&group), TopicName::dlq_topic(&group)] {
            TopicName::parse(topic.as_str()).expect("a name of ours");
        }
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
