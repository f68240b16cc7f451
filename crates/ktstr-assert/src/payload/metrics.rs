//! The results of one run of a program.

use serde::{Deserialize, Serialize};

use super::check::MetricCheck;
use super::format::MetricHint;
use crate::metric::Polarity;

/// The largest number of metrics that are kept from one run of a program. The others are counted in [`PayloadMetrics::left_out`].
pub const MAX_METRICS: usize = 2_048;
/// The largest number of runs of programs that a test's result keeps.
pub const MAX_PAYLOADS: usize = 64;
/// The largest number of bytes of each stream that a test's result keeps: the last ones, because programs print totals
/// and errors at the end.
pub const EXCERPT: usize = 4 << 10;
/// The largest length of a name or a unit, in bytes.
const NAME: usize = 256;

/// The stream to which a metric was printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MetricStream {
    /// The program printed the metric to its standard output.
    #[default]
    Stdout,
    /// The program printed the metric to its standard error.
    Stderr,
}

/// A number that a program printed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The name: in JSON the dotted path to the number, otherwise the name that the pattern gives.
    pub name: String,
    /// The number as it was printed, in `unit`.
    #[serde(with = "crate::float::one")]
    pub value: f64,
    /// The direction in which the metric improves; [`Polarity::Unknown`] if the declaration of the program has no hint for it.
    pub polarity: Polarity,
    /// The unit as declared; empty for plain numbers.
    pub unit: String,
    /// The stream to which it was printed.
    pub stream: MetricStream,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayloadEnd {
    /// The program exited with this code.
    Exited(i32),
    /// This signal killed the program, and the harness did not send it.
    Signaled(i32),
    /// The test stopped the program, or it was stopped at the end of its step or of the scenario.
    Stopped,
    /// The harness killed the program because it exceeded its time limit.
    TimedOut {
        /// The time limit, in milliseconds of guest time.
        limit_ms: u64,
    },
}

impl Default for PayloadEnd {
    fn default() -> Self {
        Self::Exited(0)
    }
}

/// The output of a program to one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Captured {
    /// The part of the output that is kept, as text. Bytes that are not UTF-8 are replaced.
    pub text: String,
    /// The number of bytes that the program wrote.
    pub bytes: u64,
    /// The number of bytes at the end that were dropped because the program wrote too many.
    pub dropped: u64,
    /// Whether some bytes were not UTF-8.
    pub replaced: bool,
}

/// The results of one run of a program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PayloadMetrics {
    /// The index of the run among all runs of programs in the test, from 0.
    pub payload_index: usize,
    /// The name under which the program is declared.
    pub payload: String,
    /// The cgroup in which the program was started; `None` for the cgroup of the harness.
    pub cgroup: Option<String>,
    /// The metrics that it printed.
    pub metrics: Vec<Metric>,
    /// The number of metrics that were not kept.
    pub left_out: usize,
    /// The exit code, or 128 plus the number of the signal that killed the program. A program that the harness stopped
    /// counts as killed by `SIGKILL`.
    pub exit_code: i32,
    /// How the program ended: by itself, through a signal, or because the harness stopped it.
    pub end: PayloadEnd,
    /// How long the program ran, in nanoseconds of guest time.
    pub elapsed_ns: u64,
    /// The CPU time of the program and its children, in nanoseconds.
    pub cpu_time_ns: u64,
    /// The standard output of the program, truncated if it was too long.
    pub stdout: Captured,
    /// The standard error of the program, truncated if it was too long.
    pub stderr: Captured,
}

impl PayloadMetrics {
    /// Returns the value of a metric; `None` if the program did not print it, or if it was not kept.
    pub fn get(&self, name: &str) -> Option<f64> {
        let metric = self.metrics.iter().find(|metric| metric.name == name)?;
        Some(metric.value)
    }

    /// Stores the metrics with the properties that the hints give them. Metrics beyond [`MAX_METRICS`] are only
    /// counted. The metrics that a check names are kept first, because the verdict needs them; next come those to which a hint
    /// applies.
    pub fn set_metrics(
        &mut self,
        mut metrics: Vec<Metric>,
        hints: &[MetricHint],
        checks: &[MetricCheck],
    ) {
        for metric in &mut metrics {
            if let Some(hint) = hint(hints, &metric.name) {
                metric.polarity = hint.polarity;
                hint.unit.clone_into(&mut metric.unit);
            }
        }
        if metrics.len() > MAX_METRICS {
            let is_checked = |name: &str| checks.iter().any(|check| check.metric() == Some(name));
            metrics.sort_by_key(|metric| {
                (
                    !is_checked(&metric.name),
                    hint(hints, &metric.name).is_none(),
                )
            });
        }
        self.left_out = metrics.len().saturating_sub(MAX_METRICS);
        metrics.truncate(MAX_METRICS);
        self.metrics = metrics;
    }

