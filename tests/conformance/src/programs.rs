//! Apache's programs and our drivers, got by ordinary means: Maven and Go fetch what `java/*.xml` and `go/go.mod` name, `javac` and
//! `go build` compile our own sources against it.
//!
//! Results stay in `${XDG_CACHE_HOME:-$HOME/.cache}/rocketcluster/conformance/`, in folders named for the content that made them, so
//! that a second run needs no network and a changed source makes a new folder. Missing tools are installed by apt-get when this runs
//! as root; else the reason is kept and each test that needs them says loudly what it did not show.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

const DEPENDENCY_PLUGIN: &str =
    "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies";

/// Where the compiled and fetched programs are.
#[derive(Debug)]
pub struct Programs {
    /// Class path of Apache's name server, broker and tools 5.4.0, with our `Admin`.
    pub apache: String,
    /// Class path of the client 4.9.8 with our driver.
    pub client_4_9: String,
    /// Class path of the client 5.4.0 with our driver.
    pub client_5: String,
    /// Our driver over client-go v2.
    pub go: PathBuf,
}

/// The programs, prepared once per process, or why they are missing.
pub fn programs() -> Result<&'static Programs, &'static str> {
    static PROGRAMS: OnceLock<Result<Programs, String>> = OnceLock::new();
    PROGRAMS
        .get_or_init(|| prepare().map_err(|e| format!("{e:#}")))
        .as_ref()
        .map_err(String::as_str)
}

/// The programs, or a loud skip that names what was not shown.
///
/// # Panics
/// With `CI=true`, where a miss is a failure.
pub fn programs_or_skip(not_shown: &str) -> Option<&'static Programs> {
    or_skip(programs(), not_shown)
}

/// What was got, or a loud skip that names what was not shown.
///
/// # Panics
/// With `CI=true`, where a miss is a failure.
#[expect(
    clippy::panic,
    reason = "a miss has to fail the test that asked when CI promises the programs"
)]
fn or_skip<T, E: std::fmt::Display>(got: Result<T, E>, not_shown: &str) -> Option<T> {
    match got {
        Ok(got) => Some(got),
        Err(why) if std::env::var("CI").is_ok_and(|v| v == "true") => {
            panic!("NOT SHOWN: {not_shown}: {why:#}")
        }
        Err(why) => {
            // Past the capture of test output: a skip that nobody sees is a lie.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED, NOT SHOWN: {not_shown}: {why:#}"
            );
            None
        }
    }
}

fn prepare() -> Result<Programs> {
    install_missing()?;
    let java = Path::new(env!("CARGO_MANIFEST_DIR")).join("java");
    let apache = jars(&java.join("apache-5.4.0.xml"), "apache-5.4.0")?;
    let old = jars(&java.join("client-4.9.8.xml"), "client-4.9.8")?;
    let admin = classes(&java.join("admin"), &apache, "admin-5.4.0")?;
    let driver_5 = classes(&java.join("driver"), &apache, "driver-5.4.0")?;
    let driver_4_9 = classes(&java.join("driver"), &old, "driver-4.9.8")?;
    Ok(Programs {
        apache: class_path(&apache, &admin),
        client_4_9: class_path(&old, &driver_4_9),
        client_5: class_path(&apache, &driver_5),
        go: go_driver()?,
    })
}

/// Class path of Apache's client and tools 5.4.0 with our `Roundtrip`: what the demonstration needs, without all the rest.
///
/// # Errors
/// When it can be neither found in the cache nor made.
pub fn official_client() -> Result<String> {
    install_missing()?;
    let java = Path::new(env!("CARGO_MANIFEST_DIR")).join("java");
    let apache = jars(&java.join("apache-5.4.0.xml"), "apache-5.4.0")?;
    let roundtrip = classes(&java.join("roundtrip"), &apache, "roundtrip-5.4.0")?;
    Ok(class_path(&apache, &roundtrip))
}

