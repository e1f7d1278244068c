//! Apache's own client and tools 5.4.0 as one command, for demonstrations and for looking at a cluster by hand.
//!
//! ```text
//! official-client prepare                           fetch and compile what the others need; the only one that uses the network
//! official-client roundtrip NAMESRV TOPIC COUNT     send COUNT messages, receive them, and hold one against the other
//! official-client mqadmin COMMAND...                Apache's mqadmin
//! ```
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use conformance::process::scratch;
use conformance::programs::{java, official_client};

const USAGE: &str =
    "usage: official-client prepare | roundtrip NAMESRV TOPIC COUNT | mqadmin COMMAND...";

fn main() -> Result<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (class, args) = match args.as_slice() {
        ["prepare"] => {
            official_client()?;
            return Ok(ExitCode::SUCCESS);
        }
        ["roundtrip", args @ ..] if args.len() == 3 => ("Roundtrip", args),
        ["mqadmin", args @ ..] => ("org.apache.rocketmq.tools.command.MQAdminStartup", args),
        _ => bail!(USAGE),
    };
    let class_path = official_client().context("official-client prepare")?;
    let mut command = java(&class_path, 256, &scratch("client")?, &BTreeMap::new());
    let mut child = command
        .arg(class)
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .context("java")?;
    let output = child.stdout.take().context("standard output of java")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        // What logback says of its own set-up.
        if !line.contains(" |-") {
            writeln!(std::io::stdout(), "{line}")?;
        }
    }
    let code = child
        .wait()?
        .code()
        .and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
