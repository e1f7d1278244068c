//! The command lines and configurations of Apache's programs and of our broker.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use anyhow::bail;

use super::Options;
use super::server::Cast;
use crate::program::Program;

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

/// A port p of 127.0.0.1 with p-2, p+1 and p+2 free too, where a broker also listens; below the range of outgoing connections.
pub(super) fn free_port() -> anyhow::Result<u16> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 800)? * 10;
    for _ in 0..1000 {
        let port = 20_000 + (first + NEXT.fetch_add(10, Ordering::Relaxed)) % 12_000;
        let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        if [port - 2, port, port + 1, port + 2].iter().all(free) {
            return Ok(port);
        }
    }
    bail!("no free port between 20000 and 32000")
}

pub(super) fn java(
    options: &Options,
    dir: &Path,
    flags: &[&str],
    class: &str,
    config: &Path,
) -> Program {
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

/// Behind the port for replicas.
pub(super) fn metrics_port(addr: SocketAddr) -> u16 {
    addr.port() + 2
}

pub(super) fn apache(
    options: &Options,
    namesrv: SocketAddr,
    addr: SocketAddr,
    cast: Cast,
    number: u16,
    dir: &Path,
) -> anyhow::Result<Program> {
    let role = match (number, cast.slaves) {
        (0, 0) => "brokerRole=ASYNC_MASTER",
        // Without the second key it waits for nobody.
        (0, _) => "brokerRole=SYNC_MASTER\ninSyncReplicas=2",
        _ => "brokerRole=SLAVE",
    };
    let config = dir.join("broker.conf");
    let text = format!(
        "brokerClusterName=DefaultCluster\nbrokerName=broker-a\nbrokerId={number}\nnamesrvAddr={}\n\
         brokerIP1=127.0.0.1\nbrokerIP2=127.0.0.1\nbindAddress=127.0.0.1\nlistenPort={}\nhaListenPort={}\n\
         storePathRootDir={store}\nstorePathCommitLog={store}/commitlog\ndiskMaxUsedSpaceRatio=95\n\
         {role}\nflushDiskType={}\n",
        namesrv,
        addr.port(),
        addr.port() + 1,
        cast.flush.key(),
        store = dir.join("store").display(),
    );
    fs::write(&config, text)?;
    let class = "org.apache.rocketmq.broker.BrokerStartup";
    Ok(java(options, dir, &BROKER_FLAGS, class, &config))
}

pub(super) fn ours(
    options: &Options,
    namesrv: SocketAddr,
    addr: SocketAddr,
    cast: Cast,
    number: u16,
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
    let mut keys = vec![
        "brokerName=broker-b".to_owned(),
        format!("namesrvAddr={}", namesrv),
        "brokerIP1=127.0.0.1".to_owned(),
        format!("listenPort={}", addr.port()),
        // A scrape costs something, so only groups have them.
        match cast.slaves {
            0 => "metricsPort=0".to_owned(),
            _ => format!("metricsPort={}", metrics_port(addr)),
        },
        "diskMaxUsedSpaceRatio=95".to_owned(),
        "diskSpaceCleanForciblyRatio=97".to_owned(),
        "diskSpaceWarningLevelRatio=98".to_owned(),
        format!("flushDiskType={}", cast.flush.key()),
    ];
    if cast.slaves > 0 {
        let group = options.work.join(cast.name).join("ours");
        command.extend(["--replica".to_owned(), format!("r{number}")]);
        keys.extend([
            format!("coordinator=file:{}/group/state.json", group.display()),
            format!("replicationSecretFile={}", group.join("secret").display()),
            format!("totalReplicas={}", cast.slaves + 1),
            "brokerRole=SYNC_MASTER".to_owned(),
            "minInSyncReplicas=2".to_owned(),
        ]);
    }
    for key in keys.into_iter().chain(options.set.iter().cloned()) {
        command.extend(["--set".to_owned(), key]);
    }
    Program {
        command,
        dir: Some(dir.to_owned()),
        log: dir.join("out.log"),
    }
}
