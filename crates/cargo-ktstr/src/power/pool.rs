//! Runs cases on all cores, keeps each result as it comes, and shows how far it is.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::mpsc;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use super::case::{Case, Outcome};
use super::store::Store;

/// As many machines run at once.
pub fn width() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The bar; nothing is drawn where nobody looks.
pub fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) =
        ProgressStyle::with_template("{elapsed_precise} {bar:24} {pos}/{len} runs, {msg}")
    {
        bar.set_style(style);
    }
    bar
}

/// Runs those cases that are not known yet.
pub fn run(store: &mut Store, cases: Vec<Case>, bar: &ProgressBar) -> Result<()> {
    let todo: VecDeque<Case> = cases
        .into_iter()
        .filter(|case| store.get(case).is_none())
        .collect();
    if todo.is_empty() {
        return Ok(());
    }
    bar.inc_length(todo.len() as u64);
    let queue = Mutex::new(todo);
    let records = store.path().with_extension("runs");
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
    std::thread::scope(|scope| {
        let (sender, results) = mpsc::channel::<(Case, Outcome)>();
        for _ in 0..width() {
            let sender = sender.clone();
            let (next, records) = (&next, &records);
            scope.spawn(move || {
                while let Some(case) = next() {
                    let outcome = case.run(records);
                    if sender.send((case, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (case, outcome) in results {
            store.put(case, outcome)?;
            bar.inc(1);
        }
        Ok(())
    })
}
