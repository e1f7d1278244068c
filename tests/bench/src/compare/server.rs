//! Apache's name server and broker, and our broker, as processes on loopback.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::Options;
use super::pairs::Side;
use crate::load::recovery::await_send_ok;
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
    fn key(self) -> &'static str {
        match self {
            Self::Sync => "SYNC_FLUSH",
            Self::Async => "ASYNC_FLUSH",
        }
    }
}

/// The openings into the JDK that RocketMQ wants on Java 17, as Apache's start script has them.
const OPENINGS: [&str; 3] = [
    "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
];

/// Apache's own flags but for the heap, which is 1 GiB instead of 8.
const BROKER_FLAGS: [&str; 9] = [
    "-server",
    "-Xms1g",
    "-Xmx1g",
    "-XX:MaxDirectMemorySize=1g",
    "-XX:+UseG1GC",
    "-XX:G1HeapRegionSize=16m",
    "-XX:G1ReservePercent=25",
    "-XX:InitiatingHeapOccupancyPercent=30",
    "-XX:+AlwaysPreTouch",
];

/// A port p of 127.0.0.1 with p-2 and p+1 free too, where a broker also listens; below the range of outgoing connections.
fn free_port() -> anyhow::Result<u16> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 800)? * 10;
    for _ in 0..1000 {
        let port = 20_000 + (first + NEXT.fetch_add(10, Ordering::Relaxed)) % 12_000;
        let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        if [port - 2, port, port + 1].iter().all(free) {
            return Ok(port);
        }
    }
    bail!("no free port between 20000 and 32000")
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

fn java(options: &Options, dir: &Path, flags: &[&str], class: &str, config: &Path) -> Program {
    let mut command = on_cores(options);
    command.push("java".to_owned());
    command.extend(flags.iter().chain(&OPENINGS).map(|flag| (*flag).to_owned()));
    command.extend([
        format!("-Duser.home={}", dir.display()),
        format!("-Drocketmq.home.dir={}", dir.display()),
        format!("-Drocketmq.client.logRoot={}/logs", dir.display()),
        "-cp".to_owned(),
        format!("{}/*", options.apache_jars.display()),
        class.to_owned(),
        "-c".to_owned(),
        config.display().to_string(),
    ]);
    Program {
        command,
        dir: Some(dir.to_owned()),
        log: dir.join("out.log"),
    }
}

fn on_cores(options: &Options) -> Vec<String> {
    match &options.cores {
        Some(cores) => vec!["taskset".to_owned(), "-c".to_owned(), cores.clone()],
        None => Vec::new(),
    }
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

/// A broker, Apache's or ours, with a store of its own.
pub(super) struct Broker {
    pub(super) side: Side,
    pub(super) addr: SocketAddr,
    pub(super) program: Program,
    running: Option<Running>,
    pub(super) dir: PathBuf,
    /// Anonymous memory before the first request, in bytes.
    pub(super) idle_bytes: u64,
}

impl Broker {
    /// Starts it on an empty store and waits for its first `SEND_OK`.
    pub(super) fn start(
        options: &Options,
        namesrv: &NameServer,
        side: Side,
        flush: Flush,
        stage: &str,
    ) -> anyhow::Result<Self> {
        let name = match side {
            Side::Apache => "apache",
            Side::Ours => "ours",
        };
        let dir = options.work.join(stage).join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
        }
        fs::create_dir_all(dir.join("conf"))?;
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let program = match side {
            Side::Apache => apache(options, namesrv, addr, flush, &dir)?,
            Side::Ours => ours(options, namesrv, addr, flush, &dir),
        };
        let mut broker = Self {
            side,
            addr,
            program,
            running: None,
            dir,
            idle_bytes: 0,
        };
        broker.open()?;
        Ok(broker)
    }

    /// Starts its process, on the store that there is.
    pub(super) fn open(&mut self) -> anyhow::Result<()> {
        let mut running = self.program.start()?;
        await_port(self.addr, &self.program, &mut running)?;
        // A process settles for a moment behind its open port; nobody has asked it anything yet.
        std::thread::sleep(Duration::from_secs(1));
        self.idle_bytes = Process::read(running.pid()).anonymous_bytes;
        await_send_ok(self.addr, PROBE, || running.has_ended())
            .with_context(|| self.program.log_end())?;
        self.running = Some(running);
        Ok(())
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.as_ref().map_or(0, Running::pid)
    }

    pub(super) fn has_ended(&mut self) -> bool {
        self.running
            .as_mut()
            .is_none_or(|running| running.has_ended().unwrap_or(true))
    }

    /// Gives the process away, for a caller that kills it.
    pub(super) fn take(&mut self) -> anyhow::Result<Running> {
        self.running.take().context("the broker does not run")
    }

    pub(super) fn put(&mut self, running: Running) {
        self.running = Some(running);
    }

    /// Ends it in order; its store stays.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        match self.running.take() {
            Some(running) => running.stop(STOP_PATIENCE),
            None => Ok(()),
        }
    }

    /// Bytes that its store takes on the disk.
    pub(super) fn stored_bytes(&self) -> u64 {
        stored(&self.dir)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.running = None;
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

fn apache(
    options: &Options,
    namesrv: &NameServer,
    addr: SocketAddr,
    flush: Flush,
    dir: &Path,
) -> anyhow::Result<Program> {
    let config = dir.join("broker.conf");
    let text = format!(
        "brokerClusterName=DefaultCluster\nbrokerName=broker-a\nbrokerId=0\nnamesrvAddr={}\n\
         brokerIP1=127.0.0.1\nbrokerIP2=127.0.0.1\nbindAddress=127.0.0.1\nlistenPort={}\nhaListenPort={}\n\
         storePathRootDir={store}\nstorePathCommitLog={store}/commitlog\ndiskMaxUsedSpaceRatio=95\n\
         brokerRole=ASYNC_MASTER\nflushDiskType={}\n",
        namesrv.addr,
        addr.port(),
        addr.port() + 1,
        flush.key(),
        store = dir.join("store").display(),
    );
    fs::write(&config, text)?;
    let class = "org.apache.rocketmq.broker.BrokerStartup";
    Ok(java(options, dir, &BROKER_FLAGS, class, &config))
}

fn ours(
    options: &Options,
    namesrv: &NameServer,
    addr: SocketAddr,
    flush: Flush,
    dir: &Path,
) -> Program {
    let mut command = on_cores(options);
    command.extend([
        options.broker_bin.display().to_string(),
        "broker".to_owned(),
        "--data".to_owned(),
        dir.join("store").display().to_string(),
        "--bind".to_owned(),
        "127.0.0.1".to_owned(),
    ]);
    let keys = [
        "brokerName=broker-b".to_owned(),
        format!("namesrvAddr={}", namesrv.addr),
        "brokerIP1=127.0.0.1".to_owned(),
        format!("listenPort={}", addr.port()),
        "metricsPort=0".to_owned(),
        "diskMaxUsedSpaceRatio=95".to_owned(),
        "diskSpaceCleanForciblyRatio=97".to_owned(),
        "diskSpaceWarningLevelRatio=98".to_owned(),
        format!("flushDiskType={}", flush.key()),
    ];
    for key in keys.into_iter().chain(options.set.iter().cloned()) {
        command.extend(["--set".to_owned(), key]);
    }
    Program {
        command,
        dir: Some(dir.to_owned()),
        log: dir.join("out.log"),
    }
}
