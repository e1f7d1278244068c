//! Membership of clients: 34, 35, 38, 41, 42, 46, 203, 204, 328 (`ClientManageProcessor`).

use std::collections::BTreeMap;
use std::sync::Arc;

use rocket_filter::{EXPRESSION_BYTES_MAX, FilterError, TAGS_MAX, is_tag_type};
use rocket_protocol::body::{
    CheckClientConfig, ClientConnection, ConsumerConnection, ConsumerData, ConsumerList,
    HeartbeatData, LockBatchRequest, LockBatchResponse, MessageQueue, ProducerConnection,
    ProducerInfo, ProducerTable, SubscriptionData,
};
use rocket_protocol::header::{ConsumerGroupHeader, ProducerGroupHeader, UnregisterClientHeader};
use rocket_protocol::{Command, GroupName, QueueId, ResponseCode, TopicName};
use rocket_remoting::Connection;

use super::BrokerProcessor;
use super::refusal::{Answer, Refusal, group_name, no_filter, success};
use crate::clients::Member;
use crate::clients::grace::GRACE_MS;

/// Bytes of the name that a client gives itself. Clients make it of address, process and a number.
const CLIENT_ID_BYTES_MAX: usize = 1024;
/// Groups of one heartbeat, and topics of one of its groups.
const HEARTBEAT_GROUPS_MAX: usize = 4096;
const SUBSCRIPTIONS_MAX: usize = 4096;
/// Queues of one request to lock or to unlock.
const LOCKED_QUEUES_MAX: usize = 65_536;

fn too_many(what: &str, max: usize) -> Refusal {
    Refusal::new(
        ResponseCode::INVALID_PARAMETER,
        format!("more than {max} {what}"),
    )
}

fn check_client_id(id: &str) -> Result<Arc<str>, Refusal> {
    if id.len() > CLIENT_ID_BYTES_MAX {
        return Err(too_many("bytes of client id", CLIENT_ID_BYTES_MAX));
    }
    Ok(id.into())
}

fn check_groups(data: &HeartbeatData) -> Result<(), Refusal> {
    let consumers = &data.consumer_data_set;
    if consumers.len() + data.producer_data_set.len() > HEARTBEAT_GROUPS_MAX {
        return Err(too_many("groups in a heartbeat", HEARTBEAT_GROUPS_MAX));
    }
    Ok(())
}

fn check_subscriptions(consumer: &ConsumerData) -> Result<(), Refusal> {
    let subscriptions = &consumer.subscription_data_set;
    if subscriptions.len() > SUBSCRIPTIONS_MAX {
        return Err(too_many("subscriptions of a group", SUBSCRIPTIONS_MAX));
    }
    if !subscriptions.iter().all(is_kept) {
        return Err(Refusal::new(
            ResponseCode::INVALID_PARAMETER,
            FilterError::TooLong.to_string(),
        ));
    }
    Ok(())
}

/// Whether a subscription is short enough to be kept with its texts, of which tools are told.
fn is_kept(data: &SubscriptionData) -> bool {
    let tags: usize = data.tags_set.iter().map(String::len).sum();
    data.sub_string.len() <= EXPRESSION_BYTES_MAX
        && data.expression_type.len() <= EXPRESSION_BYTES_MAX
        && tags <= EXPRESSION_BYTES_MAX
        && data.tags_set.len().max(data.code_set.len()) <= TAGS_MAX
}

impl BrokerProcessor {
    /// Heartbeats of the second form are not offered: without IS_SUPPORT_HEART_BEAT_V2 clients always send in full.
    ///
    /// One group that cannot be made does not keep the client out of its others, and is told in the end. Nothing more is made then, though:
    /// each try may wait for a disk or for other replicas.
    pub(super) fn heartbeat(&self, connection: &Connection, request: &Command) -> Answer {
        let data = HeartbeatData::parse(&request.body.contiguous())?;
        check_groups(&data)?;
        let member = Member {
            channel: connection.clone(),
            client_id: check_client_id(&data.client_id)?,
            language: request.language,
            version: request.version,
            last_seen: self.now(),
        };
        let (mut refused, mut may_have_waited) = (None, false);
        for consumer in &data.consumer_data_set {
            if let Err(refusal) = check_subscriptions(consumer) {
                refused.get_or_insert(refusal);
                continue;
            }
            if may_have_waited && !self.is_made(consumer) {
                continue;
            }
            if let Err(refusal) = self.consumer_heartbeat(&member, consumer) {
                may_have_waited = true;
                refused.get_or_insert(refusal);
            }
        }
        for producer in &data.producer_data_set {
            match group_name(&producer.group_name) {
                Ok(group) => self.deps.clients.producers.write().heartbeat(
                    &group,
                    connection.id().0,
                    member.clone(),
                ),
                Err(refusal) => {
                    refused.get_or_insert(refusal);
                }
            }
        }
        refused.map_or_else(success, Err)
    }