/// Class paths of both clients with our `Load`, each with the client's version; or a loud skip that names what was not shown.
///
/// # Panics
/// With `CI=true`, where a miss is a failure.
pub fn loads_or_skip(not_shown: &str) -> Option<[(&'static str, String); 2]> {
    or_skip(with_both("load"), not_shown)
}

/// As [`loads_or_skip`] with our `Orderly`.
///
/// # Panics
/// With `CI=true`, where a miss is a failure.
pub fn orderlies_or_skip(not_shown: &str) -> Option<[(&'static str, String); 2]> {
    or_skip(with_both("orderly"), not_shown)
}

/// The program whose source is in this folder, with either client.
fn with_both(folder: &str) -> Result<[(&'static str, String); 2]> {
    install_missing()?;
    let java = Path::new(env!("CARGO_MANIFEST_DIR")).join("java");
    let source = java.join(folder);
    let old = jars(&java.join("client-4.9.8.xml"), "client-4.9.8")?;
    let new = jars(&java.join("apache-5.4.0.xml"), "apache-5.4.0")?;
    let with_old = classes(&source, &old, &format!("{folder}-4.9.8"))?;
    let with_new = classes(&source, &new, &format!("{folder}-5.4.0"))?;
    Ok([
        ("4.9.8", class_path(&old, &with_old)),
        ("5.4.0", class_path(&new, &with_new)),
    ])
}

fn class_path(jars: &Path, classes: &Path) -> String {
    format!("{}/*:{}", jars.display(), classes.display())
}

fn install_missing() -> Result<()> {
    let missing: Vec<&str> = [
        ("javac", "default-jdk-headless"),
        ("mvn", "maven"),
        ("go", "golang"),
    ]
    .iter()
    .filter(|(program, _)| {
        Command::new(program)
            .arg(if *program == "go" {
                "version"
            } else {
                "-version"
            })
            .output()
            .is_err()
    })
    .map(|(_, package)| *package)
    .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|o| o.stdout.starts_with(b"0\n"));
    if !root {
        bail!(
            "missing packages: {} (install them, or run as root)",
            missing.join(" ")
        );
    }
    run(Command::new("apt-get").args(["update", "-qq"])).ok(); // lists may be fresh enough without
    run(Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

fn jars(pom: &Path, name: &str) -> Result<PathBuf> {
    cached(name, &read(&[pom.to_owned()])?, |out| {
        run(Command::new("mvn")
            .args(["-q", "-B", "-f"])
            .arg(pom)
            .arg(DEPENDENCY_PLUGIN)
            .arg(format!("-DoutputDirectory={}", out.display()))
            .arg("-DincludeScope=runtime"))
    })
}

fn classes(sources: &Path, jars: &Path, name: &str) -> Result<PathBuf> {
    let files = files(sources, "java")?;
    let mut content = read(&files)?;
    content.extend(jars.as_os_str().as_encoded_bytes());
    cached(name, &content, |out| {
        run(Command::new("javac")
            .args(["-nowarn", "-d"])
            .arg(out)
            .arg("-cp")
            .arg(format!("{}/*", jars.display()))
            .args(&files))
    })
}

fn go_driver() -> Result<PathBuf> {
    let go = Path::new(env!("CARGO_MANIFEST_DIR")).join("go");
    let mut sources = files(&go, "go")?;
    sources.extend([go.join("go.mod"), go.join("go.sum")]);
    let dir = cached("go-2.1.2", &read(&sources)?, |out| {
        run(Command::new("go")
            .current_dir(&go)
            .args(["build", "-buildvcs=false", "-o"])
            .arg(out.join("driver"))
            .arg("."))
    })?;
    Ok(dir.join("driver"))
}

fn files(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)?
        .flatten()
        .map(|e| e.path())
        .collect();
    files.retain(|p| p.extension().is_some_and(|e| e == extension));
    files.sort();
    Ok(files)
}

fn read(files: &[PathBuf]) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    for file in files {
        all.extend(std::fs::read(file).with_context(|| format!("read {}", file.display()))?);
    }
    Ok(all)
}

/// The folder of this content, made by `make` in a side folder first, so that a half-made one is never found.
fn cached(name: &str, content: &[u8], make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let base = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => PathBuf::from(home).join(".cache"),
        (None, None) => bail!("neither XDG_CACHE_HOME nor HOME is set"),
    };
    let dir = base
        .join("rocketcluster/conformance")
        .join(format!("{name}-{:016x}", fnv(content)));
    if dir.is_dir() {
        return Ok(dir);
    }
    let side = dir.with_extension(format!("making-{}", std::process::id()));
    std::fs::create_dir_all(&side)?;
    make(&side).with_context(|| format!("making {name}"))?;
    if std::fs::rename(&side, &dir).is_err() {
        std::fs::remove_dir_all(&side).ok(); // another process was first
    }
    Ok(dir)
}

/// FNV-1a, 64 bits: names folders, guards nothing.
fn fnv(content: &[u8]) -> u64 {
    content.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// `java` with a bounded heap and the openings into the JDK that RocketMQ wants on 17, with its home and logs in `dir`.
pub fn java(
    class_path: &str,
    heap_mb: u32,
    dir: &Path,
    properties: &BTreeMap<&str, &str>,
) -> Command {
    let mut command = Command::new("java");
    command
        .args([
            format!("-Xmx{heap_mb}m"),
            format!("-XX:MaxDirectMemorySize={heap_mb}m"),
        ])
        .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .args([
            "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
            "--add-opens=java.base/java.nio=ALL-UNNAMED",
        ])
        .arg("--add-opens=java.base/sun.nio.ch=ALL-UNNAMED")
        .arg(format!("-Duser.home={}", dir.display()))
        .arg(format!("-Drocketmq.home.dir={}", dir.display()))
        .arg(format!(
            "-Drocketmq.client.logRoot={}/client-logs",
            dir.display()
        ))
        .args(properties.iter().map(|(k, v)| format!("-D{k}={v}")))
        .args(["-cp", class_path])
        .current_dir(dir);
    command
}
