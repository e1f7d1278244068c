//! The cluster under test: one for all tests of this process.

use std::net::SocketAddr;
use std::sync::OnceLock;

use conformance::apache::Apache;
use conformance::programs::Programs;
use conformance::standalone::Standalone;

/// Whose servers are under test.
pub(crate) enum Cluster {
    Ours(Standalone),
    Apache(Apache),
}

impl Cluster {
    /// Where clients ask for routes.
    pub(crate) fn namesrv(&self) -> SocketAddr {
        match self {
            Self::Ours(s) => s.namesrv,
            Self::Apache(a) => a.namesrv.addr,
        }
    }

    pub(crate) fn broker(&self) -> SocketAddr {
        match self {
            Self::Ours(s) => s.broker,
            Self::Apache(a) => a.broker.addr,
        }
    }
}

pub(crate) fn target_is_apache() -> bool {
    std::env::var("CONFORMANCE_TARGET").is_ok_and(|t| t == "apache")
}

/// The shared cluster, started by the first test that asks.
pub(crate) fn cluster(programs: &Programs) -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        if target_is_apache() {
            Cluster::Apache(Apache::start(programs).expect("Apache's servers"))
        } else {
            Cluster::Ours(Standalone::start().expect("rocket-broker standalone"))
        }
    })
}
