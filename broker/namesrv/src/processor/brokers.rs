//! What brokers say of themselves, and whether they may be written to.

use std::collections::BTreeMap;

use rocket_protocol::body::{DataVersion, KvTable};
use rocket_protocol::header::{
    AddWritePermResponseHeader, BrokerHeartbeatHeader, BrokerIdentityHeader, BrokerNameHeader,
    QueryDataVersionResponseHeader, RegisterBrokerHeader, RegisterBrokerResponseHeader,
    WipeWritePermResponseHeader,
};
use rocket_protocol::{Command, ResponseCode};

use super::wire::{crc32, read_topics, registration, version};
use super::{Answered, Namesrv, Refusal, success};
use crate::kv::ORDER_TOPIC_CONFIG;
use crate::table::{Channel, Refused, Write};

impl Namesrv {
    pub(super) fn register(&self, channel: Channel, request: &Command) -> Answered {
        let header: RegisterBrokerHeader = request.header()?;
        let body = request.body.contiguous();
        if header.body_crc32 != 0 && header.body_crc32 != crc32(&body) {
            return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, "crc32 not match"));
        }
        let topics = read_topics(request, &header, &body).map_err(|error| {
            Refusal::new(
                ResponseCode::SYSTEM_ERROR,
                format!("Failed to decode RegisterBrokerBody: {error}"),
            )
        })?;
        let registration = registration(&header, topics.as_ref(), request.ext.get("__ZONE_NAME"))?;
        let (name, addr, count) = (
            registration.name.clone(),
            registration.addr.clone(),
            registration.topics.as_ref().map_or(0, BTreeMap::len),
        );
        let now = (self.now)();
        let (registered, new) = {
            let mut table = self.table.write();
            let known = table
                .version(&registration.cluster, &registration.addr)
                .is_some();
            (table.register(registration, channel, now), !known)
        };
        let registered = registered.map_err(|error| {
            tracing::warn!(broker = name, addr, %error, "a registration was refused");
            let remark = match error {
                Refused::OneTopic => "register broker failed".to_owned(),
                Refused::TooManyBrokers { .. } => format!("register broker failed: {error}"),
            };
            Refusal::new(ResponseCode::SYSTEM_ERROR, remark)
        })?;
        if registered.left_out > 0 {
            tracing::warn!(
                broker = name,
                addr,
                topics = registered.left_out,
                "topics of a broker got no route, as there is no room for more"
            );
        }
        if registered.is_superseded {
            tracing::warn!(
                broker = name,
                addr,
                "a registration was not taken in: a master of a later epoch is registered, or was a moment ago"
            );
        } else if new {
            tracing::info!(
                broker = name,
                id = header.broker_id,
                addr,
                topics = count,
                "a broker registered"
            );
        }
        let answer = success().with_header(&RegisterBrokerResponseHeader {
            ha_server_addr: registered.ha_addr.map(Into::into),
            master_addr: registered.master_addr.map(Into::into),
        });
        // No body when there is no such namespace: that is how a Java broker tells "no order settings".
        Ok(match self.kv.namespace(ORDER_TOPIC_CONFIG) {
            Some(table) => answer.with_body(KvTable { table }.to_json()),
            None => answer,
        })
    }

    pub(super) fn unregister(&self, channel: Channel, request: &Command) -> Answered {
        let header: BrokerIdentityHeader = request.header()?;
        self.table.write().unregister(
            &header.cluster_name,
            &header.broker_name,
            &header.broker_addr,
            channel,
        );
        tracing::info!(broker = %header.broker_name, addr = %header.broker_addr, "a broker said farewell");
        Ok(success())
    }

    pub(super) fn query_data_version(&self, request: &Command) -> Answered {
        let header: BrokerIdentityHeader = request.header()?;
        let theirs = DataVersion::parse(&request.body.contiguous()).map_err(|error| {
            Refusal::new(
                ResponseCode::SYSTEM_ERROR,
                format!("Failed to decode DataVersion: {error}"),
            )
        })?;
        let ours = {
            let mut table = self.table.write();
            table.heard(&header.cluster_name, &header.broker_addr, (self.now)());
            table.version(&header.cluster_name, &header.broker_addr)
        };
        let changed = ours != Some(version(&theirs));
        let answer = success().with_header(&QueryDataVersionResponseHeader { changed });
        Ok(match ours {
            Some(ours) => {
                let body = DataVersion {
                    counter: ours.counter,
                    state_version: ours.state,
                    timestamp: ours.timestamp,
                };
                answer.with_body(body.to_json())
            }
            None => answer,
        })
    }

    pub(super) fn heartbeat(&self, request: &Command) -> Answered {
        let header: BrokerHeartbeatHeader = request.header()?;
        self.table
            .write()
            .heard(&header.cluster_name, &header.broker_addr, (self.now)());
        Ok(success())
    }

    pub(super) fn set_write(&self, request: &Command, write: Write) -> Answered {
        let header: BrokerNameHeader = request.header()?;
        let count = self.table.write().set_write(&header.broker_name, write);
        tracing::info!(broker = %header.broker_name, ?write, topics = count, "write permission of a broker changed");
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        Ok(match write {
            Write::Wipe => success().with_header(&WipeWritePermResponseHeader {
                wipe_topic_count: count,
            }),
            Write::Add => success().with_header(&AddWritePermResponseHeader {
                add_topic_count: count,
            }),
        })
    }
}
