//! A TCP proxy that keeps every frame of both directions.
//!
//! It listens on another loopback address than the server, on the same port: 127.0.0.2 for 127.0.0.1. The broker advertises the
//! proxy's address, so clients come this way by themselves and no frame has to be changed.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io::Write, thread};

use anyhow::{Context, Result};

use crate::frame;

/// Which way a frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the side that opened the connection.
    ClientToServer,
    /// To the side that opened the connection.
    ServerToClient,
}

/// One frame as it passed.
#[derive(Debug, Clone)]
pub struct Passed {
    /// Which server, as named to [`Recorder::listen`].
    pub link: &'static str,
    /// Numbers the connections of all links.
    pub connection: u32,
    /// Which way.
    pub direction: Direction,
    /// The whole frame with its length word.
    pub bytes: Vec<u8>,
}

/// What all proxies have seen, in the order of passing.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    passed: Arc<Mutex<Vec<Passed>>>,
    connections: Arc<AtomicU32>,
}

impl Recorder {
    /// Stands between clients of `at` and the server at `to` for the rest of the process.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn listen(&self, link: &'static str, at: SocketAddr, to: SocketAddr) -> Result<()> {
        let listener = TcpListener::bind(at).with_context(|| format!("proxy on {at}"))?;
        let recorder = self.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(to) else {
                    continue;
                };
                let connection = recorder.connections.fetch_add(1, Ordering::Relaxed);
                recorder.pump(
                    link,
                    connection,
                    Direction::ClientToServer,
                    &client,
                    &server,
                );
                recorder.pump(
                    link,
                    connection,
                    Direction::ServerToClient,
                    &server,
                    &client,
                );
            }
        });
        Ok(())
    }

    fn pump(
        &self,
        link: &'static str,
        connection: u32,
        direction: Direction,
        from: &TcpStream,
        to: &TcpStream,
    ) {
        let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else {
            return;
        };
        let recorder = self.clone();
        thread::spawn(move || {
            while let Ok(Some(bytes)) = frame::read(&mut from) {
                // Kept before it is passed on, so that an answer never stands before its request.
                let sent = bytes.clone();
                recorder
                    .passed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(Passed {
                        link,
                        connection,
                        direction,
                        bytes,
                    });
                if to.write_all(&sent).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        });
    }

    /// Takes out what passed so far over links for which `wanted` holds.
    pub fn take(&self, wanted: impl Fn(&str) -> bool) -> Vec<Passed> {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let (taken, kept) = std::mem::take(&mut *passed)
            .into_iter()
            .partition(|p| wanted(p.link));
        *passed = kept;
        taken
    }
}
