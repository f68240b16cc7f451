// SPDX-License-Identifier: GPL-2.0-only
//! Serves the scheduler's counters at the socket that tools of sched_ext schedulers expect, in the protocol of the crate
//! `scx_stats` (version 1): each request and each answer is one line of JSON. The main loop serves the
//! socket itself, so that the process keeps its single thread.

use anyhow::{Context, Result};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

/// The socket of the scheduler that is attached to all tasks.
const SOCKET: &str = "/var/run/scx/root/stats";

/// The longest request in bytes. A client that sends more is disconnected.
const MOST: usize = 4096;

/// The values that the scheduler serves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    /// The number of calls of `ops.dispatch`, in which the kernel asks for tasks for a CPU.
    pub(crate) nr_dispatched: u64,
    /// The number of calls of `ops.enqueue`, in which the kernel hands over a runnable task.
    pub(crate) nr_enqueued: u64,
    /// The number of calls of `ops.select_cpu`, in which a CPU is chosen for a task that wakes up.
    pub(crate) nr_select_cpu: u64,
    /// A constant by which tests recognise these statistics.
    pub(crate) stats_magic: u64,
}

impl Counters {
    fn answer(self) -> String {
        let Self {
            nr_dispatched,
            nr_enqueued,
            nr_select_cpu,
            stats_magic,
        } = self;
        format!(
            "{{\"errno\":0,\"args\":{{\"resp\":{{\"nr_dispatched\":{nr_dispatched},\"nr_enqueued\":{nr_enqueued},\
             \"nr_select_cpu\":{nr_select_cpu},\"stats_magic\":{stats_magic}}}}}}}\n"
        )
    }
}

/// The socket and its clients.
#[derive(Debug)]
pub(crate) struct Server {
    listener: UnixListener,
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    /// The part of the next request that has arrived.
    request: Vec<u8>,
}

impl Server {
    /// Creates the socket, and removes one that an earlier scheduler has left.
    ///
    /// # Errors
    /// The folder or the socket cannot be created.
    pub(crate) fn open() -> Result<Self> {
        Self::at(Path::new(SOCKET)).with_context(|| format!("cannot serve statistics at {SOCKET}"))
    }

    fn at(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            clients: Vec::new(),
        })
    }

    /// Returns the descriptors at which something can arrive.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let clients = self.clients.iter().map(|client| client.stream.as_raw_fd());
        std::iter::once(self.listener.as_raw_fd()).chain(clients)
    }

    /// Accepts new clients, and answers the requests that have arrived.
    pub(crate) fn serve(&mut self, counters: Counters) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                let request = Vec::new();
                self.clients.push(Client { stream, request });
            }
        }
        self.clients.retain_mut(|client| client.serve(counters));
    }
}

impl Client {
    /// Answers the requests that have arrived. Returns false if the client is gone or sends too much.
    fn serve(&mut self, counters: Counters) -> bool {
        let mut part = [0; 512];
        loop {
            match self.stream.read(&mut part) {
                Ok(0) => return false,
                Ok(length) => self.request.extend_from_slice(&part[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return false,
            }
            while let Some(end) = self.request.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.request.drain(..=end).collect();
                let answer = match asks_for_stats(&line) {
                    true => counters.answer(),
                    false => REFUSAL.to_owned(),
                };
                if self.stream.write_all(answer.as_bytes()).is_err() {
                    return false;
                }
            }
            if self.request.len() > MOST {
                return false;
            }
        }
    }
}

/// The answer to any other request: EINVAL.
const REFUSAL: &str = "{\"errno\":22,\"args\":{\"resp\":\"only the request \\\"stats\\\" of the target \\\"top\\\" is served\"}}\n";

/// Returns whether a line asks for the main statistics. The two forms that clients send are known, so this needs no parser of
/// JSON.
fn asks_for_stats(line: &[u8]) -> bool {
    let text: String = String::from_utf8_lossy(line)
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect();
    let target = text.contains("\"target\":");
    text.contains("\"req\":\"stats\"") && (!target || text.contains("\"target\":\"top\""))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{BufRead, BufReader};

    #[test]
    fn two_requests_are_answered_and_another_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root/stats");
        drop(Server::at(&path).unwrap());
        let mut server = Server::at(&path).unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        let requests = [
            "{\"req\":\"stats\",\"args\":{\"target\":\"top\"}}",
            "{\"req\": \"stats\", \"args\": {}}",
            "{\"req\":\"stats_meta\",\"args\":{}}",
            "{\"req\":\"stats\",\"args\":{\"target\":\"other\"}}",
        ];
        for request in requests {
            writeln!(client, "{request}").unwrap();
        }
        let counters = Counters {
            nr_dispatched: 7,
            stats_magic: 9,
            ..Counters::default()
        };
        server.serve(counters);
        assert_eq!(server.descriptors().count(), 2);
        let lines = BufReader::new(&client).lines().take(4);
        let answers: Vec<String> = lines.map(Result::unwrap).collect();
        let resp = "{\"nr_dispatched\":7,\"nr_enqueued\":0,\"nr_select_cpu\":0,\"stats_magic\":9}";
        let expected = format!("{{\"errno\":0,\"args\":{{\"resp\":{resp}}}}}");
        assert_eq!(answers[..2], [expected.clone(), expected]);
        assert!(
            answers[2..]
                .iter()
                .all(|answer| answer.contains("\"errno\":22"))
        );
        drop(client);
        server.serve(counters);
        assert_eq!(server.descriptors().count(), 1);
    }

    #[test]
    fn a_client_that_sends_without_end_is_disconnected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stats");
        let mut server = Server::at(&path).unwrap();
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(&[b'x'; MOST + 1]).unwrap();
        server.serve(Counters::default());
        assert_eq!(server.descriptors().count(), 1);
    }
}
