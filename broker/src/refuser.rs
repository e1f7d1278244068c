//! What a broker that serves nothing answers: a standby of its group, or a replica that is not its master.

use rocket_protocol::{Command, Language, RequestCode, ResponseCode};
use rocket_remoting::{Connection, Processor, Reply};

/// Answers a request with a refusal, unless its client takes that for something else. client-go does not look at the code of the answer when it
/// asks who is in its group: a refusal is an empty list to it, upon which it gives up all of its queues. Without an answer it keeps them, and
/// asks again after 20 s (`findConsumerList` of its consumer/consumer.go, also in 2.1.2).
pub(crate) fn refuse(request: &Command, reply: Reply, refusal: Command) {
    let is_list = request.request_code() == RequestCode::GET_CONSUMER_LIST_BY_GROUP;
    if is_list && request.language == Language::GO {
        reply.withhold();
    } else {
        reply.send(refusal);
    }
}

/// Answers every request with SERVICE_NOT_AVAILABLE, upon which producers try another broker and consumers come back later.
#[derive(Debug, Clone)]
pub struct Refuser {
    remark: String,
    /// Whether a connection that was refused is closed: behind an address that follows the master, the next one leads there.
    closes: bool,
}

impl Refuser {
    /// For a replica that is not the fixed master of `group`; `master` is the replica that is, if it is known.
    pub fn standby(group: &str, master: Option<&str>) -> Self {
        let remark = match master {
            Some(master) => format!("this broker is a standby of {group}; its master is {master}"),
            None => format!("this broker is a standby of {group}"),
        };
        Self {
            remark,
            closes: false,
        }
    }

    /// For a replica of `group` that is not its master now; `master` is where the replica that is takes replication links.
    pub fn slave(group: &str, master: Option<&str>) -> Self {
        let remark = match master {
            Some(master) => {
                format!("this broker is not the master of {group}; the replica at {master} is")
            }
            None => format!("this broker is not the master of {group}, and none is known now"),
        };
        Self {
            remark,
            closes: true,
        }
    }
}

impl Processor for Refuser {
    fn process(&self, connection: &Connection, request: Command, reply: Reply) {
        let refusal = Command::response(ResponseCode::SERVICE_NOT_AVAILABLE);
        refuse(&request, reply, refusal.with_remark(self.remark.clone()));
        if self.closes {
            connection.drain();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;
    use std::time::Duration;

    use rocket_remoting::{Client, ClientConfig, NoRequests, Server, ServerConfig};
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;

    #[tokio::test]
    async fn who_asks_for_a_list_is_refused_unless_it_would_take_that_for_one() {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let server = Server::bind(
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            ServerConfig::default(),
            Arc::new(Refuser::standby("g", None)),
            &tasks,
            stop.clone(),
        );
        let address = server.unwrap().local_addr().to_string();
        let client = Client::connect(&address, ClientConfig::default(), Arc::new(NoRequests));
        let client = client.await.unwrap();
        let patience = Duration::from_secs(20);
        let asks = |language| {
            let mut request = Command::request(RequestCode::GET_CONSUMER_LIST_BY_GROUP);
            request.language = language;
            client.call(request, patience)
        };
        tokio::select! {
            biased;
            answer = asks(Language::GO) => panic!("{answer:?}"),
            later = asks(Language::JAVA) => {
                let code = later.unwrap().response_code();
                assert_eq!(code, ResponseCode::SERVICE_NOT_AVAILABLE);
            }
        }
        drop(client);
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }
}
