//! Messages through the whole program: a route, a send, a pull, a restart.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rocket_protocol::body::RouteData;
use rocket_protocol::header::{
    GetRouteInfoHeader, OffsetResponseHeader, PullMessageHeader, QueryConsumerOffsetHeader,
    SendMessageHeader, SendMessageResponseHeader,
};
use rocket_protocol::{Command, HeaderFields, RecordView, RequestCode, ResponseCode};
use rocket_remoting::{Client, ClientConfig, NoRequests};
use rustix::process::Signal;

use crate::process::Running;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn ask(
    address: &str,
    code: RequestCode,
    header: &impl HeaderFields,
    body: &'static [u8],
) -> Command {
    let client = Client::connect(address, ClientConfig::default(), Arc::new(NoRequests))
        .await
        .unwrap();
    let request = Command::request(code)
        .with_header(header)
        .with_body(body.to_vec());
    let answer = client.call(request, PATIENCE).await.unwrap();
    client.close().await;
    answer
}

pub(crate) fn send(topic: &'static str) -> SendMessageHeader {
    SendMessageHeader {
        producer_group: "producers".into(),
        topic: topic.into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 1,
        born_timestamp: 1,
        ..SendMessageHeader::default()
    }
}

/// `suspend`: wait at the broker until a message comes.
pub(crate) fn pull(topic: &'static str, offset: i64, suspend: Duration) -> PullMessageHeader {
    const SUSPEND: i32 = 2;
    const SUBSCRIPTION: i32 = 4;
    PullMessageHeader {
        consumer_group: "consumers".into(),
        topic: topic.into(),
        queue_offset: offset,
        max_msg_nums: 32,
        sys_flag: SUBSCRIPTION | if suspend.is_zero() { 0 } else { SUSPEND },
        suspend_timeout_millis: i64::try_from(suspend.as_millis()).unwrap(),
        subscription: Some("*".into()),
        ..PullMessageHeader::default()
    }
}

pub(crate) async fn pulled_body(broker: &str, offset: i64) -> Vec<u8> {
    let answer = ask(
        broker,
        RequestCode::PULL_MESSAGE,
        &pull("T", offset, Duration::ZERO),
        b"",
    )
    .await;
    assert_eq!(
        answer.response_code(),
        ResponseCode::SUCCESS,
        "{:?}",
        answer.remark
    );
    let records = answer.body.contiguous();
    let (record, _) = RecordView::parse(&records).unwrap();
    record.body().to_vec()
}

#[tokio::test]
async fn a_message_is_routed_stored_given_and_still_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Running::standalone(folder.path(), &["--set", "flushDiskType=SYNC_FLUSH"]);
    let broker = process.address("broker").to_owned();
    let sent = ask(&broker, RequestCode::SEND_MESSAGE, &send("T"), b"hello").await;
    assert_eq!(
        sent.response_code(),
        ResponseCode::SUCCESS,
        "{:?}",
        sent.remark
    );
    assert_eq!(
        sent.header::<SendMessageResponseHeader>()
            .unwrap()
            .queue_offset,
        0
    );

    let wanted = GetRouteInfoHeader {
        topic: "T".into(),
        ..GetRouteInfoHeader::default()
    };
    let namesrv = process.address("name server").to_owned();
    let routed = async {
        loop {
            let answer = ask(&namesrv, RequestCode::GET_ROUTEINFO_BY_TOPIC, &wanted, b"").await;
            if answer.response_code() == ResponseCode::SUCCESS {
                return RouteData::parse(&answer.body.contiguous()).unwrap();
            }
        }
    };
    let route = tokio::time::timeout(PATIENCE, routed)
        .await
        .expect("a created topic reaches the name server at once");
    assert_eq!(route.broker_datas[0].broker_addrs[&0], broker);

    assert_eq!(pulled_body(&broker, 0).await, b"hello");
    let metrics = process.http("/metrics").1;
    let counted = metrics.lines().find(|line| {
        line.starts_with("rocketmq_messages_in_total{") && line.contains("topic=\"T\"")
    });
    assert!(
        counted.is_some_and(|line| line.ends_with("} 1")),
        "{counted:?}"
    );

    process.signal(Signal::TERM);
    assert_eq!(process.exit_status(), Some(0));
    let again = Running::standalone(folder.path(), &[]);
    assert_eq!(pulled_body(again.address("broker"), 0).await, b"hello");
}

