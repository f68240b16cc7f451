//! What one run of a program has left.

use serde::{Deserialize, Serialize};

use super::format::MetricHint;
use crate::metric::Polarity;

/// Metrics kept of one run of a program. Those beyond are counted in [`PayloadMetrics::left_out`].
pub const MAX_METRICS: usize = 2_048;
/// Runs of programs that one test's result keeps.
pub const MAX_PAYLOADS: usize = 64;
/// Bytes of each stream that a test's result keeps: the end, where programs print their totals and their errors.
pub const EXCERPT: usize = 4 << 10;
/// Bytes that a name or a unit may have.
const NAME: usize = 256;

/// Which stream a metric was printed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MetricStream {
    /// The program printed it to its standard output.
    #[default]
    Stdout,
    /// The program printed it to its standard error.
    Stderr,
}

/// One number that a program printed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name: of JSON the path to it with dots, else that of the pattern.
    pub name: String,
    /// The number as it was printed, in `unit`.
    #[serde(with = "crate::float::one")]
    pub value: f64,
    /// Which way is better; [`Polarity::Unknown`] where the declaration does not say.
    pub polarity: Polarity,
    /// Its unit, as declared; empty for bare numbers.
    pub unit: String,
    /// Where it was printed.
    pub stream: MetricStream,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayloadEnd {
    /// It returned this code.
    Exited(i32),
    /// This signal killed it, and it was not the harness that sent it.
    Signaled(i32),
    /// The test killed it, or the step or the scenario that it belonged to was over.
    Stopped,
    /// It was killed because it ran longer than it may.
    TimedOut {
        /// How long it may run, in milliseconds of guest time.
        limit_ms: u64,
    },
}

impl Default for PayloadEnd {
    fn default() -> Self {
        Self::Exited(0)
    }
}

/// One stream of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Captured {
    /// What is kept of it, as text: bytes that are no UTF-8 are replaced.
    pub text: String,
    /// How many bytes the program wrote.
    pub bytes: u64,
    /// How many of them were thrown away because there were too many.
    pub dropped: u64,
    /// Whether some of it was no UTF-8.
    pub replaced: bool,
}

/// What one run of a program has left.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PayloadMetrics {
    /// The number of the run among all runs of programs of the test, from 0.
    pub payload_index: usize,
    /// The name of the declaration.
    pub payload: String,
    /// The cgroup that it was started in; `None` is the harness's own.
    pub cgroup: Option<String>,
    /// What it printed, by name.
    pub metrics: Vec<Metric>,
    /// How many more metrics it printed than are kept.
    pub left_out: usize,
    /// Its exit code; 128 and the signal's number for one that a signal killed.
    pub exit_code: i32,
    /// How it ended.
    pub end: PayloadEnd,
    /// How long it ran, in nanoseconds of guest time.
    pub elapsed_ns: u64,
    /// CPU time that it and its children got, in nanoseconds.
    pub cpu_time_ns: u64,
    /// What it printed to its standard output, cut where it was too long.
    pub stdout: Captured,
    /// What it printed to its standard error, cut where it was too long.
    pub stderr: Captured,
}

impl PayloadMetrics {
    /// The value of a metric; `None` if the program did not print it.
    pub fn get(&self, name: &str) -> Option<f64> {
        let metric = self.metrics.iter().find(|metric| metric.name == name)?;
        Some(metric.value)
    }

    /// Takes over what was printed, with what is known of it. More than [`MAX_METRICS`] are counted only: those that a
    /// hint names are kept before the others.
    pub fn set_metrics(&mut self, mut metrics: Vec<Metric>, hints: &[MetricHint]) {
        for metric in &mut metrics {
            if let Some(hint) = hint(hints, &metric.name) {
                metric.polarity = hint.polarity;
                hint.unit.clone_into(&mut metric.unit);
            }
        }
        if metrics.len() > MAX_METRICS {
            metrics.sort_by_key(|metric| hint(hints, &metric.name).is_none());
        }
        self.left_out = metrics.len().saturating_sub(MAX_METRICS);
        metrics.truncate(MAX_METRICS);
        self.metrics = metrics;
    }

    /// Cuts everything to what a result may have: of streams the end is kept. Both sides do it, the guest so that the
    /// result can be sent, the host because a guest need not.
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

/// What is known of a metric: the most exact of those hints that have its name or one above it.
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
    fn hints_say_what_numbers_mean_and_are_kept_first() {
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
        run.set_metrics(all, &hints);
        assert_eq!((run.metrics.len(), run.left_out), (MAX_METRICS, 1));
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
    fn a_hint_holds_for_what_is_below_its_name_unless_another_is_more_exact() {
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
    fn what_a_guest_sends_is_cut_however_long_it_is() {
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
