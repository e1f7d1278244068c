//! Folders that Apache's broker 5.4.0 wrote and in which something is not finished.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::{PROGRAM, Running};

/// The sizes of files in the fixtures.
const SIZES: [&str; 3] = [
    "mappedFileSizeConsumeQueue=2000",
    "mappedFileSizeCommitLog=1048576",
    "maxMessageSize=65536",
];

/// A folder with one transaction that was neither committed nor rolled back.
fn of_apache() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/store/apache-5.4.0-clean.tar.gz"
    );
    let unpacked = Command::new("tar")
        .args(["-xmzf", fixture, "-C"])
        .arg(dir.path())
        .status();
    assert!(unpacked.unwrap().success());
    dir
}

/// Puts a timer message into it that is not on the wheel.
fn put_timer(dir: &Path) {
    let queue = dir.join("consumequeue/rmq_sys_wheel_timer/0");
    std::fs::create_dir_all(&queue).unwrap();
    let mut units = vec![0; 2_000];
    units[..20].copy_from_slice(&unit(0, 100));
    std::fs::write(queue.join("00000000000000000000"), units).unwrap();
}

/// Physical offset, size, and no tag.
fn unit(at: u64, size: u32) -> [u8; 20] {
    let mut unit = [0; 20];
    unit[..8].copy_from_slice(&at.to_be_bytes());
    unit[8..12].copy_from_slice(&size.to_be_bytes());
    unit
}

/// The status and the words with which a start ends, which it has to.
fn refusal(dir: &Path) -> (Option<i32>, String) {
    let mut child = Command::new(PROGRAM)
        .args(["standalone", "--namesrv-port", "0", "--broker-port", "0"])
        .args(["--metrics-port", "0", "--data"])
        .arg(dir)
        .args(SIZES.iter().flat_map(|set| ["--set", *set]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    if out.read_line(&mut said).unwrap() > 0 {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("it serves: {said}");
    }
    let mut why = String::new();
    let mut err = child.stderr.take().unwrap();
    err.read_to_string(&mut why).unwrap();
    (child.wait().unwrap().code(), why)
}

#[test]
fn what_apache_has_not_finished_is_not_taken_over_in_silence() {
    let dir = of_apache();
    put_timer(dir.path());
    for _ in 0..2 {
        // Nothing was changed by the first one.
        let (status, why) = refusal(dir.path());
        assert_eq!(status, Some(2), "{why}");
        for word in [
            "1 prepared messages of transactions (RMQ_SYS_TRANS_HALF_TOPIC)",
            "1 timer messages (rmq_sys_wheel_timer)",
            "giveUpUnfinishedMessages=true",
        ] {
            assert!(why.contains(word), "{word} in {why}");
        }
        assert!(!why.contains("POP"), "{why}");
        assert!(dir.path().join("consumequeue/fixture_orders").is_dir());
        assert!(!dir.path().join("rocket").exists());
    }
    let mut more = vec!["--set", "giveUpUnfinishedMessages=true"];
    more.extend(SIZES.iter().flat_map(|set| ["--set", *set]));
    let mut process = Running::standalone(dir.path(), &more);
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.exit_status(), Some(0));
    // It is this broker's now.
    let mut process = Running::standalone(dir.path(), &more[2..]);
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.exit_status(), Some(0));
}
