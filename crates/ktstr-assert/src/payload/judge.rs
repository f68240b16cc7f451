//! Judges whether a program ended as the test expects, and whether its metrics are within the bounds that the test sets.

use super::check::MetricCheck;
use super::metrics::{Captured, Metric, PayloadEnd, PayloadMetrics};
use crate::outcome::{AssertDetail, AssertResult, DetailKind, Finding, PassDetail};

/// The largest number of lines of output that a finding quotes: of standard error or, if standard error is
/// empty, of standard output.
const LAST_LINES: usize = 8;
/// The largest number of bytes of a line that a finding quotes.
const LINE: usize = 256;
/// The largest number of metric names that a finding lists.
const NAMES: usize = 12;

/// Judges a finished run. A program fails if it is killed by a signal that the harness did not send, if it exceeds its time
/// limit, or if it exits with an unexpected code. Its metrics are judged only if it exited by itself.
pub fn judge(run: &PayloadMetrics, checks: &[MetricCheck]) -> AssertResult {
    let mut result = AssertResult::pass();
    note_output(run, &mut result);
    let codes: Vec<i32> = checks
        .iter()
        .filter_map(|check| match check {
            MetricCheck::ExitCodeEq(code) => Some(*code),
            _ => None,
        })
        .collect();
    match run.end {
        PayloadEnd::Exited(found) => {
            let name = format!("payload {}: exit code", run.payload);
            // Of several checks, the first one that the exit code does not satisfy is reported.
            let code = codes.iter().find(|code| **code != found).or(codes.first());
            let wanted = code.copied().unwrap_or(0);
            if found == wanted {
                result.record_pass(PassDetail::binary(
                    name,
                    "eq",
                    found.to_string(),
                    wanted.to_string(),
                ));
            } else {
                let advice = match code {
                    Some(_) => String::new(),
                    None => format!(
                        " (if that is right, expect it with MetricCheck::exit_code_eq({found}))"
                    ),
                };
                fail(
                    run,
                    &mut result,
                    format!("exited with code {found}, expected {wanted}{advice}"),
                );
            }
            for check in checks {
                metric(run, check, &mut result);
            }
        }
        PayloadEnd::Signaled(signal) => fail(
            run,
            &mut result,
            format!("was killed by signal {signal}, which the harness did not send"),
        ),
        PayloadEnd::TimedOut { limit_ms } => fail(
            run,
            &mut result,
            format!(
                "ran past its limit of {limit_ms} ms and was killed; it had got {} ms of CPU time",
                run.cpu_time_ns / 1_000_000
            ),
        ),
        PayloadEnd::Stopped if checks.is_empty() => {}
        PayloadEnd::Stopped => {
            result.note(format!(
                "payload `{}` was still running when it was stopped, so its {} checks were not judged: wait for its end \
                 (Op::wait_payload) to have them judged",
                run.payload,
                checks.len()
            ));
        }
    }
    result
}

fn fail(run: &PayloadMetrics, result: &mut AssertResult, how: String) {
    let stream = match run.stderr.text.trim().is_empty() {
        true => &run.stdout,
        false => &run.stderr,
    };
    let mut detail = AssertDetail::of(Finding::PayloadFailed {
        payload: run.payload.clone(),
        how,
        printed: last_lines(stream),
        timed_out: matches!(run.end, PayloadEnd::TimedOut { .. }),
    });
    detail.cgroup = run.cgroup.clone().map(Into::into);
    result.record_fail(detail);
}

/// Notes which parts of the output were lost, so that a part is not mistaken for the whole.
fn note_output(run: &PayloadMetrics, result: &mut AssertResult) {
    for (name, stream) in [("stdout", &run.stdout), ("stderr", &run.stderr)] {
        if stream.dropped > 0 {
            result.note(format!(
                "payload `{}` wrote {} bytes to {name}, and the last {} of them were dropped, so metrics in them are \
                 not read",
                run.payload, stream.bytes, stream.dropped
            ));
        }
        if stream.replaced {
            result.note(format!(
                "payload `{}` wrote bytes to {name} that are not UTF-8, which were replaced",
                run.payload
            ));
        }
    }
    if run.left_out > 0 {
        result.note(format!(
            "payload `{}` printed {} more metrics than are kept",
            run.payload, run.left_out
        ));
    }
}

