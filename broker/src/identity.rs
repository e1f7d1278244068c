//! Who this broker is to the outside: what name servers and clients are told, and what is written into records.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use rocket_protocol::ids::UnixMillis;
use tokio::net::lookup_host;

use crate::config::BrokerConfig;

/// A DNS server that does not answer must not hold up a start for longer.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Cluster name.
    pub cluster: String,
    /// Name of the broker group.
    pub broker_name: String,
    /// 0 = master.
    pub broker_id: u64,
    /// `host:port` that clients are told; the host is brokerIP1 as configured, be it a DNS name.
    pub advertised: String,
    /// `host:port` that slaves are told.
    pub ha_advertised: String,
    /// What records and offset message ids carry: the address behind `advertised`.
    pub store_host: SocketAddr,
    /// Region of new messages.
    pub region_id: String,
    /// When the process started.
    pub started: UnixMillis,
}

impl Identity {
    /// From the configuration and the port that was bound.
    ///
    /// A DNS name that does not resolve yet (a Service of a pod that is just starting) is no reason not to start: records then carry the
    /// address of the default route, under which the broker can be reached from the same network.
    pub async fn of(config: &BrokerConfig, port: u16, started: UnixMillis) -> Self {
        let own = own_address(config.bind_address);
        let host = config.broker_ip1.clone().unwrap_or_else(|| own.to_string());
        let ha_host = config.broker_ip2.clone().unwrap_or_else(|| host.clone());
        let address = match host.parse::<IpAddr>() {
            Ok(address) => address,
            Err(_) => resolve(&host, port).await.unwrap_or(own),
        };
        Self {
            cluster: config.broker_cluster_name.to_string(),
            broker_name: config.name(),
            broker_id: config.broker_id,
            advertised: join(&host, port),
            ha_advertised: join(&ha_host, config.ha_port(port)),
            store_host: SocketAddr::new(address, port),
            region_id: config.region_id.to_string(),
            started,
        }
    }
}

async fn resolve(host: &str, port: u16) -> Option<IpAddr> {
    match tokio::time::timeout(LOOKUP_TIMEOUT, lookup_host((host, port))).await {
        Ok(Ok(addresses)) => {
            let addresses: Vec<IpAddr> = addresses.map(|address| address.ip()).collect();
            // IPv4 first: records with IPv6 hosts are read by newer clients only.
            addresses
                .iter()
                .find(|address| address.is_ipv4())
                .or(addresses.first())
                .copied()
        }
        Ok(Err(error)) => {
            tracing::warn!(host, %error, "brokerIP1 does not resolve; records will carry the address of the default route");
            None
        }
        Err(_) => {
            tracing::warn!(
                host,
                "brokerIP1 did not resolve in time; records will carry the address of the default route"
            );
            None
        }
    }
}

/// The address that others likely reach this machine by: the bound one, else the one of the default route, else loopback.
fn own_address(bound: IpAddr) -> IpAddr {
    if !bound.is_unspecified() {
        return bound;
    }
    // Connecting a datagram socket sends nothing; it asks the kernel for a route. 192.0.2.1 is reserved for documentation.
    let routed = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket
            .connect((Ipv4Addr::new(192, 0, 2, 1), 9))
            .and_then(|()| socket.local_addr())
    });
    routed.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

fn join(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings as _;

    async fn identity(pairs: &[(&str, &str)]) -> Identity {
        let mut config = BrokerConfig::default();
        for (key, value) in pairs {
            config.set(key, value).unwrap().unwrap();
        }
        Identity::of(&config, 10911, UnixMillis(0)).await
    }

    #[tokio::test]
    async fn a_dns_name_is_advertised_as_given_and_records_carry_its_address() {
        let identity = identity(&[("brokerIP1", "localhost")]).await;
        assert_eq!(identity.advertised, "localhost:10911");
        assert_eq!(identity.ha_advertised, "localhost:10912");
        assert_eq!(identity.store_host, "127.0.0.1:10911".parse().unwrap());
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_does_not_stop_the_start() {
        let identity = identity(&[
            ("brokerIP1", "nowhere.invalid"),
            ("bindAddress", "127.0.0.1"),
        ])
        .await;
        assert_eq!(identity.advertised, "nowhere.invalid:10911");
        assert_eq!(identity.store_host, "127.0.0.1:10911".parse().unwrap());
    }

    #[tokio::test]
    async fn without_a_name_the_bound_address_is_told() {
        let identity = identity(&[("bindAddress", "127.0.0.1")]).await;
        assert_eq!(identity.advertised, "127.0.0.1:10911");
    }

    #[tokio::test]
    async fn an_ipv6_address_is_told_in_brackets() {
        assert_eq!(
            identity(&[("brokerIP1", "::1")]).await.advertised,
            "[::1]:10911"
        );
    }
}
