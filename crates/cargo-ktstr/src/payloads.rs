//! The payload runs of a recorded run, one line each, for `cargo ktstr show`: how each ended, and its metrics.
//!
//! Names and units come from a guest, so their control characters are replaced by spaces.

use ktstr_record::{PayloadMetricRecord, PayloadRecord, RunRecord};

/// The largest number of payload runs that are shown; the record has the rest.
const MOST_RUNS: usize = 8;
/// The largest number of metrics of a payload run that are shown.
const MOST_METRICS: usize = 8;

/// Returns a label and a line for each payload run that is shown, and a line with the number of the others, if there are any.
pub fn facts(record: &RunRecord) -> Vec<(&'static str, String)> {
    let all = &record.payloads;
    let shown = all.iter().take(MOST_RUNS).map(line);
    let more = all.len().saturating_sub(MOST_RUNS);
    let more = (more > 0).then(|| format!("and {more} more runs"));
    shown.chain(more).map(|text| ("payload", text)).collect()
}

fn line(run: &PayloadRecord) -> String {
    let place = run
        .cgroup
        .as_ref()
        .map_or_else(String::new, |cgroup| format!(" in {cgroup}"));
    let how = match run.end.as_str() {
        "exited" => format!("exited with {}", run.exit_code),
        other => other.to_owned(),
    };
    let mut text = format!(
        "{}{place} {how}, {:.0} ms, {:.0} ms of CPU time",
        run.name, run.elapsed_ms, run.cpu_ms
    );
    // Metrics whose declaration says which direction is better come first.
    let mut metrics: Vec<&PayloadMetricRecord> = run.metrics.iter().collect();
    metrics.sort_by_key(|metric| metric.better == "unknown");
    for metric in metrics.iter().take(MOST_METRICS) {
        let space = if metric.unit.is_empty() { "" } else { " " };
        text.push_str(&format!(
            "; {} {}{space}{}",
            metric.name, metric.value, metric.unit
        ));
        if metric.better != "unknown" {
            text.push_str(&format!(" ({} is better)", metric.better));
        }
    }
    let more = metrics.len().saturating_sub(MOST_METRICS);
    if more > 0 {
        text.push_str(&format!("; and {more} more metrics"));
    }
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str, value: f64, unit: &str, better: &str) -> PayloadMetricRecord {
        PayloadMetricRecord {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            better: better.to_owned(),
            stream: "stdout".to_owned(),
        }
    }

    #[test]
    fn a_line_says_how_it_ended_and_what_it_measured() {
        let mut run = PayloadRecord {
            name: "fio".to_owned(),
            cgroup: Some("box".to_owned()),
            end: "exited".to_owned(),
            elapsed_ms: 12.4,
            cpu_ms: 10.6,
            metrics: vec![
                metric("depth", 1.0, "", "unknown"),
                metric("iops", 128.5, "op/s", "higher"),
            ],
            ..PayloadRecord::default()
        };
        insta::assert_snapshot!(line(&run), @"fio in box exited with 0, 12 ms, 11 ms of CPU time; iops 128.5 op/s (higher is better); depth 1");
        run.end = "timed out".to_owned();
        run.metrics = vec![metric("a\u{1b}[31m\n", 1.0, "", "unknown"); 10];
        let text = line(&run);
        assert!(text.starts_with("fio in box timed out, "), "{text}");
        assert!(
            text.ends_with("; and 2 more metrics") && !text.contains('\u{1b}'),
            "{text}"
        );
    }

    #[test]
    fn no_more_runs_are_shown_than_fit() {
        let record = RunRecord {
            payloads: vec![PayloadRecord::default(); MOST_RUNS + 2],
            ..RunRecord::default()
        };
        let facts = facts(&record);
        assert_eq!(facts.len(), MOST_RUNS + 1);
        assert_eq!(facts[MOST_RUNS].1, "and 2 more runs");
        assert!(super::facts(&RunRecord::default()).is_empty());
    }
}
