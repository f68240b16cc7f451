//! `cargo ktstr runs`: lists the recorded runs, newest first, or removes the oldest.

mod filter;
mod size;

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use ktstr_record::{Listed, Listing, RunVerdict, clean, list, runs_root};
use serde::Serialize;

use ktstr_record::brief::counted;
use ktstr_record::terminal::eprint_line;

use crate::exit::Exit;
use crate::json::{self, Limit};
use filter::Filter;
use size::Size;

/// The options of `cargo ktstr runs`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    wanted: Filter,
    /// Only the newest N.
    #[arg(long, value_name = "N")]
    last: Option<NonZeroUsize>,
    /// Print a JSON array of whole records instead of a table.
    #[arg(long)]
    json: bool,
    /// How much of a long list and of a long text the JSON contains.
    #[command(flatten)]
    limit: Limit,
    /// Do not list the selected runs, but remove the oldest until those that remain take up at most this much, such as `500MiB`;
    /// `0` removes all of them. Runs that are not selected are neither counted nor removed.
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["last", "json"])]
    clean: Option<Size>,
}

/// The largest number of characters of a reason in the table; the record has the rest.
const REASON_WIDTH: usize = 120;

/// Prints the newest of the selected runs as a table or as JSON, or removes the oldest.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    let root = runs_root();
    let (wanted, now) = (&options.wanted, SystemTime::now());
    if let Some(Size(bytes)) = options.clean {
        let cleaned = clean(&root, bytes, |record| match record {
            Some(record) => wanted.admits(record, now),
            // Nothing is known about a damaged run, so it meets no condition.
            None => wanted.is_empty(),
        })?;
        writeln!(
            out,
            "removed {} of {}, kept {} of {}",
            counted(cleaned.removed, "run"),
            Size(cleaned.freed),
            cleaned.kept,
            Size(cleaned.kept_bytes)
        )?;
        return Ok(Exit::Done);
    }
    // With conditions, all runs have to be read before the newest can be selected.
    let at_most = options
        .last
        .map(NonZeroUsize::get)
        .filter(|_| wanted.is_empty());
    let mut listing = list(&root, at_most)?;
    let is_meant = |listed: &Listed| wanted.admits(&listed.record, now);
    let some = !listing.records.is_empty();
    listing.records.retain(is_meant);
    if let Some(last) = options.last {
        listing.records.truncate(last.get());
    }
    if some && listing.records.is_empty() && !options.json {
        writeln!(
            out,
            "No run under {} matches these filters.",
            root.display()
        )?;
        return Ok(Exit::Done);
    }
    for damaged in &listing.damaged {
        eprint_line(&format!(
            "warning: {} cannot be read: {}",
            damaged.path.display(),
            damaged.why
        ));
    }
    if options.json {
        print_json(out, &listing, options.limit)?;
    } else {
        print_table(out, &listing, &root)?;
    }
    Ok(Exit::Done)
}

/// A record with its path as an additional field.
#[derive(Serialize)]
struct WithPath<'a> {
    #[serde(flatten)]
    record: &'a ktstr_record::RunRecord,
    #[serde(rename = "record")]
    path: &'a Path,
}

fn print_json(out: &mut dyn Write, listing: &Listing, limit: Limit) -> Result<()> {
    let records: Vec<WithPath<'_>> = listing
        .records
        .iter()
        .map(|Listed { record, path }| WithPath { record, path })
        .collect();
    json::print(out, &records, limit)?;
    Ok(())
}

fn print_table(out: &mut dyn Write, listing: &Listing, root: &Path) -> Result<()> {
    if listing.records.is_empty() {
        writeln!(
            out,
            "No runs under {}. `cargo ktstr demo` makes one.",
            root.display()
        )?;
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "RUN",
        "VERDICT",
        "SCHEDULER",
        "KERNEL",
        "TOPOLOGY",
        "WALL",
        "REASON",
    ]);
    for Listed { record, .. } in &listing.records {
        let scheduler = record.scheduler.as_ref();
        table.add_row([
            record.run_id.clone(),
            shout(record.verdict),
            match (scheduler, &record.kernel) {
                (Some(scheduler), _) => scheduler.name.clone(),
                (None, Some(_)) => "eevdf".to_owned(),
                // The run ended before it was decided what runs.
                (None, None) => dash(),
            },
            record.kernel.clone().unwrap_or_else(dash),
            record.topology.clone().unwrap_or_else(dash),
            seconds(record.wall_s),
            shorten(record.reason.as_deref().unwrap_or("")),
        ]);
    }
    if let Some(column) = table.column_mut(5) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(out, "{}", table.trim_fmt())?;
    Ok(())
}

