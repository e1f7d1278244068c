//! Accepts connections and serves them until it is cancelled.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::ServerConfig;
use crate::connection::{Inner, Shared};
use crate::driver;
use crate::processor::Processor;
use crate::room::Room;
use crate::stats::{Stats, count};

/// A listening server. Its tasks belong to the tracker that it was given; cancelling the token stops accepting and
/// reading, lets each connection answer its open requests for at most `drain_timeout`, and closes them.
pub struct Server {
    local: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    /// Listens on `address` (port 0: a free one). To be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn bind(
        address: SocketAddr,
        config: ServerConfig,
        processor: Arc<dyn Processor>,
        tasks: &TaskTracker,
        cancel: CancellationToken,
    ) -> io::Result<Self> {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(config.backlog)?;
        let local = listener.local_addr()?;
        let shared = Arc::new(Shared {
            room: Room::new(config.half_frame_bytes_max),
            ..Shared::default()
        });
        let acceptor = Acceptor {
            listener,
            config,
            processor,
            tasks: tasks.clone(),
            cancel,
            shared: Arc::clone(&shared),
        };
        tasks.spawn(acceptor.run());
        Ok(Self { local, shared })
    }

    /// The address that the server listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        usize::try_from(self.shared.stats.snapshot().connections_open).unwrap_or(usize::MAX)
    }

    /// The server's counters.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.shared.stats)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

struct Acceptor {
    listener: TcpListener,
    config: ServerConfig,
    processor: Arc<dyn Processor>,
    tasks: TaskTracker,
    cancel: CancellationToken,
    shared: Arc<Shared>,
}

impl Acceptor {
    async fn run(self) {
        // Counts tasks rather than the statistics: a task that is spawned but has not run yet is a connection, too.
        let slots = Arc::new(());
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) if Arc::strong_count(&slots) > self.config.connections_max => {
                    drop(stream);
                    count(&self.shared.stats.connections_refused, 1);
                    if let Some(suppressed) = self.shared.refused_log.admit() {
                        let max = self.config.connections_max;
                        tracing::warn!(%peer, max, suppressed, "refused a connection as too many are open");
                    }
                }
                Ok((stream, peer)) => self.serve(stream, peer, Arc::clone(&slots)),
                Err(error) => {
                    tracing::warn!(local = ?self.listener.local_addr(), %error, "cannot accept");
                    let pause = tokio::time::sleep(driver::ACCEPT_PAUSE);
                    self.cancel.run_until_cancelled(pause).await;
                }
            }
        }
    }

    fn serve(&self, stream: TcpStream, peer: SocketAddr, slot: Arc<()>) {
        let peer = canonical(peer);
        let prepared = driver::prepare(&stream).and_then(|()| stream.local_addr());
        let local = match prepared {
            Ok(local) => local,
            Err(error) => {
                tracing::debug!(%peer, %error, "the peer left before it was served");
                return;
            }
        };
        let inner = Inner::new(
            peer,
            local,
            self.config.limits.clone(),
            Arc::clone(&self.shared),
        );
        let served = driver::run(
            stream,
            Arc::new(inner),
            Arc::clone(&self.processor),
            // One of its own, so that connections do not meet at the lock inside.
            self.cancel.child_token(),
        );
        self.tasks.spawn(async move {
            served.await;
            drop(slot);
        });
    }
}

/// The address as the peer knows it: a listener for IPv6 shows one of IPv4 as a mapped one, which would be written into
/// messages as an IPv6 host.
fn canonical(peer: SocketAddr) -> SocketAddr {
    match peer.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), peer.port()),
        IpAddr::V6(_) => peer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_the_one_that_it_stands_for() {
        for (given, expected) in [
            ("[::ffff:10.0.0.1]:7", "10.0.0.1:7"),
            ("10.0.0.1:7", "10.0.0.1:7"),
            ("[fe80::1%3]:7", "[fe80::1%3]:7"),
        ] {
            let given: SocketAddr = given.parse().unwrap();
            assert_eq!(canonical(given).to_string(), expected);
        }
    }
}
