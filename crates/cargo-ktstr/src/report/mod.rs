//! `cargo ktstr report`: writes a self-contained HTML page about a recorded run.
//!
//! The page is made from the record and the artefacts in its folder. Texts, tables and figures are rendered here and need no
//! scripts. The time line is drawn by the scripts in `assets/` from data in the page.

mod data;
mod histogram;
pub mod html;
mod logs;
mod marks;
mod pack;
mod tables;
mod variables;

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use ktstr_record::brief::{evidence, facts, headline, shortened};
use ktstr_record::{RunRecord, RunVerdict, read, runs_root};
use serde_json::Value;

use crate::exit::Exit;
use crate::story::{self, Story};
use crate::{captures, replay, show};
use html::{json, text};
pub use marks::{Mark, marks};
pub use variables::series;

/// The default file name of the page, in the folder of the record.
const PAGE: &str = "report.html";
/// The largest number of findings on the page.
const FINDINGS: usize = 50;
/// The number of characters that are kept of a finding's message, and of a line of the trail.
const MESSAGE: usize = 2000;
/// The target for the size of a page in bytes, without its scripts and style sheet: the time line is thinned to fit. A page
/// whose other sections alone are larger exceeds it.
const CAP: usize = 2_000_000;
/// The text in place of a time line.
const NO_SCHEDULE: &str = "<p>This run left no schedule: KTSTR_SCHEDULE was 0, the machine ended before the schedule could be read, or the \
                           kernel lacks what shows one.</p>\n";

/// The style sheet of all pages.
pub const STYLE: &str = include_str!("assets/page.css");
/// The scripts, each after the scripts that it needs.
const SCRIPTS: &[&str] = &[
    include_str!("assets/data.js"),
    include_str!("assets/view.js"),
    include_str!("assets/draw.js"),
    include_str!("assets/describe.js"),
    include_str!("assets/input.js"),
];

/// The options of `cargo ktstr report`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The run: its name or the start of it, as `cargo ktstr runs` lists it, or the path of its folder or of its `record.json`.
    #[arg(value_name = "RUN")]
    record: PathBuf,
    /// Where to write the page; the default is `report.html` in the folder of the record.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Open the page in the browser with `xdg-open`.
    #[arg(long)]
    open: bool,
}

/// Writes the page and prints its path; with `--open`, opens the page in the browser too.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    let path = replay::find(&options.record, &runs_root())?;
    let record = read(&path)?;
    let story = match path.with_file_name(ktstr_schedule::SCHEDULE_FILE).is_file() {
        true => {
            let (path, file) = story::bytes(&path)?;
            Some(Story::read(&file).with_context(|| path.display().to_string())?)
        }
        false => None,
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let page = page(&record, story.as_ref(), folder);
    let to = options.output.clone().unwrap_or_else(|| folder.join(PAGE));
    fs::write(&to, page).with_context(|| format!("writing the page to {}", to.display()))?;
    writeln!(out, "{}", to.display())?;
    if options.open {
        let mut opener = Command::new("xdg-open");
        opener
            .arg(&to)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let status = opener.status().with_context(|| {
            format!(
                "starting xdg-open, which --open needs; the page is {}",
                to.display()
            )
        })?;
        anyhow::ensure!(
            status.success(),
            "xdg-open failed ({status}); the page is {}",
            to.display()
        );
    }
    Ok(Exit::Done)
}

