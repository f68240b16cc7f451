//! Requests the statistics of a scheduler that serves them at a socket (the crate `scx_stats`), shortly before each capture
//! that the test declares, and passes the answers on to the host.
//!
//! The numbers in an answer cover the time since the previous answer on the same connection. The connection is therefore
//! kept, and the first request, when the window opens, only starts the first interval. The requests are a part of the
//! guest's load, as those of any other client would be. A run without declared captures and without `Op::CaptureSnapshot` has
//! no requests, and neither has a run under a scheduler that serves no statistics.

mod client;
#[cfg(test)]
mod tests;

use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use client::Client;
use ktstr_assert::series::PERIODIC_TAG_PREFIX;

use crate::protocol::{StatsAnswer, ToHost};
use crate::realtime::{self, RealTime};
use crate::workers::clock::now_ns;

/// The path at which the crate `scx_stats` puts the socket of a scheduler that drives all tasks.
pub const SOCKET: &str = "/var/run/scx/root/stats";

/// How long before a periodic capture its request is sent.
const LEAD: Duration = Duration::from_millis(10);
/// How long a scheduler may take to answer. The main thread of a busy scheduler has to run a few times before it answers.
const WITHIN: Duration = Duration::from_secs(1);

/// What the thread that sends the requests before periodic captures shares with the engine.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    client: Mutex<Option<Client>>,
    window: Mutex<WindowTime>,
    changed: Condvar,
    /// How long the scheduler may take to answer.
    within: Duration,
}

/// The state of the workload window, as far as the thread needs it.
#[derive(Debug, Default)]
struct WindowTime {
    began_ns: u64,
    paused_ns: u64,
    paused: bool,
    over: bool,
    /// A handle of the connection, to end a request that is under way.
    connection: Option<UnixStream>,
}

/// The requests of one scenario. Dropping this value ends the requests.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// `None` if no scheduler serves statistics.
    shared: Option<Arc<Shared>>,
    thread: Option<JoinHandle<()>>,
}

impl Requests {
    /// Starts the requests for the captures at these times of a window that has just opened. Does nothing if there is no socket.
    pub(crate) fn begin(path: &Path, times: &[Duration]) -> Self {
        // Check this even if there are no captures, so that runs with captures and runs without captures execute the same
        // instructions here.
        if !path.exists() {
            return Self::default();
        }
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            client: Mutex::new(None),
            window: Mutex::new(WindowTime {
                began_ns: now_ns(),
                ..WindowTime::default()
            }),
            changed: Condvar::new(),
            within: WITHIN,
        });
        let spawned = (!times.is_empty()).then(|| {
            let (shared, times) = (Arc::clone(&shared), times.to_vec());
            std::thread::Builder::new()
                .name("ktstr-stats".to_owned())
                .spawn(move || shared.serve(&times))
        });
        // If the thread could not be started, the periodic captures have no statistics.
        let thread = spawned.and_then(Result::ok);
        Self {
            shared: Some(shared),
            thread,
        }
    }

    /// Tells the requests that window time has been paused or resumed; `paused_ns` is the length of all pauses that are over.
    pub(crate) fn paused(&self, paused: bool, paused_ns: u64) {
        let Some(shared) = &self.shared else { return };
        let mut window = lock(&shared.window);
        (window.paused, window.paused_ns) = (paused, paused_ns);
        drop(window);
        shared.changed.notify_all();
    }

    /// Asks for the statistics now, for the capture `tag`, and sends the answer to the host.
    pub(crate) fn request(&self, tag: &str) {
        if let Some(shared) = &self.shared {
            shared.report(tag.to_owned());
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        let Some(shared) = &self.shared else { return };
        let mut window = lock(&shared.window);
        window.over = true;
        if let Some(connection) = window.connection.take() {
            // This fails only if the scheduler has closed the connection already.
            let _ = connection.shutdown(Shutdown::Both);
        }
        drop(window);
        shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // The panic hook has already reported a panic of the thread.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Sends the requests before the periodic captures at these times, until the window is over.
    fn serve(&self, times: &[Duration]) {
        let _raised = crate::init::is_test_process().then(|| RealTime::raise(realtime::ENGINE));
        // This answer is dropped: the request only starts the interval that the answer for the first capture covers.
        let _ = self.ask();
        for (at, time) in times.iter().enumerate() {
            if !self.sleep_until(time.saturating_sub(LEAD)) {
                return;
            }
            self.report(format!("{PERIODIC_TAG_PREFIX}{at:03}"));
        }
    }

    /// Waits until this much window time has passed. Returns `false` if the window is over before.
    fn sleep_until(&self, time: Duration) -> bool {
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut window = lock(&self.window);
        loop {
            if window.over {
                return false;
            }
            let passed_ns = now_ns()
                .saturating_sub(window.began_ns)
                .saturating_sub(window.paused_ns);
            window = match (window.paused, time_ns.saturating_sub(passed_ns)) {
                (true, _) => self
                    .changed
                    .wait(window)
                    .unwrap_or_else(PoisonError::into_inner),
                (false, 0) => return true,
                (false, left_ns) => {
                    let waited = (self.changed).wait_timeout(window, Duration::from_nanos(left_ns));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn report(&self, tag: String) {
        let answer = self.ask();
        crate::link::send(&ToHost::SchedulerStats { tag, answer });
    }

    fn ask(&self) -> StatsAnswer {
        let mut client = lock(&self.client);
        let answer = self.connected(&mut client).and_then(|client| {
            let answer = client.request(self.within);
            answer.map_err(|error| match error.kind() {
                ErrorKind::TimedOut => format!("it did not answer within {:?}", self.within),
                _ => format!("the connection to it was lost: {error}"),
            })
        });
        match answer {
            Ok(StatsAnswer::TooLarge) => {
                *client = None;
                StatsAnswer::TooLarge
            }
            Ok(answer) => answer,
            Err(why) => {
                *client = None;
                StatsAnswer::Failed(why)
            }
        }
    }

    /// Returns the connection, and opens it first if there is none. An error closes the connection, because the scheduler may
    /// have been replaced.
    fn connected<'c>(&self, client: &'c mut Option<Client>) -> Result<&'c mut Client, String> {
        if client.is_none() {
            let new = Client::connect(&self.path)
                .map_err(|error| format!("cannot connect to {}: {error}", self.path.display()))?;
            let mut window = lock(&self.window);
            if window.over {
                return Err("the scenario is over".to_owned());
            }
            window.connection = new.handle().ok();
            *client = Some(new);
        }
        client
            .as_mut()
            .ok_or_else(|| "there is no connection".to_owned())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
