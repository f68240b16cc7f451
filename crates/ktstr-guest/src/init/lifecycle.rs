//! The test process asks PID 1 to start and stop schedulers, and PID 1 executes these requests. They are sent through the socket
//! from which the test process read its job, that is, the test to run (`test_process.rs`). Each message is a length followed by
//! JSON.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::{ChangeError, SchedulerAnswer, SchedulerChange};

/// Maximum length of a message in bytes. The receiver reads only this much of a longer message, and then fails to decode it.
const LONGEST: u32 = 1 << 20;

static CONTROL: OnceLock<Mutex<File>> = OnceLock::new();

/// Installs `socket` as the test process's link to PID 1.
pub(super) fn install(socket: File) {
    let _ = CONTROL.set(Mutex::new(socket));
}

/// Asks PID 1 to stop and start schedulers, and waits until it has done so. Returns the process id of the scheduler that is
/// attached now, or `None` if none is.
///
/// # Errors
/// The reason why PID 1 did not do so, or why the request did not reach PID 1: a `host_only` test has no guest, or the
/// socket to PID 1 is broken.
pub fn change(change: &SchedulerChange) -> SchedulerAnswer {
    let Some(control) = CONTROL.get() else {
        return Err(ChangeError::Refused(
            "schedulers are started and stopped in a virtual machine, and a host_only test has none: leave \
             host_only out"
                .to_owned(),
        ));
    };
    let mut control = control.lock().unwrap_or_else(PoisonError::into_inner);
    let broken = |error: std::io::Error| {
        ChangeError::Refused(format!("the exchange with PID 1 failed: {error}"))
    };
    put(&mut *control, change).map_err(broken)?;
    take(&mut *control).map_err(broken)?
}

pub(super) fn put(to: &mut impl Write, message: &impl Serialize) -> std::io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let mut bytes = (text.len() as u32).to_le_bytes().to_vec();
    bytes.extend(text);
    to.write_all(&bytes)
}

pub(super) fn take<T: DeserializeOwned>(from: &mut impl Read) -> std::io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length).min(LONGEST);
    let mut text = vec![0; length as usize];
    from.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_a_round_trip() {
        let mut wire = Vec::new();
        let sent = SchedulerChange {
            stop: true,
            start: None,
        };
        put(&mut wire, &sent).expect("room");
        let taken: SchedulerChange = take(&mut wire.as_slice()).expect("the same JSON");
        assert_eq!(taken, sent);
        assert!(take::<SchedulerChange>(&mut [1u8, 0].as_slice()).is_err());
    }
}
