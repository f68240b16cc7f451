// SPDX-License-Identifier: GPL-2.0-only
//! The command line. Unknown arguments are collected rather than rejected, because tests pass one
//! set of scheduler arguments to several schedulers.

use crate::defects::{DEFECTS, Defect, TIMED};
use lexopt::{Arg, Parser, ValueExt};
use std::ffi::OsString;
use std::fmt::Write;
use std::time::Duration;

/// The request on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Schedule the system with these options.
    Run(Options),
    /// Print this and exit (`--help`, `--version`, `--list-defects`).
    Print(String),
}

/// The options of a run of the scheduler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// The planted defects to load with, as a mask of their bits.
    pub(crate) defects: u64,
    /// The time from attach after which the scheduler stops serving the shared queues.
    pub(crate) stall_after: Option<Duration>,
    /// The time from attach after which the scheduler behaves as with `--degrade`.
    pub(crate) degrade_after: Option<Duration>,
    /// The time from attach after which the program exits with status 0.
    pub(crate) exit_after: Option<Duration>,
    /// The time from attach after which the BPF part reports an error.
    pub(crate) crash_after: Option<Duration>,
    /// Whether to serve statistics at the socket of the crate `scx_stats`.
    pub(crate) stats: bool,
    /// The arguments that this scheduler does not know. They are ignored.
    pub(crate) ignored: Vec<String>,
}

impl Options {
    /// Returns whether the defect with this flag was requested.
    pub(crate) fn has_defect(&self, flag: &str) -> bool {
        Defect::by_flag(flag).is_some_and(|defect| self.defects & defect.mask() != 0)
    }
}

/// Parses the arguments, without the program's name.
///
/// # Errors
/// A known flag has a missing, unexpected or unparsable value.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Request, lexopt::Error> {
    let mut options = Options::default();
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(Request::Print(help())),
            Arg::Long("version") | Arg::Short('V') => return Ok(Request::Print(version())),
            Arg::Long("list-defects") => return Ok(Request::Print(Defect::list())),
            Arg::Long("stats") => options.stats = true,
            Arg::Long("exit-after") => options.exit_after = Some(seconds(&mut parser)?),
            Arg::Long("crash-after") => options.crash_after = Some(seconds(&mut parser)?),
            Arg::Long("stall-after") => options.stall_after = Some(seconds(&mut parser)?),
            Arg::Long("degrade-after") => options.degrade_after = Some(seconds(&mut parser)?),
            Arg::Long(flag) => match Defect::by_flag(flag) {
                Some(defect) => options.defects |= defect.mask(),
                None => {
                    let flag = format!("--{flag}");
                    options
                        .ignored
                        .push(with_value(flag, parser.optional_value()));
                }
            },
            Arg::Short(flag) => {
                let flag = format!("-{flag}");
                options
                    .ignored
                    .push(with_value(flag, parser.optional_value()));
            }
            Arg::Value(value) => options.ignored.push(value.to_string_lossy().into_owned()),
        }
    }
    Ok(Request::Run(options))
}

/// Parses a duration in seconds; fractions are allowed.
fn seconds(parser: &mut Parser) -> Result<Duration, lexopt::Error> {
    parser.value()?.parse_with(|text| {
        let number: f64 = text.parse().map_err(|_| "expected a number of seconds")?;
        Duration::try_from_secs_f64(number).map_err(|_| "expected a number of seconds ≥ 0")
    })
}

fn with_value(mut flag: String, value: Option<OsString>) -> String {
    if let Some(value) = value {
        flag.push('=');
        flag.push_str(&value.to_string_lossy());
    }
    flag
}

fn version() -> String {
    format!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
}

fn help() -> String {
    let mut text = format!(
        "{}: a small sched_ext scheduler that can be made defective, to see whether tests of schedulers find it\n\n\
         Usage: scx-ktstr [OPTION]...\n\n\
         Runs until SIGINT or SIGTERM (exit status 0), or until the kernel ejects it (exit status 1).\n\
         Arguments not listed here are ignored.\n\n\
         Options:\n  \
         --stats            serve statistics at /var/run/scx/root/stats, as schedulers do that use the crate scx_stats\n  \
         --list-defects     print the planted defects in machine-readable form and exit\n  \
         -h, --help         print this help and exit\n  \
         -V, --version      print the version and exit\n\n\
         Planted defects:\n",
        version()
    );
    // Writing to a String cannot fail.
    for (flag, does, _) in TIMED {
        let _ = writeln!(text, "  --{:<16} {does}", format!("{flag} S"));
    }
    for defect in DEFECTS {
        let _ = writeln!(text, "  --{:<16} {}", defect.flag, defect.does);
    }
    text.push_str(
        "\nFiles that turn a defect of the running scheduler on once they exist:\n  \
         /tmp/ktstr_stall   like --stall-after 0\n  \
         /tmp/ktstr_degrade like --degrade-after 0",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(args: &[&str]) -> Options {
        match parse(args.iter().map(OsString::from)) {
            Ok(Request::Run(options)) => options,
            other => panic!("{args:?} gave {other:?}"),
        }
    }

    fn error(args: &[&str]) -> String {
        match parse(args.iter().map(OsString::from)) {
            Err(err) => err.to_string(),
            other => panic!("{args:?} gave {other:?}"),
        }
    }

    #[test]
    fn no_arguments_is_a_scheduler_without_defects() {
        assert_eq!(options(&[]), Options::default());
    }

    #[test]
    fn each_defect_flag_sets_its_bit() {
        for defect in DEFECTS {
            let flag = format!("--{}", defect.flag);
            assert_eq!(options(&[&flag]).defects, defect.mask());
        }
        assert_eq!(options(&["--degrade", "--slow"]).defects, 0b101);
    }

    #[test]
    fn times_are_seconds_with_fractions() {
        let parsed = options(&["--stall-after", "1.5", "--degrade-after=0"]);
        assert_eq!(parsed.stall_after, Some(Duration::from_millis(1500)));
        assert_eq!(parsed.degrade_after, Some(Duration::ZERO));
    }

    #[test]
    fn unknown_arguments_are_collected_and_ignored() {
        let parsed = options(&[
            "--config",
            "{}",
            "--cell-parent-cgroup=/x",
            "-q",
            "-r=3",
            "--slow",
        ]);
        assert_eq!(
            parsed.ignored,
            ["--config", "{}", "--cell-parent-cgroup=/x", "-q", "-r=3"]
        );
        assert_eq!(parsed.defects, 0b100);
    }

    #[test]
    fn unparsable_values_are_rejected() {
        insta::assert_snapshot!(error(&["--stall-after", "soon"]), @r#"cannot parse argument "soon": expected a number of seconds"#);
        insta::assert_snapshot!(error(&["--stall-after", "-1"]), @r#"cannot parse argument "-1": expected a number of seconds ≥ 0"#);
        insta::assert_snapshot!(error(&["--stall-after"]), @"missing argument for option '--stall-after'");
        insta::assert_snapshot!(error(&["--slow=2"]), @r#"unexpected argument for option '--slow': "2""#);
    }

    #[test]
    fn version_and_help_are_printed() {
        let version = parse([OsString::from("--version")]);
        assert!(matches!(version, Ok(Request::Print(text)) if text.starts_with("scx-ktstr 0.")));
        let Ok(Request::Print(help)) = parse([OsString::from("-h")]) else {
            panic!("-h does not request to print");
        };
        for defect in DEFECTS {
            assert!(
                help.contains(&format!("--{} ", defect.flag)),
                "{} is missing",
                defect.flag
            );
        }
    }
}
