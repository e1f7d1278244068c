//! One figure of a broker of ours, as Prometheus would read it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The first series of a gauge at a `/metrics`.
pub(super) fn gauge(metrics: SocketAddr, name: &str) -> Option<f64> {
    let mut stream = TcpStream::connect(metrics).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {metrics}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let series = text.lines().find(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
    })?;
    series.rsplit(' ').next()?.parse().ok()
}