    /// Whether a heartbeat makes nothing new for this group.
    fn is_made(&self, data: &ConsumerData) -> bool {
        let metadata = &self.deps.metadata;
        let retry = |group| {
            metadata
                .topics
                .contains(TopicName::retry_topic(&group).as_str())
        };
        metadata.groups.contains(&data.group_name) && group_name(&data.group_name).is_ok_and(retry)
    }

    fn consumer_heartbeat(
        &self,
        member: &Member<Connection>,
        data: &ConsumerData,
    ) -> Result<(), Refusal> {
        let config = self.deps.config.load();
        // As in RocketMQ a group that may not be made is passed over; its pulls are refused.
        let group_config = match self.group_of(&data.group_name, &config) {
            Ok(Some(group_config)) => group_config,
            Ok(None) => return Ok(()),
            Err(refusal) if refusal.code == ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST => {
                return Ok(());
            }
            Err(refusal) => return Err(refusal),
        };
        let group = group_name(&data.group_name)?;
        let is_ordered = data.subscription_data_set.iter().any(|subscription| {
            let topic = self.deps.metadata.topics.get(&subscription.topic);
            topic.is_some_and(|topic| topic.order)
        });
        let sys_flag = if data.unit_mode { 2 } else { 0 };
        self.internal_topic(
            &TopicName::retry_topic(&group),
            group_config.retry_queue_nums,
            sys_flag,
            is_ordered,
        )?;
        let channel_id = member.channel.id().0;
        let notice = {
            let mut consumers = self.deps.clients.consumers.write();
            let has_room = consumers.check_room(&group, channel_id, member, data);
            has_room.map_err(|full| {
                Refusal::new(ResponseCode::SYSTEM_BUSY, format!("[REJECTREQUEST]{full}"))
            })?;
            consumers.heartbeat(self.now(), &group, channel_id, member.clone(), data)
        };
        if let Some(notice) = notice {
            tracing::info!(%group, client = &*member.client_id, peer = %member.channel.peer(), "consumer group changed");
            self.notify(&notice);
        }
        Ok(())
    }

    pub(super) fn unregister_client(&self, connection: &Connection, request: &Command) -> Answer {
        let header: UnregisterClientHeader = request.header()?;
        let named = |group: &Option<rocket_protocol::ByteStr>| {
            group
                .as_deref()
                .and_then(|group| GroupName::parse(group).ok())
        };
        if let Some(group) = named(&header.producer_group) {
            let mut producers = self.deps.clients.producers.write();
            producers.unregister(&group, connection.id().0);
        }
        if let Some(group) = named(&header.consumer_group) {
            let notice = self
                .deps
                .clients
                .consumers
                .write()
                .unregister(&group, connection.id().0);
            if let Some(notice) = notice {
                self.notify(&notice);
            }
        }
        success()
    }

    pub(super) fn check_client_config(request: &Command) -> Answer {
        let check = CheckClientConfig::parse(&request.body.contiguous())?;
        let Some(data) = check.subscription_data else {
            return success();
        };
        let kind = &*data.expression_type;
        if is_tag_type(Some(kind)) {
            return success();
        }
        Err(no_filter(kind))
    }

    pub(super) fn consumer_list(&self, request: &Command) -> Answer {
        let header: ConsumerGroupHeader = request.header()?;
        let group = &*header.consumer_group;
        if self.grace.covers(self.now(), group) {
            return Err(Refusal::system_error(format!(
                "the members of {group} are not all known: this broker has served for less than {GRACE_MS} ms. Keep your queues until then"
            )));
        }
        let consumers = self.deps.clients.consumers.read();
        let members = consumers
            .group(group)
            .into_iter()
            .flat_map(|group| group.members().map(|member| member.client_id.to_string()));
        let list = ConsumerList {
            consumer_id_list: members.collect(),
        };
        if list.consumer_id_list.is_empty() {
            return Err(Refusal::system_error(format!(
                "no consumer for this group, {group}"
            )));
        }
        Ok(Command::response(ResponseCode::SUCCESS).with_body(list.to_json()))
    }