    /// Truncates everything to the size that a result may have, and keeps the end of each stream. The guest calls this
    /// method so that the result can be sent, and the host because it must not trust the guest.
    pub fn bound(&mut self) {
        self.left_out += self.metrics.len().saturating_sub(MAX_METRICS);
        self.metrics.truncate(MAX_METRICS);
        for metric in &mut self.metrics {
            cut(&mut metric.name, NAME);
            cut(&mut metric.unit, NAME);
        }
        cut(&mut self.payload, NAME);
        if let Some(cgroup) = &mut self.cgroup {
            cut(cgroup, NAME);
        }
        for stream in [&mut self.stdout, &mut self.stderr] {
            let from = stream.text.len().saturating_sub(EXCERPT);
            let from = stream.text.ceil_char_boundary(from);
            stream.text.drain(..from);
        }
    }
}

/// Returns the most specific hint that applies to the metric `name`; `None` if no hint does.
fn hint<'a>(hints: &'a [MetricHint], name: &str) -> Option<&'a MetricHint> {
    let is_of = |hint: &&MetricHint| {
        let rest = name.strip_prefix(hint.name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    hints
        .iter()
        .filter(is_of)
        .max_by_key(|hint| hint.name.len())
}

fn cut(text: &mut String, bytes: usize) {
    text.truncate(text.floor_char_boundary(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str, value: f64) -> Metric {
        Metric {
            name: name.to_owned(),
            value,
            ..Metric::default()
        }
    }

    #[test]
    fn hints_set_direction_and_unit_and_their_metrics_are_kept_first() {
        let hints = [MetricHint {
            name: "iops",
            polarity: Polarity::HigherBetter,
            unit: "op/s",
        }];
        let mut all: Vec<Metric> = (0..MAX_METRICS)
            .map(|i| metric(&format!("m{i}"), 0.0))
            .collect();
        all.push(metric("iops", 5.0));
        let mut run = PayloadMetrics::default();
        all.push(metric("checked", 6.0));
        run.set_metrics(all, &hints, &[MetricCheck::max("checked", 7.0)]);
        assert_eq!((run.metrics.len(), run.left_out), (MAX_METRICS, 2));
        assert_eq!(run.get("checked"), Some(6.0));
        assert_eq!(run.get("iops"), Some(5.0));
        let kept = run.metrics.iter().find(|m| m.name == "iops");
        let kept = kept.expect("a hint's metric is kept");
        assert_eq!(
            (kept.polarity, kept.unit.as_str()),
            (Polarity::HigherBetter, "op/s")
        );
        assert_eq!(run.get("m1").is_some(), run.metrics.len() > 1);
        assert_eq!(run.get("nothing"), None);
    }

    #[test]
    fn a_hint_applies_below_its_name_unless_another_is_more_specific() {
        let of = |name, unit| MetricHint {
            name,
            polarity: Polarity::LowerBetter,
            unit,
        };
        let hints = [of("lat", "ms"), of("lat.max", "s")];
        let unit = |name| hint(&hints, name).map(|hint| hint.unit);
        assert_eq!(unit("lat.min"), Some("ms"));
        assert_eq!(unit("lat.max.0"), Some("s"));
        assert_eq!((unit("late"), unit("x.lat")), (None, None));
    }

    #[test]
    fn oversized_results_of_a_guest_are_truncated() {
        let mut run = PayloadMetrics {
            payload: "p".repeat(10_000),
            metrics: vec![metric(&"é".repeat(1_000), 1.0); MAX_METRICS + 3],
            stdout: Captured {
                text: "é".repeat(EXCERPT) + "the end",
                ..Captured::default()
            },
            ..PayloadMetrics::default()
        };
        run.bound();
        assert_eq!((run.payload.len(), run.left_out), (NAME, 3));
        assert!(run.metrics.iter().all(|metric| metric.name.len() <= NAME));
        assert!(run.stdout.text.len() <= EXCERPT);
        assert!(run.stdout.text.ends_with("the end"));
        let again = run.clone();
        run.bound();
        assert_eq!(run, again);
    }
}
