//! `cargo ktstr table FILE...`: shows the results of several checks on one page of Markdown. Nothing is run. The page has no wall
//! times, no dates and no paths of records, only results that the virtual clock reproduces: the same checks give the same page.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use ktstr_record::brief::counted;
use ktstr_record::brief::shortened;
use ktstr_record::markdown::inline;

use super::report::{NotLoaded, Report, Row};
use super::results::Results;
use super::show;
use crate::cell::Proof;
use crate::exit::Exit;

/// If a scheduler does not load, at most this many lines of the reason are shown.
const REASON: usize = 6;
/// At most this many characters of a message are shown.
const MESSAGE: usize = 400;

/// The options of `cargo ktstr table`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Results of checks, as `cargo ktstr check --results FILE` or `cargo ktstr merge --results FILE` wrote them. The rows
    /// are in the order of these files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Reads the files and prints the page.
///
/// # Errors
///
/// A file cannot be read, or holds no results.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    let mut reports = Vec::new();
    for path in &options.files {
        reports.push(Results::read(path)?.report());
    }
    show(out, &page(&reports))?;
    Ok(Exit::Done)
}

/// Returns the page: a table with a row for each check, and a section for each check that found something.
fn page(reports: &[Report]) -> String {
    let mut text = String::from(
        "| Scheduler | Kernels | Runs | Sound | Broken | Known | Not promised | Slower | No answer |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for report in reports {
        line(&mut text, report);
    }
    for report in reports {
        section(&mut text, report);
    }
    text
}

/// Returns the scheduler's file name and arguments, and the shard if the report is not of a whole check.
fn name(report: &Report) -> String {
    let checked = &report.scheduler;
    let file = checked.path.file_name().unwrap_or(checked.path.as_os_str());
    let mut name = file.to_string_lossy().into_owned();
    for argument in &checked.args {
        name.push(' ');
        name.push_str(argument);
    }
    match &report.shard {
        Some(shard) => format!("{name} (only the shard {shard})"),
        None => name,
    }
}

