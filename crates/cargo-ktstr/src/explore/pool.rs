//! Makes the runs, several at once, and ends them at Ctrl-C or SIGTERM.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::time::SystemTime;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use ktstr_record::{RunRecord, RunVerdict, TestName};
use ktstr_state::env;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::seeds::Seeds;
use super::target::Binary;
use crate::child;

/// The interval at which a child is polled.
const LOOK: Duration = Duration::from_millis(10);

/// The test to run, and how to run it.
#[derive(Debug)]
pub struct Pool {
    pub binary: Binary,
    pub test: String,
    /// The folder in which the records are stored.
    pub root: PathBuf,
    /// The number of runs at once.
    pub jobs: usize,
    pub stop_at_first_failure: bool,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Ended {
    pub seed: u64,
    pub record: RunRecord,
    pub path: PathBuf,
}

/// The state that the threads share.
struct Shared {
    /// The seed of the next run.
    next: AtomicU64,
    /// Whether no more runs are to be started.
    enough: AtomicBool,
    /// Whether SIGINT (Ctrl-C) or SIGTERM has arrived, so that the current runs are to be ended too.
    interrupted: Arc<AtomicBool>,
    ended: Mutex<Vec<Ended>>,
    bar: ProgressBar,
}

impl Pool {
    /// Runs all `seeds`. With `stop_at_first_failure` no more runs are started after the first failure. Ctrl-C and SIGTERM also
    /// end the current runs. Returns the runs that ended by themselves, in the order of their seeds.
    pub fn run(&self, seeds: Seeds) -> Result<Vec<Ended>> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))
                .context("installing the handler for Ctrl-C")?;
        }
        let style = ProgressStyle::with_template(
            "{bar:40} {pos} of {len} seeds, {elapsed}, {eta} left{msg}",
        );
        let shared = Shared {
            next: AtomicU64::new(seeds.first),
            enough: AtomicBool::new(false),
            interrupted,
            ended: Mutex::new(Vec::new()),
            bar: ProgressBar::new(seeds.count()).with_style(style?),
        };
        shared.bar.tick();
        let results: Vec<Result<()>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.jobs)
                .map(|_| scope.spawn(|| self.work(seeds, &shared)))
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
            };
            threads.into_iter().map(join).collect()
        });
        shared.bar.finish_and_clear();
        results.into_iter().collect::<Result<()>>()?;
        let mut ended = shared
            .ended
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        ended.sort_unstable_by_key(|run| run.seed);
        Ok(ended)
    }

    fn work(&self, seeds: Seeds, shared: &Shared) -> Result<()> {
        while !shared.enough.load(Relaxed) && !shared.interrupted.load(Relaxed) {
            let seed = shared.next.fetch_add(1, Relaxed);
            if seed >= seeds.end || seed < seeds.first {
                break;
            }
            let ended = self.one(seed, shared).inspect_err(|_| {
                shared.enough.store(true, Relaxed);
            })?;
            let Some(ended) = ended else { break };
            if ended.record.verdict == RunVerdict::Fail {
                shared.bar.set_message(format!(", seed {seed} failed"));
                if self.stop_at_first_failure {
                    shared.enough.store(true, Relaxed);
                }
            }
            shared.bar.inc(1);
            let mut all = shared.ended.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(ended);
        }
        Ok(())
    }

    /// Makes one run, and returns it; `None` if Ctrl-C or SIGTERM ended it.
    fn one(&self, seed: u64, shared: &Shared) -> Result<Option<Ended>> {
        // The output goes to a file, because a pipe would have to be read during the run.
        let printed = tempfile::tempfile().context("creating a file for the output of a run")?;
        let name = TestName::declared(&self.test).to_string();
        let mut command = child::command(&self.binary.path, &name, &self.root);
        self.binary.place(&mut command);
        let since = SystemTime::now();
        let mut child = command
            .env(&env::CLOCK, "virtual")
            .env(&env::SEED, seed.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(printed.try_clone().context("sharing that file")?)
            .spawn()
            .with_context(|| format!("starting {}", self.binary.path.display()))?;
        while child.try_wait().context("waiting for a run")?.is_none() {
            if shared.interrupted.load(Relaxed) {
                end(&mut child);
                return Ok(None);
            }
            std::thread::sleep(LOOK);
        }
        let (path, run) = child::left(&self.root, child.id(), since)
            .with_context(|| format!("seed {seed} of {}:\n{}", self.test, last_words(printed)))?;
        let record = run.record;
        Ok(Some(Ended { seed, record, path }))
    }
}

/// Kills the process of a run. Its QEMU ends with it, and the next run removes the record if the killed process had begun one.
/// Errors are ignored, because the process may have ended already.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Returns the last ten lines of the output of a run; nothing if the output cannot be read.
fn last_words(mut printed: std::fs::File) -> String {
    use std::io::{Read, Seek};
    let mut text = Vec::new();
    let _ = printed
        .rewind()
        .and_then(|()| printed.read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