fn dash() -> String {
    "-".to_owned()
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.1} s")
}

fn shout(verdict: RunVerdict) -> String {
    verdict.as_str().to_uppercase()
}

/// Returns a text of at most [`REASON_WIDTH`] characters. A longer text ends after a word, followed by an ellipsis.
fn shorten(reason: &str) -> String {
    let Some((cut, _)) = reason.char_indices().nth(REASON_WIDTH - 1) else {
        return reason.to_owned();
    };
    if reason[cut..].chars().nth(1).is_none() {
        return reason.to_owned();
    }
    let word = reason[..cut].rfind(' ').filter(|end| *end > cut / 2);
    format!("{}…", &reason[..word.unwrap_or(cut)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ktstr_record::{RunRecord, SchedulerRecord};

    #[test]
    fn a_reason_is_cut_after_a_word() {
        let exact = "x".repeat(REASON_WIDTH);
        assert_eq!(shorten(&exact), exact);
        let without_spaces = shorten(&"ä".repeat(REASON_WIDTH + 1));
        assert_eq!(without_spaces.chars().count(), REASON_WIDTH);
        let words = shorten(&"stalled ".repeat(REASON_WIDTH));
        assert!(words.ends_with("stalled…"), "{words}");
        assert!(words.chars().count() <= REASON_WIDTH, "{words}");
    }

    fn listing() -> Listing {
        let record = RunRecord {
            run_id: "20260102T030405.678Z-two_steps-7.0".to_owned(),
            scheduler: Some(SchedulerRecord {
                name: "scx_mine".to_owned(),
                ..SchedulerRecord::default()
            }),
            kernel: Some("7.3.4-cloud".to_owned()),
            topology: Some("1n1l2c1t".to_owned()),
            wall_s: 12.0,
            verdict: RunVerdict::Fail,
            reason: Some(
                "a worker of cg_1 waited 3.2 s for a CPU, more than the 3 s that are allowed"
                    .to_owned(),
            ),
            ..RunRecord::new("two_steps")
        };
        let bare = RunRecord {
            run_id: "20260102T030404.000Z-bare-7.1".to_owned(),
            ..RunRecord::new("bare")
        };
        let listed = |record: RunRecord| Listed {
            path: Path::new("/r").join(&record.test),
            record,
        };
        Listing {
            records: vec![listed(record), listed(bare)],
            damaged: Vec::new(),
        }
    }

    #[test]
    fn the_table() {
        let mut out = Vec::new();
        print_table(&mut out, &listing(), Path::new("/r")).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        RUN                                 VERDICT       SCHEDULER  KERNEL       TOPOLOGY    WALL  REASON
        20260102T030405.678Z-two_steps-7.0  FAIL          scx_mine   7.3.4-cloud  1n1l2c1t  12.0 s  a worker of cg_1 waited 3.2 s for a CPU, more than the 3 s that are allowed
        20260102T030404.000Z-bare-7.1       INCONCLUSIVE  -          -            -          0.0 s
        ");
    }

    #[test]
    fn the_json_has_the_fields_that_scripts_rely_on() {
        let mut out = Vec::new();
        print_json(&mut out, &listing(), Limit::default()).unwrap();
        let runs: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let fields = [
            "test",
            "verdict",
            "reason",
            "kernel",
            "accelerator",
            "clock",
            "seed",
            "digest",
            "topology",
            "window_s",
            "wall_s",
            "boot_s",
            "record",
        ];
        for run in runs.as_array().unwrap() {
            for field in fields {
                assert!(run.get(field).is_some(), "{field} is not there: {run}");
            }
        }
        assert_eq!(runs[0]["record"], "/r/two_steps");
        assert_eq!(runs[0]["verdict"], "fail");
        assert!(runs[1]["digest"].is_null());
    }

    #[test]
    fn no_runs_says_where_it_looked() {
        let mut out = Vec::new();
        print_table(&mut out, &Listing::default(), Path::new("/nowhere")).unwrap();
        assert!(
            String::from_utf8(out)
                .unwrap()
                .starts_with("No runs under /nowhere")
        );
    }
}
