//! What a broker tells name servers: REGISTER_BROKER with all of its topics, and UNREGISTER_BROKER.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rocket_protocol::body::{RegisterBrokerBody, TopicConfigTable};
use rocket_protocol::header::{BrokerIdentityHeader, RegisterBrokerHeader};
use rocket_protocol::{Command, RequestCode};

use crate::config::LiveConfig;
use crate::identity::Identity;
use crate::registration::Announcement;

/// See the module.
pub struct BrokerAnnouncement {
    /// Who is announced.
    pub identity: Arc<Identity>,
    /// brokerPermission may change while the broker runs.
    pub config: Arc<LiveConfig>,
    /// The topics of the moment.
    pub topics: Arc<dyn Fn() -> TopicConfigTable + Send + Sync>,
    /// The epoch in which a group is served, 0 without a group. Name servers order the masters of a group by it: what an older
    /// one says does not take a route from its successor.
    pub epoch: Arc<AtomicI64>,
}

impl Announcement for BrokerAnnouncement {
    fn register(&self) -> Command {
        // In this order: brokerPermission is changed before the table's version is, so what is told under a new version is the
        // new one.
        let mut table = (self.topics)();
        let epoch = self.epoch.load(Ordering::Acquire);
        if epoch > 0 {
            table.data_version.state_version = epoch;
        }
        let config = self.config.load();
        if !(config.is_readable() && config.is_writeable()) {
            let allowed = i32::try_from(config.broker_permission).unwrap_or_default();
            for topic in table.topic_config_table.values_mut() {
                topic.perm &= allowed;
            }
        }
        let identity = &self.identity;
        let header = RegisterBrokerHeader {
            broker_name: identity.broker_name.clone().into(),
            broker_addr: identity.advertised.clone().into(),
            cluster_name: identity.cluster.clone().into(),
            ha_server_addr: identity.ha_advertised.clone().into(),
            broker_id: i64::try_from(identity.broker_id).unwrap_or(i64::MAX),
            heartbeat_timeout_millis: i64::try_from(config.broker_not_active_timeout.as_millis())
                .ok(),
            enable_acting_master: None,
            compressed: false,
            // TCP has checksums of its own; 0 is "not checked".
            body_crc32: 0,
        };
        let body = RegisterBrokerBody {
            topic_config_serialize_wrapper: table,
            ..RegisterBrokerBody::default()
        };
        Command::request(RequestCode::REGISTER_BROKER)
            .with_header(&header)
            .with_body(body.to_json())
    }

    fn unregister(&self) -> Command {
        let identity = &self.identity;
        let header = BrokerIdentityHeader {
            broker_name: identity.broker_name.clone().into(),
            broker_addr: identity.advertised.clone().into(),
            cluster_name: identity.cluster.clone().into(),
            broker_id: i64::try_from(identity.broker_id).unwrap_or(i64::MAX),
        };
        Command::request(RequestCode::UNREGISTER_BROKER).with_header(&header)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use rocket_protocol::UnixMillis;
    use rocket_protocol::body::TopicConfig;

    use super::*;
    use crate::config::BrokerConfig;

    fn announcement(config: &Arc<LiveConfig>, epoch: i64) -> BrokerAnnouncement {
        let identity = Identity {
            cluster: "C".to_owned(),
            broker_name: "b".to_owned(),
            broker_id: 0,
            advertised: "svc:10911".to_owned(),
            ha_advertised: "svc:10912".to_owned(),
            store_host: SocketAddr::from(([127, 0, 0, 1], 10911)),
            region_id: "R".to_owned(),
            started: UnixMillis(0),
        };
        let table = || TopicConfigTable {
            topic_config_table: [(
                "T".to_owned(),
                TopicConfig {
                    topic_name: "T".to_owned(),
                    ..TopicConfig::default()
                },
            )]
            .into(),
            ..TopicConfigTable::default()
        };
        BrokerAnnouncement {
            identity: Arc::new(identity),
            config: Arc::clone(config),
            topics: Arc::new(table),
            epoch: Arc::new(AtomicI64::new(epoch)),
        }
    }

    fn told(announcement: &BrokerAnnouncement) -> TopicConfigTable {
        let body = announcement.register().body.contiguous();
        let body = RegisterBrokerBody::parse(&body).unwrap();
        body.topic_config_serialize_wrapper
    }

    #[test]
    fn a_broker_that_may_not_be_written_announces_topics_that_may_not_be_written() {
        let config = Arc::new(LiveConfig::new(BrokerConfig::default()));
        let announcement = announcement(&config, 0);
        let perm = || told(&announcement).topic_config_table["T"].perm;
        assert_eq!(perm(), 6);
        config.update("brokerPermission=4").unwrap();
        assert_eq!(perm(), 4);
        let header: RegisterBrokerHeader = announcement.register().header().unwrap();
        assert_eq!(
            (header.broker_addr.as_str(), header.ha_server_addr.as_str()),
            ("svc:10911", "svc:10912")
        );
        assert_eq!(header.heartbeat_timeout_millis, Some(120_000));
    }

    #[test]
    fn a_master_of_a_group_announces_its_epoch() {
        let config = Arc::new(LiveConfig::new(BrokerConfig::default()));
        let announcement = announcement(&config, 7);
        let epoch = || told(&announcement).data_version.state_version;
        assert_eq!(epoch(), 7);
        announcement.epoch.store(9, Ordering::Release);
        assert_eq!(epoch(), 9);
    }
}