    /// Clients lock after the heartbeat that made their group: a group that is not known has no member that could read.
    pub(super) fn lock_queues(&self, request: &Command) -> Answer {
        let (mut body, group) = lock_request(request)?;
        if !self.deps.metadata.groups.contains(group.as_str()) {
            return Err(Refusal::no_group(group.as_str()));
        }
        let (client_id, now) = (check_client_id(&body.client_id)?, self.now());
        // The names come back as the client gave them: it looks them up in its own table.
        body.mq_set.retain(|queue| {
            self.lockable(&group, queue).is_some_and(|queue| {
                let mut locks = self.deps.clients.locks.lock();
                locks.lock(now, &group, &client_id, queue)
            })
        });
        let response = LockBatchResponse {
            lock_ok_mq_set: body.mq_set,
        };
        Ok(Command::response(ResponseCode::SUCCESS).with_body(response.to_json()))
    }

    /// A queue that is there, under the name that the table of topics has.
    fn lockable(&self, group: &GroupName, queue: &MessageQueue) -> Option<(TopicName, QueueId)> {
        let topic = self.deps.metadata.topics.name_of(&queue.topic)?;
        let id = QueueId::from_wire(queue.queue_id)?;
        self.check_queue(&topic, group, id).ok()?;
        Some((topic, id))
    }

    pub(super) fn unlock_queues(&self, request: &Command) -> Answer {
        let (body, group) = lock_request(request)?;
        let queues = body.mq_set.iter().filter_map(locked_queue);
        self.deps
            .clients
            .locks
            .lock()
            .unlock(&group, &body.client_id, queues);
        success()
    }

    pub(super) fn consumer_connections(&self, request: &Command) -> Answer {
        let header: ConsumerGroupHeader = request.header()?;
        let name = &*header.consumer_group;
        let consumers = self.deps.clients.consumers.read();
        let Some(group) = consumers.group(name) else {
            return Err(Refusal::new(
                ResponseCode::CONSUMER_NOT_ONLINE,
                format!("the consumer group[{name}] not online"),
            ));
        };
        let body = ConsumerConnection {
            connection_set: group.members().map(connection_row).collect(),
            consume_from_where: group.consume_from_where,
            consume_type: group.consume_type,
            message_model: group.message_model,
            subscription_table: group
                .subscriptions()
                .map(|(topic, subscription)| (topic.as_str().to_owned(), subscription.data.clone()))
                .collect(),
        };
        Ok(Command::response(ResponseCode::SUCCESS).with_body(body.to_json()))
    }

    pub(super) fn producer_connections(&self, request: &Command) -> Answer {
        let header: ProducerGroupHeader = request.header()?;
        let group = &*header.producer_group;
        let producers = self.deps.clients.producers.read();
        let body = ProducerConnection {
            connection_set: producers.members(group).map(connection_row).collect(),
        };
        if body.connection_set.is_empty() {
            return Err(Refusal::system_error(format!(
                "the producer group[{group}] not exist"
            )));
        }
        Ok(Command::response(ResponseCode::SUCCESS).with_body(body.to_json()))
    }

    pub(super) fn all_producers(&self) -> Command {
        let producers = self.deps.clients.producers.read();
        let data: BTreeMap<String, Vec<ProducerInfo>> = producers
            .groups()
            .map(|(group, members)| {
                let rows = members.map(|member| ProducerInfo {
                    client_id: member.client_id.to_string(),
                    language: member.language.name().to_owned(),
                    last_update_timestamp: member.last_seen.0,
                    remote_ip: member.channel.peer().to_string(),
                    version: member.version,
                });
                (group.as_str().to_owned(), rows.collect())
            })
            .collect();
        Command::response(ResponseCode::SUCCESS).with_body(ProducerTable { data }.to_json())
    }
}

fn lock_request(request: &Command) -> Result<(LockBatchRequest, GroupName), Refusal> {
    let body = LockBatchRequest::parse(&request.body.contiguous())?;
    if body.mq_set.len() > LOCKED_QUEUES_MAX {
        return Err(too_many("queues in a request", LOCKED_QUEUES_MAX));
    }
    let group = group_name(&body.consumer_group)?;
    Ok((body, group))
}

fn locked_queue(queue: &MessageQueue) -> Option<(TopicName, QueueId)> {
    let topic = TopicName::parse(&queue.topic).ok()?;
    Some((topic, QueueId::from_wire(queue.queue_id)?))
}

fn connection_row(member: &Member<Connection>) -> ClientConnection {
    ClientConnection {
        client_addr: member.channel.peer().to_string(),
        client_id: member.client_id.to_string(),
        language: member.language.name().to_owned(),
        version: member.version,
    }
}
