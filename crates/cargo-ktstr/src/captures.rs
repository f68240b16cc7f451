//! The captures of a recorded run as text for people: a list of all, the content of each, those near a finding or a wait, and
//! the command that takes a capture where there is none.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use ktstr::run::{place, queue_name};
use ktstr::snapshot::{FailureDumpReport, RenderedValue};
use ktstr_record::{CaptureRecord, Clock, RunRecord, SchedulerStats};
use ktstr_schedule::Pid;

use crate::report::Mark;
use crate::story::{self, Story};

/// The greatest distance, in nanoseconds, at which a capture counts as near to a time.
const NEAR_NS: u64 = 20_000_000;
/// How long before the end of a wait [`command`] takes the capture, in nanoseconds. For a wait shorter than ten times this, it is
/// a tenth of the wait. The capture cannot be taken at the end itself, because the task no longer waits then.
const BEFORE_NS: u64 = 1_000_000;
/// The largest number of variables that are printed for a map, and of numbers that are printed from `scx_stats`.
const VARIABLES: usize = 40;

/// Returns when a capture was taken, in nanoseconds of the kernel's scheduler clock; `None` if the record does not have the time.
pub fn at_ns(capture: &CaptureRecord, story: &Story) -> Option<u64> {
    let elapsed = capture.elapsed_ms.map(|ms| ms.saturating_mul(1_000_000));
    let counted = elapsed.map(|elapsed| story.zero_ns().saturating_add(elapsed));
    capture.clock_ns.or(counted)
}

/// Returns a mark for each capture whose time is known.
pub fn marks(record: &RunRecord, story: &Story) -> Vec<Mark> {
    let mark = |capture: &CaptureRecord| {
        let at = at_ns(capture, story)?;
        let description = capture
            .moment
            .map(|moment| format!(": {}", moment.description()));
        Some(Mark {
            finding: 0,
            from_ns: at,
            to_ns: at,
            text: format!("capture {}{}", capture.tag, description.unwrap_or_default()),
            pid: None,
            exact: true,
        })
    };
    record.captures.iter().filter_map(mark).collect()
}

/// Returns the captures with data that were taken between two times or at most 20 ms before or after. The times are in
/// nanoseconds of the kernel's scheduler clock.
pub fn near<'r>(
    record: &'r RunRecord,
    story: &Story,
    from_ns: u64,
    to_ns: u64,
) -> Vec<&'r CaptureRecord> {
    let times = from_ns.saturating_sub(NEAR_NS)..=to_ns.saturating_add(NEAR_NS);
    let captures = record.captures.iter();
    captures
        .filter(|capture| capture.placeholder.is_none())
        .filter(|capture| at_ns(capture, story).is_some_and(|at| times.contains(&at)))
        .collect()
}

/// Returns the command that takes a capture shortly before the end of the given interval; `None` if the run cannot be replayed,
/// or if the interval ends before the first step starts.
pub fn command(record: &RunRecord, story: &Story, from_ns: u64, to_ns: u64) -> Option<String> {
    // `replay` refuses these runs.
    let refused = record.test.starts_with(crate::cell::PREFIX)
        || [crate::run::TEST, ktstr_record::VERIFIER_CELL].contains(&record.test.as_str());
    let again = record.clock == Some(Clock::Virtual) && !refused;
    let before = BEFORE_NS.min(to_ns.saturating_sub(from_ns) / 10);
    let at = to_ns.checked_sub(before)?.checked_sub(story.zero_ns())?;
    again.then(|| {
        format!(
            "cargo ktstr replay {} --capture-at {}.{:09}s",
            record.run_id,
            at / 1_000_000_000,
            at % 1_000_000_000
        )
    })
}

/// Returns a sentence that lists the captures near a finding's time. If there are none, returns a sentence that says so, and the
/// command that takes one. `None` if the finding has no exact time, or if there is neither a capture nor a command.
pub fn of_finding(
    record: &RunRecord,
    story: &Story,
    mark: &Mark,
) -> Option<(String, Option<String>)> {
    if !mark.exact {
        return None;
    }
    let near = near(record, story, mark.from_ns, mark.to_ns);
    if near.is_empty() {
        let command = command(record, story, mark.from_ns, mark.to_ns)?;
        return Some((
            "There is no capture near it. This command takes one".to_owned(),
            Some(command),
        ));
    }
    let tags: Vec<&str> = near.iter().map(|capture| capture.tag.as_str()).collect();
    Some((format!("Captures near it: {}.", tags.join(", ")), None))
}

/// Returns the list of a run's captures that have data, for a terminal: the number of those that are periodic or that the test
/// requested, and a line for each capture that an event triggered.
///
/// Times count from `zero_ns` if it is known: the start of the first step, by the kernel's scheduler clock.
pub fn listed(record: &RunRecord, zero_ns: Option<u64>) -> String {
    let with_data = record
        .captures
        .iter()
        .filter(|capture| capture.placeholder.is_none());
    let (moments, others): (Vec<_>, Vec<_>) =
        with_data.partition(|capture| capture.moment.is_some());
    let mut text = String::new();
    if let [first, ..] = &others[..] {
        let last = others.last().map_or("", |last| &last.tag);
        // Writing to a String cannot fail.
        let _ = match others.len() {
            1 => writeln!(text, "captures: {}", first.tag),
            count => writeln!(text, "captures: {count}, from {} to {last}", first.tag),
        };
    }
    for capture in &moments {
        let description = capture
            .moment
            .map_or("", ktstr_record::CaptureMoment::description);
        let at = when(capture, zero_ns);
        let _ = writeln!(text, "capture {}{at}: {description}", capture.tag);
    }
    if !moments.is_empty() {
        let tag = &moments[0].tag;
        let _ = writeln!(
            text,
            "see: cargo ktstr show {} --capture {tag}",
            record.run_id
        );
    }
    text
}