fn metric(run: &PayloadMetrics, check: &MetricCheck, result: &mut AssertResult) {
    let (name, comparator, expected) = match check {
        MetricCheck::ExitCodeEq(_) => return,
        MetricCheck::Min { metric, value } => (*metric, "ge", format!("at least {value}")),
        MetricCheck::Max { metric, value } => (*metric, "le", format!("at most {value}")),
        MetricCheck::Range { metric, lo, hi } => (*metric, "in_range", format!("in [{lo}, {hi}]")),
        MetricCheck::Exists(metric) => (*metric, "is_finite", "a number".to_owned()),
    };
    let Some(found) = run.metrics.iter().find(|metric| metric.name == name) else {
        if run.left_out > 0 || run.stdout.dropped > 0 || run.stderr.dropped > 0 {
            result.record_inconclusive(AssertDetail::of(Finding::NotMeasured {
                kind: DetailKind::Benchmark,
                what: format!("the metric {name:?} of payload `{}`", run.payload),
                why: ": not all of its output was kept".to_owned(),
            }));
            return;
        }
        fail(run, result, absent(run, name));
        return;
    };
    if holds(check, found) {
        let label = format!("payload {}: {name}", run.payload);
        result.record_pass(PassDetail::binary(
            label,
            comparator,
            found.value.to_string(),
            expected,
        ));
        return;
    }
    let mut detail = AssertDetail::of(Finding::PayloadMetric {
        payload: run.payload.clone(),
        metric: name.to_owned(),
        value: found.value,
        unit: found.unit.clone(),
        expected,
    });
    detail.cgroup = run.cgroup.clone().map(Into::into);
    result.record_fail(detail);
}

fn holds(check: &MetricCheck, found: &Metric) -> bool {
    match *check {
        MetricCheck::Min { value, .. } => found.value >= value,
        MetricCheck::Max { value, .. } => found.value <= value,
        MetricCheck::Range { lo, hi, .. } => (lo..=hi).contains(&found.value),
        MetricCheck::Exists(_) | MetricCheck::ExitCodeEq(_) => true,
    }
}

fn absent(run: &PayloadMetrics, name: &str) -> String {
    let mut names: Vec<&str> = run.metrics.iter().map(|m| m.name.as_str()).collect();
    let more = names.len().saturating_sub(NAMES);
    names.truncate(NAMES);
    let printed = match (names.is_empty(), more) {
        (true, _) => "no metric at all: is its `output` format the right one?".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    };
    format!("printed no metric {name:?}; it printed {printed}")
}