/// As after a loss of power with ASYNC_FLUSH: the end of the log is gone, and the file of positions is not.
#[tokio::test]
async fn position_that_outlived_its_messages_hides_no_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let sends = async |process: &Running, count: usize| {
        for _ in 0..count {
            let broker = process.address("broker");
            let sent = ask(broker, RequestCode::SEND_MESSAGE, &send("T"), b"x").await;
            assert_eq!(sent.response_code(), ResponseCode::SUCCESS);
        }
    };
    let position = async |process: &Running| {
        let header = QueryConsumerOffsetHeader {
            consumer_group: "consumers".into(),
            topic: "T".into(),
            ..QueryConsumerOffsetHeader::default()
        };
        let broker = process.address("broker");
        let answer = ask(broker, RequestCode::QUERY_CONSUMER_OFFSET, &header, b"").await;
        answer.header::<OffsetResponseHeader>().unwrap().offset
    };
    let mut process = Running::standalone(folder.path(), &[]);
    sends(&process, 5).await;
    process.signal(Signal::TERM);
    assert_eq!(process.exit_status(), Some(0));
    let file = folder.path().join("config/consumerOffset.json");
    std::fs::write(file, r#"{"offsetTable":{"T@consumers":{0:10}}}"#).unwrap();
    let process = Running::standalone(folder.path(), &[]);
    sends(&process, 10).await;
    assert_eq!(position(&process).await, 5);
    // Nor does the next start after a kill believe the former file.
    drop(process);
    let process = Running::standalone(folder.path(), &[]);
    assert_eq!(position(&process).await, 5);
}

#[tokio::test]
async fn a_pull_that_waits_is_answered_when_the_broker_stops_and_does_not_hold_it_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Running::standalone(folder.path(), &[]);
    let broker = process.address("broker").to_owned();
    ask(&broker, RequestCode::SEND_MESSAGE, &send("T"), b"one").await;
    pulled_body(&broker, 0).await;
    let client = Client::connect(&broker, ClientConfig::default(), Arc::new(NoRequests))
        .await
        .unwrap();
    let hold = Duration::from_mins(1);
    let waiting = Command::request(RequestCode::PULL_MESSAGE).with_header(&pull("T", 1, hold));
    let stopping = async {
        // The pull is parked once the broker says that one waits.
        while !process.http("/metrics").1.lines().any(|line| {
            line.starts_with("rocketmq_processor_watermark{")
                && line.contains("\"pull\"")
                && line.ends_with("} 1")
        }) {
            tokio::task::yield_now().await;
        }
        process.signal(Signal::TERM);
    };
    let begun = Instant::now();
    let (answer, ()) = tokio::join!(client.call(waiting, hold), stopping);
    assert_eq!(
        answer.unwrap().response_code(),
        ResponseCode::PULL_NOT_FOUND
    );
    assert_eq!(process.exit_status(), Some(0));
    assert!(begun.elapsed() < hold / 2);
}

#[tokio::test]
async fn a_standby_and_a_group_with_too_few_replicas_take_nothing() {
    let cases: [(&[&str], &str); 2] = [
        (
            &["--set", "replicaName=c-0-1", "--set", "fixedMaster=c-0-0"],
            "this broker is a standby of broker-a; its master is c-0-0",
        ),
        (
            &[
                "--set",
                "replicationMode=SYNC",
                "--set",
                "minInSyncReplicas=2",
            ],
            "",
        ),
    ];
    for (flags, remark) in cases {
        let folder = tempfile::tempdir().unwrap();
        let process = Running::standalone(folder.path(), flags);
        let address: SocketAddr = process.address("broker").parse().unwrap();
        let answer = ask(
            &address.to_string(),
            RequestCode::SEND_MESSAGE,
            &send("T"),
            b"x",
        )
        .await;
        assert_ne!(answer.response_code(), ResponseCode::SUCCESS);
        assert!(
            answer
                .remark
                .as_deref()
                .unwrap_or_default()
                .contains(remark),
            "{:?}",
            answer.remark
        );
    }
}
