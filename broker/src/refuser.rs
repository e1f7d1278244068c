//! What a broker that serves nothing answers: a standby of its group.

use rocket_protocol::{Command, ResponseCode};
use rocket_remoting::{Connection, Processor, Reply};

/// Answers every request with SERVICE_NOT_AVAILABLE, upon which producers try another broker and consumers come back later.
#[derive(Debug, Clone)]
pub struct Refuser {
    remark: String,
}

impl Refuser {
    /// For a replica that is not the master of `group`; `master` is the replica that is, if it is known.
    pub fn standby(group: &str, master: Option<&str>) -> Self {
        let remark = match master {
            Some(master) => format!("this broker is a standby of {group}; its master is {master}"),
            None => format!("this broker is a standby of {group}"),
        };
        Self { remark }
    }
}

impl Processor for Refuser {
    fn process(&self, _connection: &Connection, _request: Command, reply: Reply) {
        reply.send(
            Command::response(ResponseCode::SERVICE_NOT_AVAILABLE).with_remark(self.remark.clone()),
        );
    }
}
