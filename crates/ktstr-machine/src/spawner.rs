//! Starts child processes from a thread that never exits.
//!
//! The kernel sends a child's parent-death signal when the *thread* that created the child exits (prctl(2),
//! `PR_SET_PDEATHSIG`), not when the process does. A harness may start a machine on one thread of a pool and continue
//! on another, so all machines are children of one thread that exits with the process.

use std::io::{Error, Result};
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

type Job = (Command, Sender<Result<Child>>);

/// The pid of the process that has the thread, and the thread's inbox. fork(2) copies this value to the new process, but not
/// the thread. The pid then differs, so the new process starts a thread of its own.
static SPAWNER: Mutex<Option<(u32, Sender<Job>)>> = Mutex::new(None);

/// The same as [`Command::spawn`], but the child's parent-death signal is sent when this process exits.
pub(crate) fn spawn(command: Command) -> Result<Child> {
    let (answer, answered) = channel();
    let gone = |_| Error::other("the thread that starts QEMU is gone");
    inbox()?
        .send((command, answer))
        .map_err(|e| gone(e.to_string()))?;
    answered.recv().map_err(|e| gone(e.to_string()))?
}

/// Returns the inbox of this process's thread, which is started at the first call.
fn inbox() -> Result<Sender<Job>> {
    let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    if let Some((owner, inbox)) = &*spawner
        && *owner == process
    {
        return Ok(inbox.clone());
    }
    let (inbox, jobs) = channel::<Job>();
    std::thread::Builder::new()
        .name("ktstr-spawner".to_owned())
        .spawn(move || {
            for (mut command, answer) in jobs {
                // The thread that sent the request waits for the answer.
                let _ = answer.send(command.spawn());
            }
        })?;
    *spawner = Some((process, inbox.clone()));
    Ok(inbox)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::time::Duration;

    use super::*;

    /// Requests a child from a thread that then exits. The kernel kills the child when the thread that created it exits.
    fn child_of_a_thread_that_ends(spawn: fn(Command) -> Result<Child>) -> Child {
        let parent = rustix::process::getpid();
        let made = std::thread::spawn(move || {
            let mut command = Command::new("sleep");
            command.arg("60");
            // SAFETY: the closure makes system calls only.
            unsafe { command.pre_exec(move || crate::confine::before_exec(&[], parent)) };
            spawn(command).expect("there is a sleep(1)")
        });
        made.join().expect("the thread ends")
    }

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let mut child = child_of_a_thread_that_ends(spawn);
        // Without the spawner, the kernel sends the signal as soon as the thread that requested the child exits.
        let mut direct = child_of_a_thread_that_ends(|mut command| command.spawn());
        direct.wait().expect("our child");
        std::thread::sleep(Duration::from_millis(100));
        let ended = child.try_wait().expect("our child");
        child.kill().expect("our child");
        child.wait().expect("our child");
        assert_eq!(ended, None);
    }
}
