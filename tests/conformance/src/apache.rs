//! Apache's own name server and broker 5.4.0 on loopback: what the clients were written for, and what this suite is checked against.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::frame;
use crate::process::{Process, free_port, scratch};
use crate::programs::{Programs, java};

const START_PATIENCE: Duration = Duration::from_secs(90);
const STOP_PATIENCE: Duration = Duration::from_mins(1);

/// A name server of Apache's.
#[derive(Debug)]
pub struct NameServer {
    /// Ends with this value.
    pub process: Process,
    /// 127.0.0.1 and its port.
    pub addr: SocketAddr,
}

impl NameServer {
    /// Starts it on a free port.
    pub fn start(programs: &Programs) -> Result<Self> {
        let dir = home("apache-namesrv")?;
        let port = free_port()?;
        let config = dir.join("namesrv.conf");
        std::fs::write(
            &config,
            format!(
                "listenPort={port}\nbindAddress=127.0.0.1\nkvConfigPath={}/kv.json\n",
                dir.display()
            ),
        )?;
        let mut command = java(&programs.apache, 128, &dir, &BTreeMap::new());
        command
            .args(["org.apache.rocketmq.namesrv.NamesrvStartup", "-c"])
            .arg(&config);
        let process = Process::start(
            "namesrv",
            &mut command,
            &dir.join("out.log"),
            START_PATIENCE,
            |l| l.contains("boot success"),
        )?;
        Ok(Self {
            process,
            addr: ([127, 0, 0, 1], port).into(),
        })
    }
}

/// How a broker of Apache's is to run.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// The name server that it registers at.
    pub namesrv: SocketAddr,
    /// The address that it advertises (a proxy may stand there); it listens on 127.0.0.1.
    pub advertised: String,
    /// Its port.
    pub port: u16,
    /// Its store.
    pub data: PathBuf,
    /// Further lines of its configuration.
    pub extra: Vec<(String, String)>,
}

/// A broker of Apache's.
#[derive(Debug)]
pub struct Broker {
    process: Process,
    /// 127.0.0.1 and its port.
    pub addr: SocketAddr,
}

impl Broker {
    /// Starts it and waits until the name server routes to it.
    pub fn start(programs: &Programs, options: &BrokerOptions) -> Result<Self> {
        let broker = Self::boot(programs, options)?;
        broker.await_route(options.namesrv)?;
        Ok(broker)
    }

    /// Starts it and waits only for its own word that it is up.
    pub fn boot(programs: &Programs, options: &BrokerOptions) -> Result<Self> {
        let dir = home("apache-broker")?;
        let config = dir.join("broker.conf");
        std::fs::write(&config, broker_config(options))?;
        let mut command = java(&programs.apache, 400, &dir, &BTreeMap::new());
        command
            .args(["org.apache.rocketmq.broker.BrokerStartup", "-c"])
            .arg(&config);
        let process = Process::start(
            "broker",
            &mut command,
            &dir.join("out.log"),
            START_PATIENCE,
            |l| l.contains("boot success"),
        )?;
        Ok(Self {
            process,
            addr: ([127, 0, 0, 1], options.port).into(),
        })
    }

    fn await_route(&self, namesrv: SocketAddr) -> Result<()> {
        let end = Instant::now() + START_PATIENCE;
        while Instant::now() < end {
            if frame::route_known(&mut TcpStream::connect(namesrv)?, "TBW102")? {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the broker did not register:\n{}", self.process.log_end())
    }

    /// Ends it in order: everything flushed, `abort` removed.
    pub fn stop(self) -> Result<()> {
        self.process.stop(STOP_PATIENCE).map(drop)
    }

    /// Ends it by SIGKILL.
    pub fn kill(self) {
        self.process.kill();
    }
}

fn broker_config(options: &BrokerOptions) -> String {
    let data = options.data.display();
    let mut text = format!(
        "brokerClusterName=DefaultCluster\nbrokerName=broker-a\nbrokerId=0\nnamesrvAddr={}\nbrokerIP1={ip}\nbrokerIP2={ip}\n\
         bindAddress=127.0.0.1\nlistenPort={}\nhaListenPort={}\nstorePathRootDir={data}\nstorePathCommitLog={data}/commitlog\n\
         diskMaxUsedSpaceRatio=95\nmappedFileSizeCommitLog=16777216\nmappedFileSizeConsumeQueue=60000\nmaxHashSlotNum=10000\nmaxIndexNum=40000\n",
        options.namesrv,
        options.port,
        options.port + 1,
        ip = options.advertised,
    );
    for (key, value) in &options.extra {
        let _ = writeln!(text, "{key}={value}");
    }
    text
}

fn home(name: &str) -> Result<PathBuf> {
    let dir = scratch(name)?;
    std::fs::create_dir_all(dir.join("conf"))?;
    Ok(dir)
}

/// A name server and one broker of Apache's with an empty store, on loopback.
#[derive(Debug)]
pub struct Apache {
    /// The broker; first, as fields are dropped in order.
    pub broker: Broker,
    /// The name server.
    pub namesrv: NameServer,
}

impl Apache {
    /// Starts both.
    pub fn start(programs: &Programs) -> Result<Self> {
        let namesrv = NameServer::start(programs)?;
        let options = BrokerOptions::plain(namesrv.addr, &scratch("apache-store")?)?
            .set("transactionCheckInterval", "1000");
        Ok(Self {
            broker: Broker::start(programs, &options)?,
            namesrv,
        })
    }
}

impl BrokerOptions {
    /// A broker that clients reach directly, with its store in `data`.
    pub fn plain(namesrv: SocketAddr, data: &Path) -> Result<Self> {
        Ok(Self {
            namesrv,
            advertised: "127.0.0.1".to_owned(),
            port: free_port()?,
            data: data.to_owned(),
            extra: Vec::new(),
        })
    }

    /// Adds one line of configuration.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.extra.push((key.to_owned(), value.to_owned()));
        self
    }
}