fn last_lines(stream: &Captured) -> String {
    let lines: Vec<&str> = stream
        .text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(LAST_LINES)..]
        .iter()
        .map(|line| format!("    {}", &line[..line.floor_char_boundary(LINE)]))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::DetailKind;

    fn run(end: PayloadEnd) -> PayloadMetrics {
        PayloadMetrics {
            payload: "load".to_owned(),
            end,
            metrics: vec![Metric {
                name: "iops".to_owned(),
                value: 12.5,
                unit: "op/s".to_owned(),
                ..Metric::default()
            }],
            stderr: Captured {
                text: "first\n\nno such device\n".to_owned(),
                ..Captured::default()
            },
            ..PayloadMetrics::default()
        }
    }

    fn failures(run: &PayloadMetrics, checks: &[MetricCheck]) -> Vec<String> {
        let result = judge(run, checks);
        result
            .failure_details()
            .map(|d| d.message.clone())
            .collect()
    }

    #[test]
    fn each_check_of_the_exit_code_is_judged() {
        let codes = |codes: &[i32]| {
            let checks = codes.iter().map(|code| MetricCheck::exit_code_eq(*code));
            failures(&run(PayloadEnd::Exited(3)), &checks.collect::<Vec<_>>()).len()
        };
        assert_eq!(codes(&[3, 3]), 0);
        assert_eq!(codes(&[3, 4]), 1);
        assert_eq!(codes(&[4, 3]), 1);
    }

    #[test]
    fn the_end_is_judged_before_the_metrics() {
        let checks = [MetricCheck::min("iops", 100.0)];
        insta::assert_debug_snapshot!(failures(&run(PayloadEnd::Signaled(11)), &checks), @r#"
        [
            "payload `load` was killed by signal 11, which the harness did not send; its last output:\n    first\n    no such device",
        ]
        "#);
        insta::assert_debug_snapshot!(failures(&run(PayloadEnd::TimedOut { limit_ms: 50 }), &[]), @r#"
        [
            "payload `load` ran past its limit of 50 ms and was killed; it had got 0 ms of CPU time; its last output:\n    first\n    no such device",
        ]
        "#);
        insta::assert_debug_snapshot!(failures(&run(PayloadEnd::Exited(3)), &[]), @r#"
        [
            "payload `load` exited with code 3, expected 0 (if that is right, expect it with MetricCheck::exit_code_eq(3)); its last output:\n    first\n    no such device",
        ]
        "#);
        assert!(judge(&run(PayloadEnd::Exited(3)), &[MetricCheck::exit_code_eq(3)]).is_pass());
    }

    #[test]
    fn metrics_are_checked_against_their_bounds() {
        let ended = run(PayloadEnd::Exited(0));
        let good = [
            MetricCheck::min("iops", 12.5),
            MetricCheck::max("iops", 12.5),
            MetricCheck::range("iops", 12.0, 13.0),
            MetricCheck::exists("iops"),
        ];
        let result = judge(&ended, &good);
        assert!(result.is_pass());
        assert_eq!(result.passes.len(), 1 + good.len());
        let bad = [
            MetricCheck::min("iops", 12.6),
            MetricCheck::max("iops", 12.4),
            MetricCheck::range("iops", 0.0, 12.0),
            MetricCheck::exists("lat"),
        ];
        let result = judge(&ended, &bad);
        let kinds: Vec<DetailKind> = result.failure_details().map(|d| d.kind).collect();
        use DetailKind::{Benchmark, Other};
        assert_eq!(kinds, [Benchmark, Benchmark, Benchmark, Other]);
        insta::assert_debug_snapshot!(failures(&ended, &bad), @r#"
        [
            "payload `load`: iops = 12.5 op/s, expected at least 12.6",
            "payload `load`: iops = 12.5 op/s, expected at most 12.4",
            "payload `load`: iops = 12.5 op/s, expected in [0, 12]",
            "payload `load` printed no metric \"lat\"; it printed iops; its last output:\n    first\n    no such device",
        ]
        "#);
    }

    #[test]
    fn a_stopped_payload_passes_and_notes_what_was_not_judged() {
        let stopped = run(PayloadEnd::Stopped);
        let result = judge(&stopped, &[MetricCheck::min("iops", 100.0)]);
        assert!(result.is_pass());
        assert!(
            result.info_notes[0]
                .message
                .contains("its 1 checks were not judged")
        );
        assert!(judge(&stopped, &[]).info_notes.is_empty());
    }

    #[test]
    fn lost_output_is_noted() {
        let mut ended = run(PayloadEnd::Exited(0));
        ended.stdout = Captured {
            bytes: 100,
            dropped: 60,
            replaced: true,
            ..Captured::default()
        };
        ended.left_out = 2;
        let notes = judge(&ended, &[]).info_notes;
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert!(
            notes[0]
                .message
                .contains("wrote 100 bytes to stdout, and the last 60 of them")
        );
    }

    #[test]
    fn a_metric_that_may_have_been_lost_is_not_missed() {
        let check = [MetricCheck::exists("x")];
        let mut ended = run(PayloadEnd::Exited(0));
        assert!(judge(&ended, &check).is_fail());
        ended.stdout.dropped = 60;
        assert!(judge(&ended, &check).is_inconclusive());
        ended.stdout.dropped = 0;
        ended.left_out = 1;
        assert!(judge(&ended, &check).is_inconclusive());
    }

    #[test]
    fn checks_that_no_program_can_meet() {
        assert!(MetricCheck::min("m", f64::NAN).validate().is_err());
        let error = MetricCheck::range("m", 2.0, 1.0).validate();
        let error = error.expect_err("an empty range").to_string();
        assert!(error.contains("the range 2 to 1"), "{error}");
        assert_eq!(MetricCheck::exists("m").validate(), Ok(()));
    }
}
