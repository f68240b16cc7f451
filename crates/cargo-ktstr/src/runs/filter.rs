//! Selects runs by test, verdict, scheduler, kernel and age.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use ktstr_record::{RunRecord, RunVerdict, timestamp};

/// The text that `--scheduler` matches for a run whose record names no scheduler.
const NONE: &str = "eevdf";

/// The conditions for a run to be selected; all of them must hold.
#[derive(Debug, Default, clap::Args)]
pub struct Filter {
    /// Only runs of tests whose name contains this text.
    #[arg(long, value_name = "PART")]
    test: Option<String>,
    /// Only runs with this verdict: pass, fail, inconclusive or skip.
    #[arg(long, value_parser = verdict)]
    verdict: Option<RunVerdict>,
    /// Only runs under a scheduler whose name or version contains this text; `eevdf` selects runs under the
    /// kernel's own scheduler.
    #[arg(long, value_name = "PART")]
    scheduler: Option<String>,
    /// Only runs on a kernel whose release contains this text, such as `7.3`.
    #[arg(long, value_name = "PART")]
    kernel: Option<String>,
    /// Only runs that began within this time before now, such as `90m`, `12h` or `7d`.
    #[arg(long, value_name = "AGE")]
    since: Option<Age>,
}

impl Filter {
    /// Returns whether there are no conditions.
    pub fn is_empty(&self) -> bool {
        let Self {
            test,
            verdict,
            scheduler,
            kernel,
            since,
        } = self;
        let texts = [test, scheduler, kernel];
        texts.iter().all(|text| text.is_none()) && verdict.is_none() && since.is_none()
    }

    /// Returns whether a run meets all conditions, at the time `now`.
    pub fn admits(&self, record: &RunRecord, now: SystemTime) -> bool {
        let part = |wanted: &Option<String>, of: &str| {
            let wanted = wanted.as_deref();
            wanted.is_none_or(|wanted| of.contains(wanted))
        };
        let scheduler = record.scheduler.as_ref().map_or_else(
            || NONE.to_owned(),
            |scheduler| {
                let version = scheduler.version.as_deref().unwrap_or_default();
                format!("{} {version}", scheduler.name)
            },
        );
        let since = self.since.and_then(|Age(age)| now.checked_sub(age));
        // A time before 1970 excludes nothing, and cannot be printed.
        let since = since.filter(|since| *since >= SystemTime::UNIX_EPOCH);
        part(&self.test, &record.test)
            && self.verdict.is_none_or(|verdict| verdict == record.verdict)
            && part(&self.scheduler, &scheduler)
            && part(&self.kernel, record.kernel.as_deref().unwrap_or_default())
            && since.is_none_or(|since| record.timestamp >= timestamp(since))
    }
}

fn verdict(text: &str) -> Result<RunVerdict, String> {
    let all = [
        RunVerdict::Pass,
        RunVerdict::Fail,
        RunVerdict::Inconclusive,
        RunVerdict::Skip,
    ];
    let mut found = all.into_iter().filter(|verdict| verdict.as_str() == text);
    found
        .next()
        .ok_or_else(|| "expected pass, fail, inconclusive or skip".to_owned())
}

/// A length of time before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age(Duration);

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || {
            format!(
                "`{text}` is not an age: write a whole number with its unit, m, h or d, such as `12h`"
            )
        };
        let unit = text.chars().next_back().ok_or_else(error)?;
        let seconds: u64 = match unit {
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(error()),
        };
        let number: u64 = text[..text.len() - 1].parse().map_err(|_| error())?;
        let seconds = number.checked_mul(seconds).ok_or_else(error)?;
        Ok(Self(Duration::from_secs(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_record::SchedulerRecord;

    #[test]
    fn each_part_of_a_filter_counts() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let record = RunRecord {
            timestamp: timestamp(now - Duration::from_secs(7200)),
            verdict: RunVerdict::Fail,
            kernel: Some("7.3.4-cloud".to_owned()),
            scheduler: Some(SchedulerRecord {
                name: "mitosis".to_owned(),
                version: Some("scx_mitosis 1.2".to_owned()),
                ..SchedulerRecord::default()
            }),
            ..RunRecord::new("two_steps")
        };
        let text = |text: &str| Some(text.to_owned());
        let admits = |filter: Filter| filter.admits(&record, now);
        let none = Filter::default;
        assert!(none().is_empty() && admits(none()));
        for (wanted, filter) in [
            (
                true,
                Filter {
                    since: "12d".parse().ok(),
                    ..none()
                },
            ),
            (
                true,
                Filter {
                    test: text("step"),
                    ..none()
                },
            ),
            (
                false,
                Filter {
                    test: text("steps_"),
                    ..none()
                },
            ),
            (
                true,
                Filter {
                    verdict: Some(RunVerdict::Fail),
                    ..none()
                },
            ),
            (
                false,
                Filter {
                    verdict: Some(RunVerdict::Pass),
                    ..none()
                },
            ),
            (
                true,
                Filter {
                    scheduler: text("scx_mitosis"),
                    ..none()
                },
            ),
            (
                false,
                Filter {
                    scheduler: text("eevdf"),
                    ..none()
                },
            ),
            (
                true,
                Filter {
                    kernel: text("7.3"),
                    ..none()
                },
            ),
            (
                false,
                Filter {
                    kernel: text("7.2"),
                    ..none()
                },
            ),
            (
                true,
                Filter {
                    since: "2h".parse().ok(),
                    ..none()
                },
            ),
            (
                false,
                Filter {
                    since: "119m".parse().ok(),
                    ..none()
                },
            ),
            (
                false,
                Filter {
                    test: text("two"),
                    kernel: text("6"),
                    ..none()
                },
            ),
        ] {
            assert!(!filter.is_empty());
            assert_eq!(filter.admits(&record, now), wanted, "{filter:?}");
        }
        let bare = RunRecord::new("t");
        assert!(
            Filter {
                scheduler: text("eevdf"),
                ..none()
            }
            .admits(&bare, now)
        );
    }

    #[test]
    fn ages_have_units() {
        let hours = |hours: u64| Ok(Age(Duration::from_secs(3600 * hours)));
        assert_eq!(
            ["60m", "12h", "1d"].map(str::parse),
            [hours(1), hours(12), hours(24)]
        );
        for bad in [
            "",
            "h",
            "-1h",
            "1w",
            "1.5h",
            "é",
            "99999999999999999999d",
            "300000000000000000d",
        ] {
            assert!(bad.parse::<Age>().is_err(), "{bad}");
        }
        assert!(verdict("pass").is_ok() && verdict("red").is_err());
    }
}