/// Renders the whole page.
fn page(record: &RunRecord, story: Option<&Story>, folder: &Path) -> String {
    let marks = story.map_or_else(Vec::new, |story| {
        let of_captures = captures::marks(record, story);
        let mut all = marks(record, story);
        // Findings, then captures, then events of the machine: if there are too many marks, the last ones are left out.
        let findings = all.iter().take_while(|mark| mark.finding > 0).count();
        all.splice(findings..findings, of_captures);
        all
    });
    let mut body = top(record);
    findings(&mut body, record, story, &marks);
    trail(&mut body, record, folder);
    let mut sections = Vec::new();
    if let Some(story) = story {
        let covers = story.complete_only();
        let covers = covers.map_or_else(String::new, |covers| note(&covers));
        for (name, id, content) in [
            ("Cgroups and steps", "cgroups", tables::cgroups(story)),
            ("Distributions", "waits", histogram::histograms(story)),
            ("Tasks", "tasks", tables::tasks(story)),
        ] {
            sections.push((name, id, format!("{covers}{content}")));
        }
    }
    let captures = fs::read(folder.join("captures.json")).ok();
    if let Some(captures) = captures.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
    {
        let variables = variables::variables(&captures, &record.captures);
        sections.push(("BPF variables", "variables", variables));
    }
    sections.push(("Logs", "logs", logs::logs(record, folder)));
    // The time line gets the space that the other sections leave.
    let rest: usize = sections.iter().map(|(.., content)| content.len()).sum();
    let room = CAP.saturating_sub(rest + body.len());
    let drawn = story.map(|story| (story, data::data(story, &marks, room)));
    let (line, data) = match &drawn {
        Some((story, (data, thinned))) => (time_line(story, thinned), json(data)),
        None => (NO_SCHEDULE.to_owned(), json(&Value::Null)),
    };
    sections.insert(0, ("Time line", "timeline", line));
    body.push_str("<nav aria-label=\"Sections\">");
    for (name, id, _) in &sections {
        let _ = write!(body, "<a href=\"#{id}\">{name}</a>");
    }
    body.push_str("</nav></header><main>\n");
    for (name, id, content) in sections {
        let _ = writeln!(
            body,
            "<section id=\"{id}\"><h2>{name}</h2>\n{content}</section>"
        );
    }
    body.push_str("</main>\n");
    document(&record.test, &body, &data)
}

/// Returns the page around `body`. Its content security policy allows no loading and only the scripts of this crate: they carry
/// a nonce, which a guest cannot guess because it is a hash of the page's content.
fn document(title: &str, body: &str, data: &str) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(body.as_bytes()).update(data.as_bytes());
    let nonce = hash.finalize().to_hex();
    let scripts = SCRIPTS.concat();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'nonce-{nonce}'; \
         script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{} - ktstr</title>\n<style nonce=\"{nonce}\">\n{STYLE}</style></head><body>\n{body}\
         <script type=\"application/json\" id=\"data\">{data}</script>\n\
         <script nonce=\"{nonce}\">\n\"use strict\";\n(() => {{\n{scripts}}})();\n</script>\n</body></html>\n",
        text(title)
    )
}

/// Renders the verdict of the run, what it ran on, and the command that repeats it.
fn top(record: &RunRecord) -> String {
    let verdict = match record.verdict {
        RunVerdict::Pass => "pass",
        RunVerdict::Fail => "fail",
        RunVerdict::Inconclusive => "inconclusive",
        RunVerdict::Skip => "skip",
    };
    let mut out = format!(
        "<a class=\"skip\" href=\"#timeline\">Skip to the time line</a><header>\n\
         <p class=\"verdict {verdict}\">{verdict}</p><h1>{}</h1>\n<dl>",
        text(&headline(record))
    );
    let mut facts = facts(record);
    facts.push(("run", record.run_id.clone()));
    for (name, value) in facts {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", text(&value));
    }
    out.push_str("</dl>\n");
    if let Some(command) = show::again(record) {
        let _ = writeln!(out, "<p>Run it again: <code>{}</code></p>", text(&command));
    }
    out
}

