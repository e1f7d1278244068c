//! Requests of administrators that a client has to answer: 307 and 309.

use std::sync::Arc;
use std::time::Duration;

use rocket_protocol::header::{ConsumeMessageDirectlyHeader, GetConsumerRunningInfoHeader};
use rocket_protocol::message::OffsetMessageId;
use rocket_protocol::{Command, RequestCode, ResponseCode};
use rocket_remoting::{CallError, Connection, Reply};

use super::BrokerProcessor;
use super::refusal::Refusal;

/// Requests that may wait for clients at a time.
pub(super) const CONCURRENT_MAX: usize = 64;
/// How long a client may take (`Broker2Client.callClient`).
const PATIENCE: Duration = Duration::from_secs(10);

impl BrokerProcessor {
    /// Passes the request on and the client's answer back.
    pub(super) fn forward(&self, request: Command, reply: Reply) {
        let (client, request, who) = match self.prepare_forward(request) {
            Ok(prepared) => prepared,
            Err(refusal) => {
                reply.send(refusal.into_command());
                return;
            }
        };
        let Ok(permit) = Arc::clone(&self.forwards).try_acquire_owned() else {
            let busy = Refusal::new(
                ResponseCode::SYSTEM_BUSY,
                "[OVERLOAD]system busy, start flow control for a while",
            );
            reply.send(busy.into_command());
            return;
        };
        self.tasks.spawn(async move {
            let response = match client.call(request, PATIENCE).await {
                Ok(response) => response,
                Err(error) => call_failed(&who, &error).into_command(),
            };
            reply.send(response);
            drop(permit);
        });
    }

    fn prepare_forward(
        &self,
        mut request: Command,
    ) -> Result<(Connection, Command, String), Refusal> {
        let code = request.request_code();
        let (group, client_id) = if code == RequestCode::CONSUME_MESSAGE_DIRECTLY {
            let header: ConsumeMessageDirectlyHeader = request.header()?;
            self.attach_message(&mut request, &header)?;
            (header.consumer_group, header.client_id.unwrap_or_default())
        } else {
            let header: GetConsumerRunningInfoHeader = request.header()?;
            (header.consumer_group, header.client_id)
        };
        let who = format!("<{group}> <{client_id}>");
        let consumers = self.deps.clients.consumers.read();
        let member = consumers.group(&group).and_then(|group| {
            group
                .members()
                .find(|member| *member.client_id == *client_id)
        });
        let member = member
            .ok_or_else(|| Refusal::system_error(format!("The Consumer {who} not online")))?;
        let mut forwarded = Command::request(code).with_body(request.body);
        forwarded.ext = request.ext;
        Ok((member.channel.clone(), forwarded, who))
    }

    /// The client gets the message itself, not its id.
    fn attach_message(
        &self,
        request: &mut Command,
        header: &ConsumeMessageDirectlyHeader,
    ) -> Result<(), Refusal> {
        let id: OffsetMessageId = header
            .msg_id
            .as_deref()
            .unwrap_or_default()
            .parse()
            .map_err(|error| Refusal::system_error(format!("decode message id failed: {error}")))?;
        let read = self.reading(|| self.deps.store.record_at(id.offset))?;
        let record = read.ok_or_else(|| {
            Refusal::system_error(format!("can not find message by the offset, {}", id.offset))
        })?;
        request.body = record.into();
        let ext = &mut request.ext;
        ext.insert("brokerName", self.deps.identity.broker_name.clone());
        let topic = header.topic.as_deref().unwrap_or_default();
        if let Some(topic) = self.deps.metadata.topics.get(topic) {
            ext.insert_display("topicSysFlag", topic.topic_sys_flag);
        }
        if let Some(group) = self.deps.metadata.groups.get(&header.consumer_group) {
            ext.insert_display("groupSysFlag", group.group_sys_flag);
        }
        Ok(())
    }
}

fn call_failed(who: &str, error: &CallError) -> Refusal {
    match error {
        CallError::Timeout(_) => Refusal::new(
            ResponseCode::CONSUME_MSG_TIMEOUT,
            format!("consumer {who} Timeout: {error}"),
        ),
        _ => Refusal::system_error(format!("invoke consumer {who} Exception: {error}")),
    }
}
