//! How often a pull takes memory: a few times for a whole answer, however many messages are in it.

use rocket_protocol::HeaderFormat;

use super::sends::{Client, against_a_broker, batch_request, calls};
use super::*;

/// Messages of one batch, and of one pull.
const MESSAGES: usize = 32;
/// Pulls that are on their way at a time on one connection.
const IN_FLIGHT: usize = 8;
/// Times that memory may be taken for one pull.
const CALLS_MAX: u64 = 12;

fn pull(format: HeaderFormat, sys_flag: i32, number: usize) -> Command {
    let header = PullMessageHeader {
        consumer_group: "a-consumer-group".into(),
        topic: "T".into(),
        queue_offset: i64::try_from(number * MESSAGES).unwrap(),
        max_msg_nums: i32::try_from(MESSAGES).unwrap(),
        sys_flag,
        suspend_timeout_millis: 15_000,
        subscription: (sys_flag & 4 != 0).then(|| "*".into()),
        expression_type: Some("TAG".into()),
        ..PullMessageHeader::default()
    };
    let mut request = Command::request(RequestCode::PULL_MESSAGE).with_header(&header);
    request.format = format;
    request
}

#[test]
fn a_pull_takes_memory_a_few_times() {
    against_a_broker(|address, _| {
        let mut sender = Client::new(address, &[batch_request(MESSAGES, 1000)]);
        (0..IN_FLIGHT).for_each(|_| sender.round());
        for format in [HeaderFormat::Json, HeaderFormat::Compact] {
            let requests: Vec<_> = (0..IN_FLIGHT)
                .map(|number| pull(format, 4, number))
                .collect();
            let rounds = 200;
            let calls = calls(&mut Client::new(address, &requests), rounds);
            let pulls = u64::try_from(rounds * IN_FLIGHT).unwrap();
            println!(
                "{format:?}: memory taken {} times for a pull",
                calls / pulls
            );
            assert!(
                calls <= pulls * CALLS_MAX,
                "{format:?}: memory taken {calls} times for {pulls} pulls"
            );
        }
    });
}
