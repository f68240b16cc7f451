//! Runs jobs in parallel, passes each result on as soon as it is available, and shows the progress.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Result;
use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};

/// Returns the default number of machines that run at once: one per CPU that this process may use, or 1 if that is unknown.
pub fn width() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Returns the progress bar; nothing is drawn if standard error is not a terminal.
pub fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let template = "{elapsed_precise} {bar:24} {pos}/{len} runs, {left}, {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.with_key("left", left));
    }
    // A run takes seconds, and the displayed time has to advance meanwhile.
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}

/// Writes the remaining time, which is estimated from the runs that have ended.
fn left(state: &ProgressState, out: &mut dyn Write) {
    let (done, all) = (state.pos(), state.len().unwrap_or_default());
    // A failure to draw the bar is harmless.
    let _ = match done {
        0 => write!(out, "time left unknown"),
        done => {
            let to_do = all.saturating_sub(done) as f64 / done as f64;
            let left = Duration::from_secs_f64(state.elapsed().as_secs_f64() * to_do);
            write!(out, "about {:#} left", HumanDuration(left))
        }
    };
}

/// Calls `work` for each job in order, for up to `jobs` jobs at once, and passes each result to `done`, on the calling thread, as
/// soon as it is available. `work` returns `None` for a job that it leaves out, for instance because the caller's deadline has
/// passed. `done` gets this `None`, and the next job is still tried.
///
/// # Errors
///
/// The first error of `done`. The function then returns once the running jobs have ended, and passes no further result on.
pub fn run<J: Send, R: Send>(
    all: Vec<J>,
    jobs: usize,
    bar: &ProgressBar,
    work: impl Fn(&J) -> Option<R> + Sync,
    mut done: impl FnMut(J, Option<R>) -> Result<()>,
) -> Result<()> {
    let queue = Mutex::new(VecDeque::from(all));
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
    std::thread::scope(|scope| {
        let (sender, results) = mpsc::channel::<(J, Option<R>)>();
        for _ in 0..jobs.max(1) {
            let sender = sender.clone();
            let (next, work) = (&next, &work);
            scope.spawn(move || {
                while let Some(job) = next() {
                    let result = work(&job);
                    if sender.send((job, result)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (job, result) in results {
            done(job, result)?;
            bar.inc(1);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_has_its_result_and_an_error_ends_the_run() {
        let bar = ProgressBar::hidden();
        let mut seen = Vec::new();
        let work = |job: &u32| (*job != 3).then_some(job * 10);
        run((0..6).collect(), 2, &bar, work, |job, result| {
            seen.push((job, result));
            Ok(())
        })
        .expect("no error");
        seen.sort_unstable();
        let wanted: Vec<_> = (0..6).map(|job| (job, work(&job))).collect();
        assert_eq!(seen, wanted);
        let failed = run(vec![1], 1, &bar, |_| Some(()), |_, _| anyhow::bail!("full"));
        assert!(failed.is_err());
    }
}
