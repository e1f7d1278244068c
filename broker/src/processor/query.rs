//! Single messages: by offset id (33) and by key (12) (`QueryMessageProcessor`).

use bytes::Bytes;
use rocket_protocol::header::{QueryMessageHeader, QueryMessageResponseHeader, ViewMessageHeader};
use rocket_protocol::{Command, PhysicalOffset, ResponseCode, UnixMillis};

use super::BrokerProcessor;
use super::refusal::{Answer, Refusal, topic_name};

/// Messages that a query by unique key answers at most (`defaultQueryMaxNum`).
const UNIQUE_KEY_MESSAGES_MAX: usize = 32;
/// Bytes of records that one query answers at most; the oldest beyond are left out, as the frame bound would cut them off.
const QUERY_BYTES_MAX: usize = 8 << 20;

impl BrokerProcessor {
    pub(super) fn view_message(&self, request: &Command) -> Answer {
        let header: ViewMessageHeader = request.header()?;
        let record = PhysicalOffset::from_wire(header.offset)
            .and_then(|offset| self.deps.store.record_at(offset));
        record
            .map(|record| Command::response(ResponseCode::SUCCESS).with_body(record))
            .ok_or_else(|| {
                Refusal::system_error(format!(
                    "can not find message by the offset, {}",
                    header.offset
                ))
            })
    }

    pub(super) fn query_message(&self, request: &Command) -> Answer {
        let header: QueryMessageHeader = request.header()?;
        let topic = topic_name(&header.topic)?;
        let configured =
            usize::try_from(self.deps.config.load().max_msgs_num_batch).unwrap_or(usize::MAX);
        let max = if header.unique_key_query {
            UNIQUE_KEY_MESSAGES_MAX
        } else {
            usize::try_from(header.max_num).unwrap_or(0).min(configured)
        };
        let result = self.deps.store.query(
            &topic,
            &header.key,
            max,
            UnixMillis(header.begin_timestamp),
            UnixMillis(header.end_timestamp),
        );
        let header = QueryMessageResponseHeader {
            index_last_update_timestamp: result.index_last_update_timestamp.0,
            index_last_update_phyoffset: result.index_last_update_phyoffset.to_wire(),
        };
        let mut bytes = 0;
        let records: Vec<Bytes> = result
            .records
            .into_iter()
            .take_while(|record| {
                bytes += record.len();
                bytes <= QUERY_BYTES_MAX
            })
            .collect();
        if records.is_empty() {
            return Ok(Command::response(ResponseCode::QUERY_NOT_FOUND)
                .with_header(&header)
                .with_remark("can not find message, maybe time range not correct"));
        }
        Ok(Command::response(ResponseCode::SUCCESS)
            .with_header(&header)
            .with_body(records))
    }
}
