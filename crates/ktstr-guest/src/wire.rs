//! The binary format of the messages that a fork receives on its way to the test function: a byte that identifies the
//! message, then numbers and byte strings in sequence. Each byte string is preceded by its length.
//!
//! All other messages between guest and host are JSON. A fork, however, executes this code for the first time, and
//! QEMU has to translate each block of it: parsing one JSON document takes about a thousand blocks, this format about
//! a hundred. The code is therefore deliberately simple, without generics or iterators.
// The numbers come from another machine: no conversion may change a value unnoticed.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

/// Encodes values in sequence.
#[derive(Debug, Default)]
pub(crate) struct Put(Vec<u8>);

impl Put {
    /// Starts with the byte that identifies the message.
    pub(crate) fn new(tag: u8) -> Self {
        Self(vec![tag])
    }

    pub(crate) fn number(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// Decodes values in sequence. A value that is missing or malformed reads as 0 or empty, and [`Take::is_whole`]
/// reports that at the end.
#[derive(Debug)]
pub(crate) struct Take<'a> {
    rest: &'a [u8],
    broken: bool,
}

impl<'a> Take<'a> {
    /// Decodes the bytes after the tag.
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self {
            rest,
            broken: false,
        }
    }

    pub(crate) fn number(&mut self) -> u64 {
        match self.rest.split_first_chunk::<8>() {
            Some((value, rest)) => {
                self.rest = rest;
                u64::from_le_bytes(*value)
            }
            None => {
                self.broken = true;
                0
            }
        }
    }

    /// Decodes a number of 32 bits; a larger one is malformed.
    pub(crate) fn small(&mut self) -> u32 {
        match u32::try_from(self.number()) {
            Ok(value) => value,
            Err(_) => {
                self.broken = true;
                0
            }
        }
    }

    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let len = usize::try_from(self.number()).unwrap_or(usize::MAX);
        if len > self.rest.len() {
            self.broken = true;
            return &[];
        }
        let (bytes, rest) = self.rest.split_at(len);
        self.rest = rest;
        bytes
    }

    pub(crate) fn text(&mut self) -> String {
        match std::str::from_utf8(self.bytes()) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                self.broken = true;
                String::new()
            }
        }
    }

    /// Returns whether everything so far was present and bytes are left.
    pub(crate) fn has_more(&self) -> bool {
        !self.broken && !self.rest.is_empty()
    }

    /// Returns whether everything was present and no bytes are left.
    pub(crate) fn is_whole(&self) -> bool {
        !self.broken && self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use crate::protocol::{Job, ToGuest, ToHost};

    fn job() -> Job {
        Job {
            test: "t\u{e9}st".to_owned(),
            env: vec![
                ("PATH".to_owned(), "/bin".to_owned()),
                ("EMPTY".to_owned(), String::new()),
            ],
            seed: u64::MAX,
            variant: 1 << 63,
            workload_root: "/ktstr".to_owned(),
        }
    }

    #[test]
    fn a_job_survives_a_round_trip_and_a_truncated_one_is_rejected() {
        let bytes = job().encode();
        assert_eq!(Job::decode(&bytes), Some(job()));
        for end in 0..bytes.len() {
            assert_eq!(Job::decode(&bytes[..end]), None, "the first {end} bytes");
        }
        assert_eq!(Job::decode(&[&bytes[..], &[0]].concat()), None);
        // Claim more variables than the data contains.
        let mut bytes = Job {
            env: Vec::new(),
            ..job()
        }
        .encode();
        let count = bytes.len() - 8;
        bytes[count..].fill(0xff);
        assert_eq!(Job::decode(&bytes), None);
    }

    #[test]
    fn messages_to_the_guest_survive_a_round_trip() {
        let refresh = |realtime_ns| ToGuest::Refresh {
            realtime_ns,
            entropy: vec![7; 32],
            last_pid: 1234,
        };
        let messages = [
            refresh(None),
            refresh(Some(1)),
            ToGuest::Run {
                job: job().encode(),
                seed: 9,
            },
            ToGuest::Load {
                binary: "/ktstr/bin/test".to_owned(),
                workload_root: "/ktstr".to_owned(),
            },
        ];
        for message in messages {
            let bytes = message.encode().expect("plain data");
            let again = ToGuest::decode(&bytes).expect("what was encoded");
            assert_eq!(format!("{again:?}"), format!("{message:?}"));
            assert!(
                ToGuest::decode(&bytes[..bytes.len() - 1]).is_err(),
                "{message:?}"
            );
        }
        // Give the process id more than 32 bits.
        let mut bytes = refresh(None).encode().expect("plain data");
        let last = bytes.len() - 1;
        bytes[last] = 1;
        assert!(ToGuest::decode(&bytes).is_err());
    }

    #[test]
    fn messages_encoded_without_serde_equal_serdes_json() {
        let pids = [0, 7, 104, i32::MAX, -1, i32::MIN];
        let started = pids.map(|pid| ToHost::TestStarted { pid });
        for message in started.iter().chain([&ToHost::FunctionCalled]) {
            let json = serde_json::to_vec(message).expect("plain data");
            assert_eq!(message.encode(), json, "{message:?}");
        }
    }
}
