//! Runs jobs side by side, hands over each result as it comes, and shows how far it is.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::mpsc;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// As many machines run at once, unless somebody says otherwise.
pub fn width() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The bar; nothing is drawn where nobody looks.
pub fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let template = "{elapsed_precise} {bar:24} {pos}/{len} runs, about {eta} left, {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Does `work` with each job, as many as `jobs` at once, in the order that they have; `done` gets each result as it comes. A
/// job for which `work` has no result any more, because the time is over, ends nothing: the next is asked.
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
    fn every_job_has_its_result_and_an_error_ends_it() {
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
