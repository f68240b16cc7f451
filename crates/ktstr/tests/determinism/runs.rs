//! Helpers that run an entry more than once and compare the records.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ktstr::prelude::*;
use ktstr::run::{Finished, run};
use ktstr_record::compare::{Comparison, Run, compare};

use crate::common::{Case, Ended};

/// Returns the number of runs of a comparison: 2, or up to `long` under `make determinism`.
pub fn repeated(long: usize) -> usize {
    std::env::var("KTSTR_DETERMINISM_RUNS")
        .ok()
        .and_then(|value| value.parse().ok())
        .map_or(2, |runs: usize| runs.clamp(2, long))
}

/// Returns the record and the trace of a run, and asserts that it passed under the virtual clock with every switch recorded.
#[track_caller]
pub fn of(finished: &Finished) -> Run {
    assert!(finished.text.is_empty(), "{}", finished.text);
    let path = finished.record.as_ref().expect("the run left a record");
    let kept = checked(Run::read(path).expect("its record can be read"));
    // `make determinism` makes thousands of records. A record that cannot be removed does not change the comparison.
    let _ = std::fs::remove_dir_all(path.parent().expect("a record has a folder"));
    kept
}

/// Like [`of`], for a run in a separate process.
#[track_caller]
pub fn of_child(ended: &Ended) -> Run {
    ended.says(0, &[]);
    let record = ended.record.as_ref().expect("the run left a record");
    checked(Run::read(&record.path).expect("its record can be read"))
}

#[track_caller]
fn checked(run: Run) -> Run {
    assert_eq!(run.record.clock, Some(ktstr_record::Clock::Virtual));
    assert!(run.record.digest.is_some(), "a virtual run has a digest");
    let switches = run.record.switches.as_ref();
    let count = switches.expect("every switch was followed").count;
    let trace = run.switches.as_ref().expect("a virtual run has a trace");
    assert_eq!((trace.count, trace.first.len() as u64), (count, count));
    run
}

/// Returns the index of each run that differs from the first run, with the difference.
pub fn differences(runs: &[Run]) -> Vec<(usize, Comparison)> {
    let rest = runs.iter().enumerate().skip(1);
    rest.map(|(number, run)| (number, compare(&runs[0], run)))
        .filter(|(_, comparison)| *comparison != Comparison::Same)
        .collect()
}

/// Prints the number of runs and of different digests, and fails if any run differs from the first one.
#[track_caller]
pub fn assert_one(label: &str, runs: &[Run]) {
    let distinct: BTreeSet<_> = runs.iter().map(|run| &run.record.digest).collect();
    println!("{label}: {} runs, {} digests", runs.len(), distinct.len());
    let differences = differences(runs);
    assert!(
        differences.is_empty(),
        "{label}: {} of {} runs differ from the first; the run with index {}: {}",
        differences.len(),
        runs.len(),
        differences[0].0,
        differences[0].1
    );
}

/// Makes `times` runs of `entry`, every second one on a busy host.
#[track_caller]
pub fn contended_runs(times: usize, entry: &'static KtstrTestEntry) -> Vec<Run> {
    (0..times)
        .map(|round| {
            let _busy = (round % 2 == 1).then(Busy::new);
            of(&run(entry))
        })
        .collect()
}

/// Runs the case `name` twice in separate processes, the second time on a busy host.
#[track_caller]
pub fn twice(name: &str, prepare: impl Fn(Case) -> Case) -> Vec<Run> {
    (0..2)
        .map(|round| {
            let _busy = (round == 1).then(Busy::new);
            of_child(&prepare(Case::new(name)).run())
        })
        .collect()
}

/// While this exists, the host's CPUs are busy for a third of the time. There are three threads for each CPU, since a race
/// between QEMU's threads needs one thread that waits long for its turn. They spin together and pause together, so that a run
/// experiences a busy host, a free host and the transition between them many times. The threads belong to this process, so that
/// a killed test leaves nothing behind. All tests that ask for a busy host at the same moment share them: if each had its own,
/// the load of the host would depend on the number of tests that run in parallel.
pub struct Busy {
    _burners: Arc<Burners>,
}

struct Burners(Arc<AtomicBool>, Vec<JoinHandle<()>>);

static BURNERS: Mutex<Weak<Burners>> = Mutex::new(Weak::new());

/// How long the host is busy in one go: many slices of its scheduler, and a fraction of the shortest run.
const BURST: Duration = Duration::from_millis(40);
/// How long the host is free between two bursts.
const PAUSE: Duration = Duration::from_millis(80);

impl Busy {
    pub fn new() -> Self {
        let mut current = BURNERS.lock().unwrap_or_else(PoisonError::into_inner);
        let burners = current.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Burners::start());
            *current = Arc::downgrade(&started);
            started
        });
        Self { _burners: burners }
    }
}

impl Burners {
    fn start() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
        let ends = Arc::new(AtomicBool::new(false));
        let burn = || {
            let ends = ends.clone();
            std::thread::spawn(move || {
                while !ends.load(Relaxed) {
                    let burst = Instant::now();
                    while burst.elapsed() < BURST {}
                    std::thread::sleep(PAUSE);
                }
            })
        };
        let threads = (0..3 * cpus).map(|_| burn()).collect();
        Self(ends, threads)
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
        for thread in self.1.drain(..) {
            let _ = thread.join();
        }
    }
}
