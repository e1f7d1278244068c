//! What a replica does with the sends that still come to it after its mastership went to another one: it passes them on and brings the
//! answers back, for the moment that the group's address takes to lead to the next master. Everything else is refused, and the
//! connection closed: the next one leads there.
//!
//! A message that was passed on says of itself that it was born here, as the next master knows only this connection.

use std::sync::Arc;
use std::time::Duration;

use rocket_protocol::{Command, RequestCode, ResponseCode};
use rocket_remoting::{CallError, Client, ClientConfig, Connection, NoRequests, Processor, Reply};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use crate::refuser::Refuser;
use crate::waiting_room::is_send;

/// How long a send is tried at most until the next master takes it. RocketMQ's clients wait 3 s for an answer.
const PATIENCE: Duration = Duration::from_millis(2_500);
/// How long its answer is waited for.
const ANSWER: Duration = Duration::from_secs(3);
/// How long connecting to the next master may take, and its first answer.
const CONNECTING: Duration = Duration::from_millis(500);
/// Pause before a send that was not taken is tried again, and before the next master is asked again whether it has opened.
const AGAIN: Duration = Duration::from_millis(5);

/// See the module.
pub(crate) struct Relay {
    next: Arc<Next>,
    refuser: Refuser,
    tasks: TaskTracker,
}

/// The next master.
struct Next {
    address: String,
    way: Mutex<Way>,
}

/// The connection that all share.
#[derive(Default)]
struct Way {
    client: Option<Arc<Client>>,
    /// When there was none at the last look.
    missed: Option<Instant>,
}

/// Why a send has no answer.
enum Missed {
    /// It was not stored.
    NotTaken,
    /// It may have been.
    Unknown,
}

impl Relay {
    /// To the clients' port of the next master, `host:port`. Its tasks belong to `tasks`.
    pub(crate) fn new(address: String, refuser: Refuser, tasks: TaskTracker) -> Self {
        let next = Next {
            address,
            way: Mutex::default(),
        };
        Self {
            next: Arc::new(next),
            refuser,
            tasks,
        }
    }
}

impl Processor for Relay {
    fn process(&self, connection: &Connection, request: Command, reply: Reply) {
        if !is_send(request.request_code()) {
            return self.refuser.process(connection, request, reply);
        }
        let (next, refuser) = (Arc::clone(&self.next), self.refuser.clone());
        let connection = connection.clone();
        self.tasks.spawn(async move {
            let until = Instant::now() + PATIENCE;
            loop {
                match next.tries(&request, reply.is_oneway()).await {
                    Ok(answer) => return reply.send(answer),
                    // Whoever asked finds out as after any connection that broke.
                    Err(Missed::Unknown) => return connection.close(),
                    Err(Missed::NotTaken) if Instant::now() >= until || !reply.is_open() => {
                        return refuser.process(&connection, request, reply);
                    }
                    Err(Missed::NotTaken) => sleep(AGAIN).await,
                }
            }
        });
    }
}

impl Next {
    async fn tries(&self, request: &Command, is_oneway: bool) -> Result<Command, Missed> {
        let client = self.client().await.ok_or(Missed::NotTaken)?;
        let request = request.clone();
        if is_oneway {
            let sent = client.send_oneway(request);
            return match sent {
                Ok(()) => Ok(Command::response(ResponseCode::SUCCESS)),
                Err(_) => Err(Missed::NotTaken),
            };
        }
        match client.call(request, ANSWER).await {
            // It hands over in its turn.
            Ok(answer) if answer.response_code() == ResponseCode::SERVICE_NOT_AVAILABLE => {
                Err(Missed::NotTaken)
            }
            Ok(answer) => Ok(answer),
            Err(CallError::NotSent(_) | CallError::TooManyCalls) => Err(Missed::NotTaken),
            Err(CallError::Closed | CallError::Timeout(_)) => Err(Missed::Unknown),
        }
    }

    /// A connection to the next master, if it has opened.
    async fn client(&self) -> Option<Arc<Client>> {
        let mut way = self.way.lock().await;
        if let Some(client) = way.client.as_ref().filter(|client| client.is_open()) {
            return Some(Arc::clone(client));
        }
        // One asks for all who wait.
        if way.missed.is_some_and(|missed| missed.elapsed() < AGAIN) {
            return None;
        }
        way.client = self.opened().await.map(Arc::new);
        way.missed = way.client.is_none().then(Instant::now);
        way.client.clone()
    }

    /// Connects, and sees whether it serves. A replica that does not closes the connection after its first refusal: nobody would know
    /// what became of sends behind that.
    async fn opened(&self) -> Option<Client> {
        let config = ClientConfig {
            connect_timeout: CONNECTING,
            ..ClientConfig::default()
        };
        let connecting = Client::connect(&self.address, config, Arc::new(NoRequests));
        let client = connecting.await.ok()?;
        let asked = Command::request(RequestCode::GET_ALL_DELAY_OFFSET);
        let answer = client.call(asked, CONNECTING).await.ok()?;
        (answer.response_code() != ResponseCode::SERVICE_NOT_AVAILABLE).then_some(client)
    }
}

/// The clients' port of a replica that says where its replication port is: replicas of a group have the same ports, `apart` from each
/// other.
pub(crate) fn clients_port(replication: &str, apart: i32) -> Option<String> {
    let (host, port) = replication.rsplit_once(':')?;
    let port = i32::from(port.parse::<u16>().ok()?) - apart;
    let port = u16::try_from(port).ok()?;
    Some(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_master_takes_clients_as_far_from_its_replication_port_as_this_one() {
        let found = clients_port("orders-0-1.orders-0-replicas.mq.svc:10912", 1);
        assert_eq!(
            found.as_deref(),
            Some("orders-0-1.orders-0-replicas.mq.svc:10911")
        );
        assert_eq!(clients_port("[::1]:7", -3).as_deref(), Some("[::1]:10"));
        for bad in ["host", "host:", "host:x", "host:0"] {
            assert_eq!(clients_port(bad, 1), None, "{bad}");
        }
    }
}
