//! A client of the socket at which a scheduler serves its statistics. The protocol is version 1 of the crate `scx_stats`:
//! each request and each answer is one line of JSON. The host decodes the answers.

use std::io::{Error, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::protocol::{MAX_STATS, StatsAnswer};

/// Asks for the statistics that the scheduler declares as its main ones.
const REQUEST: &[u8] = b"{\"req\":\"stats\",\"args\":{\"target\":\"top\"}}\n";

/// A connection to a scheduler. The numbers in an answer cover the time since the previous answer on the same connection.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    /// What was read beyond the last answer.
    rest: Vec<u8>,
}

impl Client {
    /// Connects to the scheduler that serves the socket `path`.
    pub(super) fn connect(path: &Path) -> std::io::Result<Self> {
        Ok(Self {
            stream: UnixStream::connect(path)?,
            rest: Vec::new(),
        })
    }

    /// Returns a handle of the connection. Shutting it down ends a request whose answer another thread waits for.
    pub(super) fn handle(&self) -> std::io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Asks for the statistics and waits for the answer, at most for `within`. After an error the connection is of no use,
    /// because a late answer would be taken for that of the next request.
    pub(super) fn request(&mut self, within: Duration) -> Result<StatsAnswer, Error> {
        let deadline = Instant::now() + within;
        self.stream.set_write_timeout(Some(within))?;
        self.stream.write_all(REQUEST)?;
        let mut part = [0; 4096];
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(StatsAnswer::Line(
                    String::from_utf8_lossy(&line).trim_end().to_owned(),
                ));
            }
            if self.rest.len() > MAX_STATS {
                return Ok(StatsAnswer::TooLarge);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::from(ErrorKind::TimedOut));
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut part) {
                Ok(0) => return Err(Error::from(ErrorKind::UnexpectedEof)),
                Ok(length) => self
                    .rest
                    .extend_from_slice(part.get(..length).unwrap_or(&part)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A read that times out reports that it would block.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(Error::from(ErrorKind::TimedOut));
                }
                Err(error) => return Err(error),
            }
        }
    }
}
