//! The lines of the report about the repeats of a run.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use ktstr_record::brief::counted;
use ktstr_record::{CaptureMoment, Repeated, RunRecord};
use ktstr_schedule::query::{Held, Timeline};

use super::place::place;
use crate::run::{Aim, Finished};
use crate::vm_result::{GuestLifecyclePhase, VmResult};

/// The largest number of captures that have a line.
const CAPTURES: usize = 4;

/// Returns a warning for the first line if a repeat cannot show a workload, because the first run reached neither its
/// scenario nor the end of its test process. Empty for any other first run.
pub(super) fn label(first: &Finished) -> String {
    let phase = first.vm.as_ref().map(|vm| vm.final_guest_phase);
    match phase {
        Some(GuestLifecyclePhase::Body | GuestLifecyclePhase::Teardown) => String::new(),
        _ => "the first run ended before its scenario began, so the repeat shows no workload\n"
            .to_owned(),
    }
}

/// Returns when a repeat under the real clock takes captures: in the middle of each interval that a failure is about, and
/// shortly before its end. The times count from the start of the workload window, and there are at most `most` of them.
pub(super) fn window_times(record: &RunRecord, most: usize) -> Vec<Duration> {
    // Without a schedule, only the findings have times. A worker's times count from the start of its step, so the timeline
    // is built from the lengths of the steps in the statistics. The time of the window pauses between the steps.
    let phases = record.stats["phases"].as_array();
    let mut end_ns = 0;
    let held = phases.into_iter().flatten().filter_map(|phase| {
        let ms = |name: &str| phase[name].as_u64();
        let number = u16::try_from(ms("step_index")?).ok().filter(|n| *n > 0)?;
        let length = ms("end_ms")?.checked_sub(ms("start_ms")?)?;
        let from_ns = end_ns;
        end_ns = length.saturating_mul(1_000_000).saturating_add(from_ns);
        Some(Held {
            number,
            from_ns,
            to_ns: end_ns,
        })
    });
    let timeline = Timeline {
        held: held.collect(),
        ends_ns: Some((0, u64::MAX)),
        ..Timeline::default()
    };
    let failed = record.findings.iter().filter(|f| f.outcome == "fail");
    let aims = failed.map(|finding| Aim::of(finding, &timeline));
    let mut times: Vec<Duration> = aims
        .filter(|aim| aim.exact)
        .flat_map(|aim| {
            let length = aim.to_ns.saturating_sub(aim.from_ns);
            [aim.from_ns + length / 2, aim.to_ns - length / 10]
        })
        .map(Duration::from_nanos)
        .collect();
    times.truncate(most);
    times.sort_unstable();
    times.dedup();
    times
}

/// Describes the one repeat of a run under the virtual clock.
pub(super) fn of_virtual(first: &Finished, again: &Finished) -> String {
    let Some(repeat) = &again.repeats else {
        return format!(
            "the repeat left no record, so it shows nothing: {}",
            crate::run::report::reason(&again.result)
        );
    };
    if again.vm.is_none() {
        return format!(
            "the repeat could not be run, which says nothing about the failure: {}",
            crate::run::report::reason(&again.result)
        );
    }
    let took = again.wall.as_secs_f64();
    let mut text = match repeat.outcome {
        Repeated::Same => {
            let digest = again.vm.as_ref().and_then(|vm| vm.digest.as_deref());
            format!(
                "the repeat is identical to the first run, digest {:.16}…; it took {took:.1} s",
                digest.unwrap_or_default()
            )
        }
        Repeated::Different => format!(
            "the repeat is NOT identical to the first run, so what it shows can have another cause; it took {took:.1} s\n{}",
            repeat.text
        ),
        _ => format!(
            "whether the repeat is identical to the first run is unknown ({}); it took {took:.1} s",
            repeat.text
        ),
    };
    if let Some(vm) = &again.vm {
        captures(&mut text, first, vm, again.record.as_deref());
    }
    record(&mut text, again);
    text
}

/// Appends a line for each of the first [`CAPTURES`] captures at requested times: when it was taken, and where the task of a
/// finding was at that time. A last line is the command that shows the last of these captures.
fn captures(text: &mut String, first: &Finished, vm: &VmResult, record: Option<&Path>) {
    let run = record.and_then(Path::parent).and_then(Path::file_name);
    let run = run.map_or_else(|| "RUN".into(), |run| run.to_string_lossy());
    let evidence = &first.evidence_of_schedule;
    let asked = vm
        .moments
        .iter()
        .filter(|m| m.moment == CaptureMoment::Asked);
    let mut last = None;
    for capture in asked.take(CAPTURES) {
        let seconds = capture
            .clock_ns
            .map(|at| (at as f64 - evidence.zero_ns as f64) / 1e9);
        let when = match (seconds, capture.elapsed_ms) {
            (Some(seconds), _) => format!("at {seconds:.6} s"),
            (None, Some(ms)) => format!("at {:.3} s of the window", ms as f64 / 1e3),
            (None, None) => "outside of the window".to_owned(),
        };
        // The line is about the task whose wait contains the time of the capture, if there is one.
        let target = evidence.targets.iter().find(|target| {
            let at = capture.clock_ns.unwrap_or_default();
            (target.from_ns..=target.to_ns).contains(&at)
        });
        let of_task = target.and_then(|target| target.task.as_ref());
        let shown = of_task.and_then(|(name, pid)| {
            let place = place(&capture.report, *pid)?;
            Some(format!("{name} was {place}"))
        });
        let shown = shown.unwrap_or_else(|| "taken".to_owned());
        let _ = write!(text, "\ncapture {} {when}: {shown}", capture.tag);
        last = Some(&capture.tag);
    }
    if let Some(tag) = last {
        let _ = write!(text, "\nsee: cargo ktstr show {run} --capture {tag}");
    }
}

/// Describes the repeats of a run under the real clock. `most` is the number of repeats after which the harness stops.
pub(super) fn of_real(tried: &[Finished], most: u32) -> String {
    let outcome = |run: &Finished| run.repeats.as_ref().map(|repeat| repeat.outcome);
    let is_back = tried.last().and_then(outcome) == Some(Repeated::FailedAgain);
    let mut text = match is_back {
        true => format!(
            "the failure came back in repeat {} of {most} at most",
            tried.len()
        ),
        false => format!(
            "the failure did not come back in {}",
            counted(tried.len(), "repeat")
        ),
    };
    text.push_str(" (real clock: no two runs are the same, and there is no digest)");
    for (at, run) in tried.iter().enumerate() {
        let result = run.repeats.as_ref().map(|repeat| repeat.text.as_str());
        let result = result.unwrap_or("it left no record");
        let _ = write!(text, "\nrepeat {}: {result}", at + 1);
    }
    if let Some(last) = tried.last() {
        let moments = last.vm.iter().flat_map(|vm| &vm.moments);
        let tags: Vec<&str> = moments.map(|capture| capture.tag.as_str()).collect();
        if !tags.is_empty() {
            let _ = write!(text, "\ncaptures: {}", tags.join(", "));
        }
        record(&mut text, last);
    }
    text
}

/// Appends the path of the repeat's record, if it has one.
fn record(text: &mut String, run: &Finished) {
    if let Some(path) = &run.record {
        let _ = write!(text, "\nrecord of the repeat: {}", path.display());
    }
}
