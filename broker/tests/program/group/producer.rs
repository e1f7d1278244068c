//! A producer that notes what it was told is kept, and the check that all of it is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rocket_protocol::body::RouteData;
use rocket_protocol::header::{GetRouteInfoHeader, SendMessageResponseHeader};
use rocket_protocol::{Command, RecordView, RequestCode, ResponseCode};
use rocket_remoting::{Client, ClientConfig, NoRequests};
use tokio::time::{interval, timeout};

use super::{Group, LOOK, PATIENCE};
use crate::messages::{ask, pull, send};

const ANSWER: Duration = Duration::from_secs(10);
pub(super) const TOPIC: &str = "T";

/// A producer that goes where the route says, and notes what it was told.
pub(crate) struct Producer {
    name_server: String,
    pub(super) client: Option<Client>,
    next: u64,
    /// Offset in queue 0 and number of each message that is kept.
    pub(crate) kept: BTreeMap<i64, u64>,
    /// What sends were answered that did not succeed.
    pub(super) refused: Vec<String>,
}

impl Producer {
    pub(crate) fn new(group: &Group) -> Self {
        Self {
            name_server: group.name_server.address("name server").to_owned(),
            client: None,
            next: 0,
            kept: BTreeMap::new(),
            refused: Vec::new(),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.client.as_ref().is_some_and(Client::is_open)
    }

    /// Sends one message over a connection, which is left when it is of no use any more. Whether it is kept.
    pub(super) async fn send_to(&mut self, address: &str) -> bool {
        if !self.is_connected() {
            let config = ClientConfig::default();
            self.client = Client::connect(address, config, Arc::new(NoRequests))
                .await
                .ok();
        }
        let Some(client) = &self.client else {
            return false;
        };
        let number = self.next;
        self.next += 1;
        let mut body = number.to_be_bytes().to_vec();
        body.resize(2_000, 7);
        let request = Command::request(RequestCode::SEND_MESSAGE)
            .with_header(&send(TOPIC))
            .with_body(body);
        match client.call(request, ANSWER).await {
            Ok(answer) if answer.response_code() == ResponseCode::SUCCESS => {
                let header: SendMessageResponseHeader = answer.header().unwrap();
                let before = self.kept.insert(header.queue_offset, number);
                assert_eq!(before, None, "two messages have one offset");
                true
            }
            answer => {
                self.refused.extend(
                    answer
                        .ok()
                        .map(|answer| format!("{:?} {:?}", answer.response_code(), answer.remark)),
                );
                self.client = None;
                false
            }
        }
    }

    /// Sends until one message is kept.
    pub(crate) async fn send(&mut self) {
        let sending = async {
            let mut ticks = interval(LOOK);
            loop {
                if let Some(address) = routed(&self.name_server.clone()).await
                    && self.send_to(&address).await
                {
                    return;
                }
                ticks.tick().await;
            }
        };
        timeout(PATIENCE, sending).await.expect("a message is kept");
    }

    /// Sends until so many more are kept.
    pub(crate) async fn send_many(&mut self, count: usize) {
        for _ in 0..count {
            self.send().await;
        }
    }

    /// Sends until `stop` says so.
    pub(crate) async fn run(mut self, stop: Arc<AtomicBool>) -> Self {
        while !stop.load(Ordering::Acquire) {
            self.send().await;
        }
        self
    }
}

/// Where the route of the topic says that the master is, or that of the topic by which others are made.
async fn routed(name_server: &str) -> Option<String> {
    for topic in [TOPIC, "TBW102"] {
        let wanted = GetRouteInfoHeader {
            topic: topic.into(),
            ..GetRouteInfoHeader::default()
        };
        let answer = ask(
            name_server,
            RequestCode::GET_ROUTEINFO_BY_TOPIC,
            &wanted,
            b"",
        )
        .await;
        if answer.response_code() == ResponseCode::SUCCESS {
            let route = RouteData::parse(&answer.body.contiguous()).unwrap();
            let group = route.broker_datas.first()?;
            assert!(group.broker_addrs.keys().all(|id| *id == 0), "{group:?}");
            return group.broker_addrs.get(&0).cloned();
        }
    }
    None
}

/// Every message of queue 0, by its offset.
pub(super) async fn consumed(broker: &str) -> BTreeMap<i64, u64> {
    let mut found = BTreeMap::new();
    let mut next = 0;
    loop {
        let wanted = pull(TOPIC, next, Duration::ZERO);
        let answer = ask(broker, RequestCode::PULL_MESSAGE, &wanted, b"").await;
        if answer.response_code() != ResponseCode::SUCCESS {
            assert_eq!(
                answer.response_code(),
                ResponseCode::PULL_NOT_FOUND,
                "{answer:?}"
            );
            return found;
        }
        let records = answer.body.contiguous();
        let mut rest = &records[..];
        while !rest.is_empty() {
            let (record, len) = RecordView::parse(rest).unwrap();
            let offset = record.queue_offset().to_wire();
            let number = u64::from_be_bytes(record.body()[..8].try_into().unwrap());
            assert_eq!(offset, next, "offsets are dense");
            found.insert(offset, number);
            next = offset + 1;
            rest = &rest[len..];
        }
    }
}

/// All that `producer` was told is kept is there, at its offset.
pub(crate) async fn check(group: &Group, producer: &Producer) {
    let master = group.master().await;
    let found = consumed(group.replica(master).address("broker")).await;
    for (offset, number) in &producer.kept {
        assert_eq!(found.get(offset), Some(number), "at offset {offset}");
    }
}
