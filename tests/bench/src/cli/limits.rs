//! `limits`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use bench::limits::{self, FileKind, Limits};
use clap::Args;

use super::output::{self, line, span};

#[derive(Args)]
#[command(after_help = "\
Takes less than ten seconds. Files of up to 2.2 GiB are reserved in the folder (about 1 GiB is written) and removed.

Example:
  rocket-bench limits --dir /data --json > before.json")]
pub(super) struct LimitsArgs {
    /// Folder on the disk that is to be measured
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &LimitsArgs) -> anyhow::Result<ExitCode> {
    let begin = Instant::now();
    let limits = limits::measure(&args.dir, limits::USUAL_TIME, &mut |what| {
        eprintln!("{:4.1} s: {what}", begin.elapsed().as_secs_f64());
    })?;
    eprintln!("{:4.1} s: done", begin.elapsed().as_secs_f64());
    if args.json {
        output::json(&limits)?;
    } else {
        print(&limits);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(limits: &Limits) {
    println!("write and fdatasync          per second       p50        p99");
    for flush in &limits.flushes {
        let file = match flush.file {
            FileKind::Fallocated => "fallocated",
            FileKind::Zeros => "zeros",
        };
        let what = format!(
            "{file}, {:.0} KiB, {} at once",
            f64::from(flush.bytes) / 1024.0,
            flush.depth
        );
        line(
            &what,
            format!(
                "{:>10.0} {:>10} {:>10}",
                flush.per_s,
                span(flush.p50_us),
                span(flush.p99_us)
            ),
        );
    }
    let rate = limits.sync_messages_per_s();
    line(
        "64 in flight, flushes alone",
        format!("{rate:.0} messages of 1 KiB/s"),
    );
    line(
        "pwrite, page cache",
        format!("{:.0} MB/s", limits.pwrite_mb_per_s),
    );
    line(
        "read through a map",
        format!("{:.0} MB/s", limits.map_read_mb_per_s),
    );
    line(
        "sendfile",
        format!(
            "{:.0} MB/s, {:.0} MB per CPU second",
            limits.sendfile_mb_per_s, limits.sendfile_mb_per_cpu_s
        ),
    );
    line(
        "receive and pwrite",
        format!("{:.0} MB/s", limits.receive_pwrite_mb_per_s),
    );
    line(
        "TCP echo, one at a time",
        format!(
            "{:.0}/s, p50 {}",
            limits.echo_1_per_s,
            span(limits.echo_1_p50_us)
        ),
    );
    line(
        "TCP echo, 64 in flight",
        format!("{:.0}/s", limits.echo_64_per_s),
    );
    line(
        "processor",
        format!("{:.0} million steps/s", limits.cpu_million_per_s),
    );
}
