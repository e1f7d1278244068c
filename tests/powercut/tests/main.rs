//! The medium under the kernel: what `rocket-mapped-file` does on it works, and a cut takes what was not synced.
#![forbid(unsafe_code)]

use std::process::Command;

/// The status of "cannot be shown here".
const CANNOT: i32 = 77;

#[test]
fn files_work_on_the_mounted_medium_and_a_cut_takes_what_was_not_synced() {
    let output = Command::new(env!("CARGO_BIN_EXE_powercut"))
        .args(["--selftest", "--broker", "none"])
        .output()
        .expect("powercut");
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.code() == Some(CANNOT) {
        println!("{text}");
        return;
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
}
