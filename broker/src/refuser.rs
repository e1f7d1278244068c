//! What a broker that serves nothing answers: a standby of its group, or a replica that is not its master.

use rocket_protocol::{Command, ResponseCode};
use rocket_remoting::{Connection, Processor, Reply};

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
    fn process(&self, connection: &Connection, _request: Command, reply: Reply) {
        reply.send(
            Command::response(ResponseCode::SERVICE_NOT_AVAILABLE).with_remark(self.remark.clone()),
        );
        if self.closes {
            connection.drain();
        }
    }
}
