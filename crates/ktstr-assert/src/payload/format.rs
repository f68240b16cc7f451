//! The format in which a program prints its metrics, and what is known about the metrics beforehand.

use crate::metric::Polarity;

/// How to find the metrics in the output of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum OutputFormat {
    /// The output contains no metrics, and only the exit code counts.
    #[default]
    ExitCode,
    /// The metrics are the numbers in the JSON objects of the output: `{"read": {"iops": 5}}` gives `read.iops`, and
    /// elements of arrays are counted from 0, as in `jobs.0.iops`. If two values have the same name, the later one
    /// counts.
    Json,
    /// The metrics are found by these regular expressions.
    Patterns(&'static [MetricPattern]),
}

/// A metric that is found in lines of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricPattern {
    /// The metric's name. If the expression has a group named `key`, a dot and the text of that group are appended to
    /// the name, so that one pattern can read a table.
    pub name: &'static str,
    /// A regular expression (of the crate `regex-lite`). The group named `value`, or else the first group, matches the
    /// number; commas in it are ignored. `(?m)` lets `^` and `$` match at the start and the end of each line. If several
    /// matches give the same name, the last one counts.
    pub regex: &'static str,
}

/// Properties of a metric that the output does not show: its direction and its unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricHint {
    /// The name of the metric in the program's output. The hint also applies to metrics below it, as `lat` applies to
    /// `lat.max`, unless another hint is more specific.
    pub name: &'static str,
    /// The direction in which the metric improves.
    pub polarity: Polarity,
    /// The unit; empty for plain numbers.
    pub unit: &'static str,
}

/// The reason why a pattern cannot find a metric.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metric pattern {name:?}: {regex:?} {why}")]
pub struct PatternError {
    /// The name of the metric.
    pub name: &'static str,
    /// The expression as declared.
    pub regex: &'static str,
    /// What is wrong with the expression, as a clause that follows it.
    pub why: String,
}

impl OutputFormat {
    /// Checks that the format can be used to read output.
    ///
    /// # Errors
    /// Returns a [`PatternError`] for the first pattern that is not a regular expression, or that has no group for the
    /// number.
    pub fn validate(&self) -> Result<(), PatternError> {
        match self {
            Self::ExitCode | Self::Json => Ok(()),
            Self::Patterns(patterns) => patterns
                .iter()
                .try_for_each(|pattern| pattern.compile().map(drop)),
        }
    }
}

impl MetricPattern {
    /// Compiles the expression, and checks that it has a group for the number.
    pub(super) fn compile(&self) -> Result<regex_lite::Regex, PatternError> {
        let error = |why: String| PatternError {
            name: self.name,
            regex: self.regex,
            why,
        };
        let regex = regex_lite::Regex::new(self.regex)
            .map_err(|e| error(format!("is not a regular expression: {e}")))?;
        if regex.captures_len() < 2 {
            return Err(error(
                "has no group: put parentheses around the number".to_owned(),
            ));
        }
        Ok(regex)
    }
}
