//! `rocket-broker` from its start to its exit.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, pidfd_send_signal, waitpid,
};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_rocket-broker");
/// Generous: a machine under load must not fail a test.
const PATIENCE: Duration = Duration::from_secs(30);

/// No test needs a process for so long.
const LIFE: Duration = Duration::from_mins(10);

pub(crate) struct Running {
    child: Child,
    _life: Sender<()>,
    out: BufReader<ChildStdout>,
    addresses: Vec<(String, String)>,
}

impl Running {
    /// Starts a standalone process on free ports and waits for `ready`.
    pub(crate) fn standalone(data: &Path, more: &[&str]) -> Self {
        let ports = [
            "standalone",
            "--namesrv-port",
            "0",
            "--broker-port",
            "0",
            "--metrics-port",
            "0",
            "--data",
            data.to_str().unwrap(),
        ];
        Self::start(&[&ports[..], more].concat())
    }

    /// Starts a process with these arguments and waits for `ready`.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::logging_to(Stdio::inherit(), args)
    }

    fn logging_to(log: Stdio, args: &[&str]) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let life = lives(&child);
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut addresses = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(
                out.read_line(&mut line).unwrap(),
                0,
                "it ended before it was ready"
            );
            match line.trim().rsplit_once(' ') {
                Some((what, address)) => addresses.push((what.to_owned(), address.to_owned())),
                None if line.trim() == "ready" => {
                    return Self {
                        child,
                        _life: life,
                        out,
                        addresses,
                    };
                }
                None => panic!("unexpected line {line:?}"),
            }
        }
    }

    pub(crate) fn address(&self, what: &str) -> &str {
        &self
            .addresses
            .iter()
            .find(|(name, _)| name == what)
            .unwrap()
            .1
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it, and returns when it stands still: until its threads have heard of the signal it goes on serving.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
        let child = Some(Pid::from_child(&self.child));
        let (_, status) = waitpid(child, WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped(), "{status:?}");
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn exit_status(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        // Reading to the end of its output is how its exit is awaited.
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        assert!(Instant::now() < end, "it did not end in time");
        let status = self.child.wait().unwrap();
        assert!(status.code().is_some(), "{status}");
        status.code()
    }

    pub(crate) fn http(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address("metrics")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        (status, body)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A failed test must not leave its process behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills the process when it lives for too long, unless what is returned is dropped before: a test that waits for it in vain ends then.
#[expect(
    clippy::print_stderr,
    reason = "it says why the process of a test was killed"
)]
fn lives(child: &Child) -> Sender<()> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).unwrap();
    let (life, ends) = channel();
    thread::spawn(move || {
        if ends.recv_timeout(LIFE) == Err(RecvTimeoutError::Timeout) {
            eprintln!("a process of a test lives for {LIFE:?} and is killed");
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    });
    life
}

pub(crate) fn run(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(PROGRAM).args(args).output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn standalone_says_where_it_listens_and_leaves_with_0_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Running::standalone(folder.path(), &[]);
    for what in ["name server", "broker", "metrics"] {
        assert!(process.address(what).starts_with("127.0.0.1:"), "{what}");
        TcpStream::connect(process.address(what)).unwrap();
    }
    process.signal(Signal::TERM);
    assert_eq!(process.exit_status(), Some(0));
}

#[test]
fn standalone_leaves_with_0_on_an_interrupt_and_starts_again_on_the_same_data() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut process = Running::standalone(folder.path(), &[]);
        process.signal(Signal::INT);
        assert_eq!(process.exit_status(), Some(0));
    }
}