/// Returns the lists of a report with their names, in the order of the columns.
fn lists(report: &Report) -> [(&'static str, &[Row]); 5] {
    [
        ("broken", &report.broken),
        ("known", &report.known),
        ("not promised", &report.not_promised),
        ("slower", &report.slower),
        ("no answer", &report.no_answer),
    ]
}

fn line(text: &mut String, report: &Report) {
    // `not_loaded` has an entry for each reason, so a kernel can have several entries.
    let blamed = report.not_loaded.iter().filter(|entry| entry.blamed);
    let kernels: BTreeSet<&str> = blamed.map(|entry| entry.kernel.as_str()).collect();
    let in_vain: u64 = report
        .not_loaded
        .iter()
        .filter(|entry| entry.blamed)
        .map(|entry| entry.runs)
        .sum();
    let broken = match kernels.len() {
        0 => report.broken.len().to_string(),
        kernels if kernels == report.kernels.len() && in_vain >= report.runs => {
            "does not load".to_owned()
        }
        kernels => format!(
            "{}; does not load on {}",
            report.broken.len(),
            counted(kernels, "kernel")
        ),
    };
    let counts = lists(report).map(|(_, rows)| rows.len());
    let [_, known, not_promised, slower, no_answer] = counts;
    let _ = writeln!(
        text,
        "| {} | {} | {} | {} | {broken} | {known} | {not_promised} | {slower} | {no_answer} |",
        inline(&name(report)),
        inline(&report.kernels.join(", ")),
        report.runs,
        report.sound,
    );
}

fn section(text: &mut String, report: &Report) {
    let lists = lists(report);
    let has_rows = lists.iter().any(|(_, rows)| !rows.is_empty());
    if report.not_loaded.is_empty() && !has_rows {
        return;
    }
    let _ = writeln!(text, "\n## {}\n", inline(&name(report)));
    for kernel in &report.not_loaded {
        refusal(text, kernel, report);
    }
    if !has_rows {
        return;
    }
    text.push_str(
        "| List | Scenario | Kernel, shape | Seeds | Check | Shown by | What was found, and why it is in this list |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (list, rows) in lists {
        for row in rows {
            finding(text, list, row, report);
        }
    }
}

/// Replaces the paths of the scheduler's binary in a text by its file name, so that the page does not depend on where the
/// binary was built.
fn without_folder(text: &str, report: &Report) -> String {
    let path = &report.scheduler.path;
    let Some(file) = path.file_name().and_then(|file| file.to_str()) else {
        return text.to_owned();
    };
    let named = format!("/{file}");
    let mut rest = text;
    let mut out = String::new();
    while let Some(at) = rest.find(&named) {
        let ends = |c: char| c.is_whitespace() || "`'\"(=".contains(c);
        out.push_str(&rest[..behind_last(&rest[..at], ends)]);
        out.push_str(file);
        rest = &rest[at + named.len()..];
    }
    without_registry(&(out + rest))
}

/// Returns the position after the last character that is in `set`; 0 if there is none.
fn behind_last(text: &str, set: impl Fn(char) -> bool) -> usize {
    let last = text.char_indices().rfind(|(_, c)| set(*c));
    last.map_or(0, |(at, c)| at + c.len_utf8())
}

/// Removes the folders of cargo's registry from the paths of source files that appear in the logs of schedulers.
fn without_registry(text: &str) -> String {
    const SOURCES: &str = "/registry/src/";
    let mut rest = text;
    let mut out = String::new();
    while let Some(at) = rest.find(SOURCES) {
        out.push_str(&rest[..behind_last(&rest[..at], char::is_whitespace)]);
        let behind = &rest[at + SOURCES.len()..];
        rest = behind.split_once('/').map_or("", |(_, path)| path);
    }
    out + rest
}

fn refusal(text: &mut String, kernel: &NotLoaded, report: &Report) {
    let fault = match kernel.blamed {
        true => "",
        false => " (this is not the scheduler's fault)",
    };
    let _ = writeln!(
        text,
        "The scheduler does not load on {}{fault}:\n",
        inline(&kernel.kernel)
    );
    for line in kernel.reason.iter().take(REASON) {
        let _ = writeln!(text, "> {}  ", inline(&without_folder(line, report)));
    }
    text.push('\n');
}

fn finding(text: &mut String, list: &str, row: &Row, report: &Report) {
    let seeds: Vec<String> = row.seeds.iter().map(u64::to_string).collect();
    let _ = writeln!(
        text,
        "| {list} | {} | {}, {} | {} of {} | {} | {} | {} ({}) |",
        inline(&row.scenario),
        inline(&row.kernel),
        inline(&row.topology),
        seeds.join(", "),
        row.of,
        inline(&row.check),
        shown_by(row.proof),
        inline(&shortened(&without_folder(&row.message, report), MESSAGE)),
        inline(&row.why),
    );
}

fn shown_by(proof: Proof) -> &'static str {
    match proof {
        Proof::Kernel => "the kernel",
        Proof::Schedule => "the exact schedule",
        Proof::Worker => "a worker",
        Proof::Expected => "an expectation alone",
        Proof::Nothing => "nothing",
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::results;
    use super::*;

    #[test]
    fn each_check_has_a_row_and_each_finding_its_evidence() {
        let first = results().report();
        let mut second = first.clone();
        second.scheduler.path = "/home/somebody/builds/scx_other".into();
        second.scheduler.args = vec!["--mode=a|b".to_owned()];
        second.broken.clear();
        let text = page(&[first, second]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[2],
            "| scx\\_mine --fast | 7.3.4 | 5 | 2 | 1 | 0 | 1 | 0 | 1 |"
        );
        assert_eq!(
            lines[3],
            "| scx\\_other --mode=a\\|b | 7.3.4 | 5 | 2 | 0 | 0 | 1 | 0 | 1 |"
        );
        let broken = lines.iter().find(|line| line.starts_with("| broken"));
        let start = "| broken | steady | 7.3.4, 1n1l2c1t | 1 of 2 | starvation | the exact schedule | starvation of &lt;worker&gt; (";
        assert!(broken.is_some_and(|line| line.starts_with(start)), "{text}");
        assert_eq!(text.matches("\n## ").count(), 2, "{text}");
        assert!(!text.contains("/home/"), "{text}");
        assert!(!text.contains("record.json"), "{text}");
    }

    #[test]
    fn a_scheduler_that_does_not_load_has_the_reason() {
        let mut report = results().report();
        report.not_loaded.push(NotLoaded {
            kernel: "7.3.4".to_owned(),
            reason: (1..9).map(|line| format!("R{line} invalid")).collect(),
            blamed: true,
            runs: 5,
            again: "cargo ktstr check ./scx_mine".to_owned(),
            record: None,
        });
        let text = page(&[report.clone()]);
        assert!(text.contains("| 5 | 2 | does not load |"), "{text}");
        assert!(text.contains("\n> R6 invalid  \n\n"), "{text}");
        assert!(!text.contains("R7 invalid"), "{text}");
        // The scheduler was loaded in the other runs.
        let mut once = report.clone();
        once.not_loaded[0].runs = 1;
        let text = page(&[once]);
        assert!(
            text.contains("| 5 | 2 | 1; does not load on 1 kernel |"),
            "{text}"
        );
        // Another reason on the same kernel is another entry.
        report.not_loaded.extend(report.not_loaded.clone());
        assert!(page(&[report]).contains("| 5 | 2 | does not load |"));
    }

    #[test]
    fn the_folder_of_the_binary_is_left_out() {
        let mut report = results().report();
        report.scheduler.path = "./build/scx_mine".into();
        let text = "scheduler `/home/me/build/scx_mine` died; see /home/me/build/scx_mine and /home/me/scx_other";
        assert_eq!(
            without_folder(text, &report),
            "scheduler `scx_mine` died; see scx_mine and /home/me/scx_other"
        );
        // A space of three bytes.
        let spaced = "died\u{3000}/home/me/build/scx_mine";
        assert_eq!(without_folder(spaced, &report), "died\u{3000}scx_mine");
        let log = "INFO /home/me/.cargo/registry/src/index.example-1949/scx_utils-1.1.4/src/compat.rs:564: features";
        assert_eq!(
            without_folder(log, &report),
            "INFO scx_utils-1.1.4/src/compat.rs:564: features"
        );
    }

    #[test]
    fn a_sound_scheduler_has_only_a_row() {
        let mut report = results().report();
        report.broken.clear();
        report.not_promised.clear();
        report.no_answer.clear();
        let text = page(&[report]);
        assert_eq!(text.lines().count(), 3, "{text}");
    }
}
