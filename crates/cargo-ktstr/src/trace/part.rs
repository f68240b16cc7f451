//! Selects the part of the schedule that a trace covers: all of it, its end, or the time before a finding.

use std::str::FromStr;

use anyhow::{Result, bail};
use ktstr_record::RunRecord;

use crate::report::marks;
use crate::span::Span;
use crate::story::Story;

/// The text between a length and the number of a finding.
const BEFORE: &str = "-before-finding";

/// The value of `--last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// The last part of the schedule, of this length.
    BeforeTheEnd(Span),
    /// The part of this length that ends with the interval that a finding is about; the number 1 is the first finding.
    BeforeFinding(Span, usize),
}

impl FromStr for Last {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((length, number)) = text.split_once(BEFORE) else {
            return Ok(Self::BeforeTheEnd(text.parse()?));
        };
        let number = match number.strip_prefix('-') {
            None if number.is_empty() => Some(1),
            None => None,
            Some(number) => number.parse().ok().filter(|number| *number > 0),
        };
        let number = number.ok_or_else(|| {
            format!("`{text}` names no finding: write `500ms{BEFORE}` for the first one, `500ms{BEFORE}-2` for the second")
        })?;
        Ok(Self::BeforeFinding(length.parse()?, number))
    }
}

/// The interval of the schedule that a trace covers, in nanoseconds of the kernel's scheduler clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The start of the interval.
    pub from_ns: u64,
    /// The end of the interval.
    pub to_ns: u64,
}

impl Part {
    /// Returns the part that `last` requests; the whole schedule if it is `None`.
    ///
    /// # Errors
    /// If the finding does not exist, or is about a whole step or the whole run.
    pub fn of(record: &RunRecord, story: &Story, last: Option<Last>) -> Result<Self> {
        Ok(match last {
            None => Self {
                from_ns: 0,
                to_ns: u64::MAX,
            },
            Some(Last::BeforeTheEnd(span)) => Self {
                from_ns: story.to_ns.saturating_sub(span.0),
                to_ns: u64::MAX,
            },
            Some(Last::BeforeFinding(span, number)) => {
                let marks = marks(record, story);
                let Some(mark) = marks.iter().find(|mark| mark.finding == number) else {
                    bail!(
                        "the run {} has no finding {number}: it has {}; `cargo ktstr show {0}` lists them",
                        record.run_id,
                        record.findings.len()
                    );
                };
                if !mark.exact {
                    bail!(
                        "finding {number} is about a whole step or the whole run, and not about a moment: without \
                         `{BEFORE}` the trace has the end of the schedule"
                    );
                }
                Self {
                    from_ns: mark.to_ns.saturating_sub(span.0),
                    to_ns: mark.to_ns,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_named_by_a_length_and_a_finding() {
        let ms = |ms: u64| Span(ms * 1_000_000);
        assert_eq!("500ms".parse(), Ok(Last::BeforeTheEnd(ms(500))));
        assert_eq!(
            "500ms-before-finding".parse(),
            Ok(Last::BeforeFinding(ms(500), 1))
        );
        assert_eq!(
            "2s-before-finding-12".parse(),
            Ok(Last::BeforeFinding(ms(2000), 12))
        );
        for bad in [
            "1ms-before-finding-0",
            "1ms-before-findings",
            "x-before-finding",
            "5",
        ] {
            assert!(bad.parse::<Last>().is_err(), "{bad}");
        }
    }
}