#[test]
fn probes_and_metrics_tell_what_is_true() {
    let folder = tempfile::tempdir().unwrap();
    let process = Running::standalone(folder.path(), &[]);
    assert_eq!(process.http("/livez").0, 200);
    assert_eq!(
        process.http("/readyz"),
        (200, r#"{"ready":true,"role":"master"}"#.to_owned())
    );
    let (status, metrics) = process.http("/metrics");
    assert_eq!(status, 200);
    for name in [
        "rocketmq_storage_size{",
        "rocketmq_broker_permission{",
        "rocket_role{",
        "rocket_namesrv_brokers{",
    ] {
        assert!(
            metrics.lines().any(|line| line.starts_with(name)),
            "{name} is not in\n{metrics}"
        );
    }
    assert!(
        metrics
            .lines()
            .any(|line| line.starts_with("rocket_namesrv_registered{") && line.ends_with("} 1")),
        "{metrics}"
    );
}

#[test]
fn a_replica_that_is_not_the_fixed_master_is_ready_as_a_standby_and_registers_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let process = Running::standalone(
        folder.path(),
        &["--set", "replicaName=c-0-1", "--set", "fixedMaster=c-0-0"],
    );
    assert_eq!(
        process.http("/readyz"),
        (200, r#"{"ready":true,"role":"standby"}"#.to_owned())
    );
    let metrics = process.http("/metrics").1;
    assert!(
        metrics
            .lines()
            .any(|line| line.starts_with("rocket_namesrv_brokers{") && line.ends_with("} 0")),
        "{metrics}"
    );
    assert!(
        metrics
            .lines()
            .any(|line| line.starts_with("rocket_role{") && line.ends_with("} 0")),
        "{metrics}"
    );
}

#[test]
fn a_wrong_configuration_ends_the_start_with_2_and_names_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker.conf");
    std::fs::write(&file, "brokerName=a\nflushDiskTyp=SYNC_FLUSH\n").unwrap();
    let path = file.display().to_string();
    let (status, message) = run(&["broker", "--config", &path]);
    assert_eq!(status, Some(2));
    assert_eq!(
        message,
        format!(
            "rocket-broker: {path}:2: unknown key `flushDiskTyp`; did you mean `flushDiskType`?\n"
        )
    );
    assert_eq!(run(&["broker", "--set", "listenPort=x"]).0, Some(2));
    assert_eq!(
        run(&["namesrv", "--config", "/nowhere/namesrv.conf"]).0,
        Some(2)
    );
    assert_eq!(run(&["broker", "--no-such-flag"]).0, Some(2));
}

#[test]
fn a_taken_port_ends_the_start_with_1_and_names_the_address() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let data = folder.path().display().to_string();
    let set = format!("listenPort={port}");
    let (status, message) = run(&[
        "broker",
        "--data",
        &data,
        "--bind",
        "127.0.0.1",
        "--set",
        "metricsPort=0",
        "--set",
        &set,
    ]);
    assert_eq!(status, Some(1), "{message}");
    assert!(
        message.contains(&format!("cannot listen on 127.0.0.1:{port}: ")),
        "{message}"
    );
}

#[test]
fn an_export_waits_for_an_orderly_stop_and_then_copies_what_is_not_ours() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("data"), folder.path().join("out"));
    let mut process = Running::standalone(&data, &[]);
    let args = [
        "export",
        "--data",
        data.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ];
    let (status, reason) = run(&args);
    assert_eq!(status, Some(1));
    assert!(reason.contains("in use"), "{reason}");
    assert!(!out.exists());
    process.signal(Signal::TERM);
    assert_eq!(process.exit_status(), Some(0));
    assert_eq!(run(&args).0, Some(0));
    assert!(out.join("checkpoint").is_file());
    assert!(!out.join("rocket").exists());
}

#[test]
fn log_that_cannot_be_written_ends_no_broker() {
    let folder = tempfile::tempdir().unwrap();
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let data = folder.path().to_str().unwrap();
    let ports = [
        "--namesrv-port",
        "0",
        "--broker-port",
        "0",
        "--metrics-port",
        "0",
    ];
    let args = [&["standalone", "--data", data], &ports[..]].concat();
    let mut broker = Running::logging_to(full.into(), &args);
    broker.signal(Signal::TERM);
    assert_eq!(broker.exit_status(), Some(0));
}
