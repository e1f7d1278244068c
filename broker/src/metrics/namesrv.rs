//! The name server's series.

use prometheus::IntGauge;

use super::table::metrics;

metrics! {
    /// Every series of the name server.
    pub struct NamesrvMetrics {
        /// Live brokers (addresses).
        brokers: IntGauge = "rocket_namesrv_brokers" [] [];
        /// Topics with a route.
        topics: IntGauge = "rocket_namesrv_topics" [] [];
        /// Open connections of clients and brokers.
        connections: IntGauge = "rocket_namesrv_connections" [] [];
    }
}
