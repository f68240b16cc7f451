//! In which form a program prints its metrics, and what is known of them beforehand.

use crate::metric::Polarity;

/// Where the metrics are in what a program prints.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum OutputFormat {
    /// There are none: only the exit code counts.
    #[default]
    ExitCode,
    /// The numbers in the JSON objects among the text: `{"read": {"iops": 5}}` is `read.iops`, and elements of arrays are
    /// counted from 0, as in `jobs.0.iops`. Of two values under one name the later one counts.
    Json,
    /// What these regular expressions match.
    Patterns(&'static [MetricPattern]),
}

/// A metric in lines of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricPattern {
    /// The metric's name. Where the expression has a group named `key`, a dot and what that group matches follow it, so
    /// that one pattern reads a table.
    pub name: &'static str,
    /// A regular expression (of the crate `regex-lite`) whose group named `value`, else its first group, matches the
    /// number. `(?m)` lets `^` and `$` match at lines. Of several matches the last one counts.
    pub regex: &'static str,
}

/// What is known of a metric beforehand: text alone does not say which way is better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricHint {
    /// The metric's name, as the program's output gives it. It holds for metrics below it too: `lat` for `lat.max`, unless
    /// another hint is more exact.
    pub name: &'static str,
    /// Which way is better.
    pub polarity: Polarity,
    /// The unit; empty for bare numbers.
    pub unit: &'static str,
}

/// A pattern that cannot find a metric.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metric pattern {name:?}: {regex:?} {why}")]
pub struct PatternError {
    /// The name of the metric.
    pub name: &'static str,
    /// The expression as it is declared.
    pub regex: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl OutputFormat {
    /// Whether the format can be read with.
    ///
    /// # Errors
    /// [`PatternError`] names the first pattern that is no regular expression, or has no group for the number.
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
    pub(super) fn compile(&self) -> Result<regex_lite::Regex, PatternError> {
        let error = |why: String| PatternError {
            name: self.name,
            regex: self.regex,
            why,
        };
        let regex = regex_lite::Regex::new(self.regex)
            .map_err(|e| error(format!("is no regular expression: {e}")))?;
        if regex.captures_len() < 2 {
            return Err(error(
                "has no group: put parentheses around the number".to_owned(),
            ));
        }
        Ok(regex)
    }
}