/// Renders the first `FINDINGS` findings, and the evidence for the fault. If the run has a schedule, each finding has a
/// button that shows its time on the time line, and a note about the captures near that time.
fn findings(out: &mut String, record: &RunRecord, story: Option<&Story>, marks: &[Mark]) {
    if record.findings.is_empty() {
        // There are no findings, or the record has no list of them.
        for line in evidence(record) {
            let _ = writeln!(out, "<p>{}</p>", text(&line));
        }
        return;
    }
    out.push_str("<h2>Findings</h2><ol class=\"findings\">\n");
    for (at, finding) in record.findings.iter().take(FINDINGS).enumerate() {
        let place = [&finding.phase, &finding.cgroup];
        let place: Vec<String> = place
            .into_iter()
            .flatten()
            .map(|place| text(place))
            .collect();
        let _ = write!(
            out,
            "<li class=\"{}\"><span>{}</span> <small>{} {}</small>",
            text(&finding.outcome),
            text(&cut(&finding.message)).replace('\n', "<br>"),
            text(&finding.check),
            place.join(" ")
        );
        if let Some(mark) = marks.iter().position(|mark| mark.finding == at + 1) {
            let _ = write!(
                out,
                " <button type=\"button\" data-mark=\"{mark}\">Show {}</button>",
                at + 1
            );
            let shown = story.and_then(|story| captures::of_finding(record, story, &marks[mark]));
            if let Some((shown, command)) = shown {
                let _ = write!(out, "<br><small>{}", text(&shown));
                if let Some(command) = command {
                    let _ = write!(out, " <code>{}</code>", text(&command));
                }
                out.push_str("</small>");
            }
        }
        out.push_str("</li>\n");
    }
    out.push_str("</ol>\n");
    if record.findings.len() > FINDINGS {
        let _ = writeln!(
            out,
            "<p>These are the first {FINDINGS} findings; result.json has all of them.</p>"
        );
    }
    if let Some(fault) = &record.evidence {
        let _ = writeln!(out, "<p>Evidence for the fault: {}</p>", text(fault));
    }
}

/// Renders the trail, which is the last events of the first finding's task or of the scheduler; then a sentence about the
/// run that this one repeats, and one about the run that repeats this one.
fn trail(out: &mut String, record: &RunRecord, folder: &Path) {
    if !record.trail.is_empty() {
        let lines: Vec<String> = record.trail.iter().map(|line| text(&cut(line))).collect();
        let _ = writeln!(out, "<h2>Trail</h2><pre>{}</pre>", lines.join("\n"));
    }
    let path = folder.join(ktstr_record::RECORD_FILE);
    for line in show::repeats(record, &path) {
        let _ = writeln!(out, "<p>{}</p>", text(&line));
    }
}

/// Returns the first `MESSAGE` characters of a text; the record has the rest.
fn cut(message: &str) -> String {
    shortened(message, MESSAGE).into_owned()
}

/// Renders the controls of the time line, and the notes about it.
fn time_line(story: &Story, thinned: &data::Thinned) -> String {
    let mut out = include_str!("assets/timeline.html").to_owned();
    let mut notes = Vec::new();
    if thinned.left_out > 0 {
        let why = match thinned.shorter_than_ns {
            0 => "their tasks have no row".to_owned(),
            ns => format!(
                "they are shorter than {} or their tasks have no row",
                html::length(ns)
            ),
        };
        notes.push(format!(
            "The schedule is larger than a page: {} of {} stretches are not drawn individually, since {why}. Stretches on a CPU \
             are merged and drawn in grey instead; waits and throttled stretches are left out. The tables and distributions \
             include them all.",
            thinned.left_out, thinned.all
        ));
    }
    if thinned.tasks > 0 {
        let count = thinned.tasks;
        notes.push(format!(
            "The {count} tasks that ran and waited least have no row."
        ));
    }
    if thinned.marks > 0 {
        notes.push(format!(
            "{} more captures or events of sched_ext and CPUs have no mark.",
            thinned.marks
        ));
    }
    notes.extend(story.complete_only());
    notes
        .extend((!story.tables.source.is_exact()).then(|| crate::schedule::TRACEPOINTS.to_owned()));
    if !story.tables.missing.is_empty() {
        notes.push(format!(
            "This kernel lacks {}, so the events that they would show are missing.",
            story.tables.missing.join(", ")
        ));
    }
    out.extend(notes.iter().map(|text| note(text)));
    out
}

/// Renders a note.
fn note(what: &str) -> String {
    format!("<p class=\"note\">{}</p>\n", text(what))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