/// Formats when a capture was taken, with a leading space: the seconds since the start of the first step, or, if these are not
/// known, the seconds of the window's time, which does not pass while steps are set up or after the end of the window.
fn when(capture: &CaptureRecord, zero_ns: Option<u64>) -> String {
    match (capture.clock_ns, zero_ns, capture.elapsed_ms) {
        (Some(at), Some(zero), _) => format!(" at {:.6} s", (at as f64 - zero as f64) / 1e9),
        (_, _, Some(ms)) => format!(" at {:.3} s of the window", ms as f64 / 1e3),
        _ => String::new(),
    }
}

/// Reads the captures in `captures.json` next to the record at `path`; none if there is no such file.
///
/// # Errors
/// If the file exists but cannot be read or parsed.
pub fn read(path: &Path) -> Result<Vec<(String, FailureDumpReport)>> {
    let path = path.with_file_name("captures.json");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))
}

/// Returns a sentence for each capture that shows where the task `pid` was during its wait. If there is no such capture,
/// returns the command that takes one, or an empty text if `command` returns none. The interval of the wait is in
/// nanoseconds of the kernel's scheduler clock.
pub fn of_wait(
    record: &RunRecord,
    story: &Story,
    captures: &[(String, FailureDumpReport)],
    pid: Pid,
    (from_ns, to_ns): (u64, u64),
) -> String {
    let mut text = String::new();
    for index in near(record, story, from_ns, to_ns) {
        let at = at_ns(index, story).filter(|at| (from_ns..=to_ns).contains(at));
        let report = captures.iter().find(|(tag, _)| *tag == index.tag);
        if let (Some(at), Some((_, report))) = (at, report)
            && let Some(place) = place(report, pid.0)
        {
            let seconds = (at as f64 - story.zero_ns() as f64) / 1e9;
            let _ = writeln!(
                text,
                "In the capture {} at {seconds:.6} s it was {place}.",
                index.tag
            );
        }
    }
    if text.is_empty()
        && let Some(command) = command(record, story, from_ns, to_ns)
    {
        let _ = writeln!(
            text,
            "No capture was taken during the wait. A capture (the guest's memory, read while it is frozen) shows the task's place in \
             the dispatch queues. This command takes one shortly before the end of the wait: {command}"
        );
    }
    text
}

/// Returns the whole content of the capture with this tag as text.
///
/// # Errors
/// If the run has no capture with this tag, the capture holds no data, or `captures.json` lacks it or cannot be read.
pub fn text(record: &RunRecord, path: &Path, tag: &str) -> Result<String> {
    let Some(index) = record.captures.iter().find(|capture| capture.tag == tag) else {
        let tags: Vec<&str> = record.captures.iter().map(|c| c.tag.as_str()).collect();
        let known = match tags.is_empty() {
            true => "it has none at all".to_owned(),
            false => format!("it has {}", tags.join(", ")),
        };
        bail!("the run {} has no capture {tag:?}: {known}", record.run_id);
    };
    if let Some(why) = &index.placeholder {
        bail!("the capture {tag:?} holds no data: {why}");
    }
    let captures = read(path)?;
    let found = captures.iter().find(|(known, _)| known == tag);
    let (_, report) = found.with_context(|| format!("captures.json has no capture {tag:?}"))?;
    let mut text = format!("{}{}", index.tag, when(index, story::zero_of(path)));
    if let Some(moment) = index.moment {
        let _ = write!(text, ": {}", moment.description());
    }
    text.push('\n');
    text.push_str(&report.sections_text(queue_name));
    variables(&mut text, report);
    match &index.stats {
        Some(stats @ SchedulerStats::Served(_)) => {
            let shown = stats.numbers(VARIABLES).into_iter();
            let shown: Vec<String> = shown
                .map(|(path, value)| format!("{}={value}", path.escape_debug()))
                .collect();
            let _ = writeln!(text, "scx_stats: {}", shown.join(" "));
        }
        Some(SchedulerStats::Missing(why)) => {
            let _ = writeln!(text, "scx_stats: {}", why.escape_debug());
        }
        None => {}
    }
    Ok(text)
}

/// Appends the scheduler's global variables that are integers or Booleans.
fn variables(text: &mut String, report: &FailureDumpReport) {
    let maps = report.maps.iter().filter(|map| {
        let is_section = [".bss", ".data"].iter().any(|end| map.name.ends_with(end));
        is_section && report.active_map_kvas.contains(&map.map_kva)
    });
    for map in maps {
        let Some(RenderedValue::Struct { members, .. }) = &map.value else {
            continue;
        };
        let shown = members.iter().filter_map(|member| {
            let value = match &member.value {
                RenderedValue::Int { value, .. } => value.to_string(),
                RenderedValue::Uint { value, .. } => value.to_string(),
                RenderedValue::Bool { value } => value.to_string(),
                _ => return None,
            };
            Some(format!("{}={value}", member.name.escape_debug()))
        });
        let shown: Vec<String> = shown.take(VARIABLES).collect();
        let _ = writeln!(text, "{}: {}", map.name.escape_debug(), shown.join(" "));
    }
}

#[cfg(test)]
#[path = "captures_tests.rs"]
mod tests;
