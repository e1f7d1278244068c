//! Apache's name server and broker, and our broker, as processes on loopback; with slaves where a row wants them.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::Options;
use super::launch::{apache, free_port, java, metrics_port, ours};
use super::pairs::Side;
use super::scrape::gauge;
use crate::load::recovery::await_master;
use crate::process::Process;
use crate::program::{Program, Running};

const STOP_PATIENCE: Duration = Duration::from_mins(1);
const PORT_PATIENCE: Duration = Duration::from_mins(1);

/// Topic that starts are probed with.
pub(super) const PROBE: &str = "probe";

/// When an answer leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flush {
    /// After the flush.
    Sync,
    /// After the append.
    Async,
}

impl Flush {
    /// The value of `flushDiskType`.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Sync => "SYNC_FLUSH",
            Self::Async => "ASYNC_FLUSH",
        }
    }
}

/// Who takes part in a stage, on each side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cast {
    /// Of the stage, and of its folder.
    pub(super) name: &'static str,
    pub(super) flush: Flush,
    /// Beside the master. An answer leaves when a slave has the message too: with Apache's broker one of them (`inSyncReplicas=2`), with ours
    /// all that are in sync.
    pub(super) slaves: u16,
}

fn await_port(addr: SocketAddr, program: &Program, running: &mut Running) -> anyhow::Result<()> {
    let end = Instant::now() + PORT_PATIENCE;
    while TcpStream::connect(addr).is_err() {
        if running.has_ended()? || Instant::now() > end {
            bail!("{addr} does not open:\n{}", program.log_end());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Apache's name server.
pub(super) struct NameServer {
    _running: Running,
    addr: SocketAddr,
}

impl NameServer {
    pub(super) fn start(options: &Options) -> anyhow::Result<Self> {
        let dir = options.work.join("namesrv");
        fs::create_dir_all(dir.join("conf"))?;
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let config = dir.join("namesrv.conf");
        let text = format!(
            "listenPort={}\nbindAddress=127.0.0.1\nkvConfigPath={}/kv.json\n",
            addr.port(),
            dir.display()
        );
        fs::write(&config, text)?;
        let class = "org.apache.rocketmq.namesrv.NamesrvStartup";
        let flags = ["-server", "-Xms256m", "-Xmx256m"];
        let program = java(options, &dir, &flags, class, &config);
        let mut running = program.start()?;
        await_port(addr, &program, &mut running)?;
        Ok(Self {
            _running: running,
            addr,
        })
    }
}

/// One process.
struct Member {
    program: Program,
    addr: SocketAddr,
    dir: PathBuf,
    running: Option<Running>,
}

impl Member {
    /// Where its metrics are, of a broker of ours with slaves.
    fn metrics(&self) -> SocketAddr {
        SocketAddr::new(self.addr.ip(), metrics_port(self.addr))
    }
}

/// A broker, Apache's or ours, with a store of its own; in a group, with its slaves.
pub(super) struct Broker {
    pub(super) side: Side,
    /// Of the master.
    pub(super) addr: SocketAddr,
    first: Member,
    others: Vec<Member>,
    pub(super) dir: PathBuf,
    /// Anonymous memory of the first process before the first request, in bytes.
    pub(super) idle_bytes: u64,
}

impl Broker {
    /// Starts it on an empty store and waits for its first `SEND_OK`.
    pub(super) fn start(
        options: &Options,
        namesrv: &NameServer,
        side: Side,
        cast: Cast,
    ) -> anyhow::Result<Self> {
        let name = match side {
            Side::Apache => "apache",
            Side::Ours => "ours",
        };
        let group = options.work.join(cast.name).join(name);
        if group.exists() {
            fs::remove_dir_all(&group).with_context(|| group.display().to_string())?;
        }
        fs::create_dir_all(&group)?;
        fs::write(group.join("secret"), [b's'; 32])?;
        let member = |number: u16| {
            let dir = group.join(number.to_string());
            fs::create_dir_all(dir.join("conf"))?;
            let addr = SocketAddr::from(([127, 0, 0, 1], free_port()?));
            let program = match side {
                Side::Apache => apache(options, namesrv.addr, addr, cast, number, &dir)?,
                Side::Ours => ours(options, namesrv.addr, addr, cast, number, &dir),
            };
            anyhow::Ok(Member {
                program,
                addr,
                dir,
                running: None,
            })
        };
        let first = member(0)?;
        let mut broker = Self {
            side,
            addr: first.addr,
            first,
            others: (1..=cast.slaves).map(member).collect::<Result<_, _>>()?,
            dir: group,
            idle_bytes: 0,
        };
        broker.open()?;
        Ok(broker)
    }

    /// Starts its processes, on the stores that there are.
    pub(super) fn open(&mut self) -> anyhow::Result<()> {
        let first = &mut self.first;
        let mut running = first.program.start()?;
        for slave in &mut self.others {
            slave.running = Some(slave.program.start()?);
        }
        await_port(first.addr, &first.program, &mut running)?;
        // A process settles for a moment behind its open port; nobody has asked it anything yet.
        std::thread::sleep(Duration::from_secs(1));
        self.idle_bytes = Process::read(running.pid()).anonymous_bytes;
        // Apache's master is named by its configuration, ours is elected.
        let mut masters = vec![first.addr];
        if self.side == Side::Ours {
            masters.extend(self.others.iter().map(|slave| slave.addr));
        }
        self.addr = await_master(&masters, PROBE, || running.has_ended())
            .with_context(|| first.program.log_end())?;
        first.running = Some(running);
        Ok(())
    }

    /// Of the first process.
    pub(super) fn pid(&self) -> u32 {
        self.first.running.as_ref().map_or(0, Running::pid)
    }

    /// Of all of them.
    pub(super) fn pids(&self) -> Vec<u32> {
        let all = std::iter::once(&self.first).chain(&self.others);
        all.filter_map(|member| Some(member.running.as_ref()?.pid()))
            .collect()
    }

    /// How the first process is started.
    pub(super) fn program(&self) -> &Program {
        &self.first.program
    }

    pub(super) fn has_ended(&mut self) -> bool {
        let running = &mut self.first.running;
        running
            .as_mut()
            .is_none_or(|running| running.has_ended().unwrap_or(true))
    }

    /// Gives the process away, for a caller that kills it.
    pub(super) fn take(&mut self) -> anyhow::Result<Running> {
        self.first.running.take().context("the broker does not run")
    }

    pub(super) fn put(&mut self, running: Running) {
        self.first.running = Some(running);
    }

    /// Ends it in order; its store stays.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        for member in std::iter::once(&mut self.first).chain(&mut self.others) {
            if let Some(running) = member.running.take() {
                running.stop(STOP_PATIENCE)?;
            }
        }
        Ok(())
    }

    fn a_slave(&mut self) -> anyhow::Result<&mut Member> {
        let master = self.addr;
        std::iter::once(&mut self.first)
            .chain(&mut self.others)
            .find(|member| member.addr != master)
            .context("a slave")
    }

    /// Ends a slave in order and takes its disk away.
    pub(super) fn lose_slave(&mut self) -> anyhow::Result<()> {
        let slave = self.a_slave()?;
        if let Some(running) = slave.running.take() {
            running.stop(STOP_PATIENCE)?;
        }
        fs::remove_dir_all(slave.dir.join("store")).context("the store of a slave")
    }

    /// Starts that slave again.
    pub(super) fn start_slave(&mut self) -> anyhow::Result<()> {
        let slave = self.a_slave()?;
        slave.running = Some(slave.program.start()?);
        Ok(())
    }

    /// A gauge of the master, of a broker of ours with slaves; `None` when it does not answer.
    pub(super) fn gauge(&self, name: &str) -> Option<f64> {
        let master = std::iter::once(&self.first)
            .chain(&self.others)
            .find(|member| member.addr == self.addr)?;
        gauge(master.metrics(), name)
    }

    /// Bytes that its store takes on the disk.
    pub(super) fn stored_bytes(&self) -> u64 {
        stored(&self.dir)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.first.running = None;
        self.others.clear();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn stored(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if let Ok(metadata) = entry.metadata() {
            sum += if metadata.is_dir() {
                stored(&entry.path())
            } else {
                metadata.blocks() * 512
            };
        }
    }
    sum
}
