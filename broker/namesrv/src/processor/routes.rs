//! Who serves which topic: routes, clusters and groups, and lists of topics.

use std::collections::{BTreeMap, BTreeSet};

use rocket_protocol::body::{BrokerMemberGroup, BrokerMemberGroupBody, ClusterInfo, RouteData};
use rocket_protocol::header::{
    DeleteTopicFromNamesrvHeader, GetBrokerMemberGroupHeader, GetRouteInfoHeader,
    GetTopicsByClusterHeader,
};
use rocket_protocol::{Command, ResponseCode};

use super::wire::{addresses, broker_data, queue_data, topic_list};
use super::{Answered, Namesrv, Refusal, success};
use crate::kv::ORDER_TOPIC_CONFIG;

/// Where RocketMQ sends people who ask for a topic that nobody serves (`FAQUrl.APPLY_TOPIC_URL`).
const FAQ: &str = "\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details.";

impl Namesrv {
    /// The version gate of RocketMQ (strict JSON from 4.9.4 on, or when asked for) is met by always writing strict JSON: the dialect's readers
    /// take quoted keys too.
    pub(super) fn route(&self, request: &Command) -> Answered {
        let header: GetRouteInfoHeader = request.header()?;
        let topic = header.topic.as_str();
        let Some(route) = self.table.read().route(topic) else {
            return Err(Refusal::new(
                ResponseCode::TOPIC_NOT_EXIST,
                format!("No topic route info in name server for the topic: {topic}{FAQ}"),
            ));
        };
        let order = if self.settings.order_message {
            self.kv.get(ORDER_TOPIC_CONFIG, topic)
        } else {
            None
        };
        let data = RouteData {
            broker_datas: route
                .groups
                .iter()
                .map(|(name, group)| broker_data(name, group))
                .collect(),
            filter_server_table: BTreeMap::new(),
            order_topic_conf: order,
            queue_datas: route
                .queues
                .iter()
                .map(|(name, queues)| queue_data(name, *queues))
                .collect(),
        };
        Ok(success().with_body(data.to_json()))
    }

    pub(super) fn cluster_info(&self) -> Command {
        let table = self.table.read();
        let info = ClusterInfo {
            broker_addr_table: table
                .groups()
                .iter()
                .map(|(name, group)| (name.clone(), broker_data(name, group)))
                .collect(),
            cluster_addr_table: table
                .clusters()
                .into_iter()
                .map(|(cluster, names)| {
                    (
                        cluster.to_owned(),
                        names.into_iter().map(str::to_owned).collect(),
                    )
                })
                .collect(),
        };
        success().with_body(info.to_json())
    }

    pub(super) fn member_group(&self, request: &Command) -> Answered {
        let header: GetBrokerMemberGroupHeader = request.header()?;
        let table = self.table.read();
        let group = table
            .groups()
            .get(header.broker_name.as_str())
            .filter(|group| group.cluster == header.cluster_name.as_str());
        let body = BrokerMemberGroupBody {
            broker_member_group: Some(BrokerMemberGroup {
                broker_addrs: group.map(addresses).unwrap_or_default(),
                broker_name: header.broker_name.to_string(),
                cluster: header.cluster_name.to_string(),
            }),
        };
        Ok(success().with_body(body.to_json()))
    }

    pub(super) fn all_topics(&self) -> Answered {
        if !self.settings.all_topic_list {
            return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, "disable"));
        }
        Ok(topic_list(self.table.read().topics(|_| true), None))
    }

    pub(super) fn topics_by_cluster(&self, request: &Command) -> Answered {
        let header: GetTopicsByClusterHeader = request.header()?;
        Ok(topic_list(
            self.table.read().topics_of_cluster(&header.cluster),
            None,
        ))
    }

    /// Names of clusters and brokers, each of which is a topic; and an address of any broker.
    pub(super) fn system_topics(&self) -> Command {
        let table = self.table.read();
        let names: BTreeSet<&str> = table
            .clusters()
            .into_iter()
            .flat_map(|(cluster, names)| names.into_iter().chain([cluster]))
            .collect();
        let address = table
            .groups()
            .values()
            .find_map(|group| group.addrs.values().next().cloned());
        topic_list(names, address)
    }

    pub(super) fn topics_by_flag(&self, wanted: impl Fn(u32) -> bool) -> Command {
        let table = self.table.read();
        topic_list(
            table.topics(|queues| {
                queues
                    .values()
                    .next()
                    .is_some_and(|queues| wanted(queues.sys_flag))
            }),
            None,
        )
    }

    pub(super) fn delete_topic(&self, request: &Command) -> Answered {
        let header: DeleteTopicFromNamesrvHeader = request.header()?;
        let cluster = header
            .cluster_name
            .as_deref()
            .filter(|cluster| !cluster.is_empty());
        self.table.write().delete_topic(&header.topic, cluster);
        tracing::info!(topic = %header.topic, cluster, "a topic was taken out of the routes");
        Ok(success())
    }
}
