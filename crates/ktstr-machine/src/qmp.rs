//! QMP, QEMU's control protocol: one JSON document per line over a socket pair.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::MachineError;

/// The largest number of bytes that may be buffered, and so the largest length of a line from QEMU.
const MAX_LINE: usize = 1 << 20;

/// An event that QEMU sent, such as `SHUTDOWN`.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The name of the event, in capital letters.
    pub name: String,
    /// The event's data, or null.
    pub data: Value,
}

/// The host's end of the monitor.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    buffer: Vec<u8>,
    events: VecDeque<Event>,
}

impl Qmp {
    /// Reads the greeting, and ends the negotiation of capabilities, so that QEMU accepts commands.
    pub fn connect(stream: UnixStream, within: Duration) -> Result<Self, MachineError> {
        let mut qmp = Self {
            stream,
            buffer: Vec::new(),
            events: VecDeque::new(),
        };
        let deadline = Instant::now() + within;
        while qmp.line(deadline, "greeting", within)?.get("QMP").is_none() {}
        qmp.execute("qmp_capabilities", Value::Null, within)?;
        Ok(qmp)
    }

    /// Executes a command, and returns its result.
    pub fn execute(
        &mut self,
        command: &str,
        arguments: Value,
        within: Duration,
    ) -> Result<Value, MachineError> {
        self.send(command, arguments)?;
        self.receive(command, within)
    }

    /// Sends a command without waiting for its result.
    pub fn send(&mut self, command: &str, arguments: Value) -> Result<(), MachineError> {
        let mut request = json!({ "execute": command });
        if !arguments.is_null() {
            request["arguments"] = arguments;
        }
        let mut bytes = request.to_string().into_bytes();
        bytes.push(b'\n');
        self.stream
            .write_all(&bytes)
            .map_err(|e| MachineError::system(format!("sending `{command}` to QEMU"), e))
    }

    /// Waits for the result of the last command, whose name `command` appears in errors. Events that arrive meanwhile are
    /// kept for [`Qmp::event`].
    pub fn receive(&mut self, command: &str, within: Duration) -> Result<Value, MachineError> {
        let deadline = Instant::now() + within;
        loop {
            let mut reply = self.line(deadline, command, within)?;
            if let Some(error) = reply.get("error") {
                let reason = error["desc"].as_str().unwrap_or("no reason given");
                return Err(MachineError::Refused {
                    command: command.to_owned(),
                    reason: reason.to_owned(),
                });
            }
            if let Some(value) = reply.get_mut("return") {
                return Ok(value.take());
            }
            self.keep_event(reply);
        }
    }

    /// Returns the next event; `None` if none has arrived. Does not wait.
    pub fn event(&mut self) -> Result<Option<Event>, MachineError> {
        while self.events.is_empty() {
            let Some(value) = self.buffered_line()? else {
                if !self.fill(Duration::ZERO)? {
                    return Ok(None);
                }
                continue;
            };
            self.keep_event(value);
        }
        Ok(self.events.pop_front())
    }

    fn keep_event(&mut self, mut value: Value) {
        if let Some(name) = value.get("event").and_then(Value::as_str) {
            let name = name.to_owned();
            let data = value.get_mut("data").map(Value::take).unwrap_or_default();
            self.events.push_back(Event { name, data });
        }
    }

    fn line(
        &mut self,
        deadline: Instant,
        command: &str,
        within: Duration,
    ) -> Result<Value, MachineError> {
        loop {
            if let Some(value) = self.buffered_line()? {
                return Ok(value);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.fill(left)? {
                return Err(MachineError::NoAnswer {
                    command: command.to_owned(),
                    within,
                });
            }
        }
    }

    fn buffered_line(&mut self) -> Result<Option<Value>, MachineError> {
        let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let line: Vec<u8> = self.buffer.drain(..=end).collect();
        serde_json::from_slice(&line)
            .map(Some)
            .map_err(|_| MachineError::BadQmp {
                what: String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned(),
            })
    }

    /// Reads the available data, and waits for it at most for `left`. Returns false if none arrived in that time. A signal
    /// may end the wait early: then the function returns true, and the caller checks how much time is left.
    fn fill(&mut self, left: Duration) -> Result<bool, MachineError> {
        let read = |e| MachineError::system("reading QEMU's monitor", e);
        // The socket would interpret a timeout of zero as "forever".
        self.stream.set_nonblocking(left.is_zero()).map_err(read)?;
        if !left.is_zero() {
            self.stream.set_read_timeout(Some(left)).map_err(read)?;
        }
        let mut chunk = [0u8; 4096];
        let result = self.stream.read(&mut chunk);
        self.stream.set_nonblocking(false).map_err(read)?;
        match result {
            Ok(0) => Err(MachineError::system(
                "reading QEMU's monitor",
                std::io::Error::from(ErrorKind::UnexpectedEof),
            )),
            Ok(n) if self.buffer.len() + n > MAX_LINE => Err(MachineError::BadQmp {
                what: format!("a line of over {MAX_LINE} bytes"),
            }),
            Ok(n) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                Ok(true)
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => Ok(true),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            Err(e) => Err(read(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    /// Creates a monitor that answers each request with the next of `answers`.
    fn served(answers: &'static [&'static str]) -> Result<Qmp, MachineError> {
        let (ours, mut theirs) = UnixStream::pair().expect("socket pair");
        std::thread::spawn(move || {
            let mut requests = [0u8; 1024];
            for answer in answers {
                theirs.write_all(answer.as_bytes()).expect("open socket");
                let _ = theirs.read(&mut requests);
            }
        });
        Qmp::connect(ours, SOON)
    }

    #[test]
    fn events_in_between_are_kept_in_order() {
        let mut qmp = served(&[
            "{\"QMP\":{}}\n",
            "{\"return\":{}}\n",
            "{\"event\":\"STOP\"}\n{\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true}}\n{\"return\":{\"status\":\"paused\"}}\n",
        ])
        .expect("greeted");
        let status = qmp
            .execute("query-status", Value::Null, SOON)
            .expect("answered");
        assert_eq!(status["status"], "paused");
        assert_eq!(qmp.event().expect("open").expect("first").name, "STOP");
        assert_eq!(
            qmp.event().expect("open").expect("second").data["guest"],
            true
        );
    }

    #[test]
    fn refusals_carry_the_reason_and_a_hang_up_is_an_error() {
        let mut qmp = served(&[
            "{\"QMP\":{}}\n",
            "{\"return\":{}}\n",
            "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no such thing\"}}\n",
        ])
        .expect("greeted");
        let refused = qmp
            .execute("nonsense", Value::Null, SOON)
            .expect_err("refused");
        assert_eq!(
            refused.to_string(),
            "QEMU refused `nonsense`: no such thing"
        );
        let gone = qmp.execute("stop", Value::Null, SOON);
        assert!(gone.is_err());
    }

    #[test]
    fn silence_ends_at_the_bound() {
        let (ours, _theirs) = UnixStream::pair().expect("socket pair");
        let error = Qmp::connect(ours, Duration::from_millis(20)).expect_err("nobody speaks");
        assert!(matches!(error, MachineError::NoAnswer { .. }), "{error}");
    }
}
