//! The declaration of a program of the host that a test runs in the guest as its load. All of it is `const`, because a test
//! refers to a payload by a constant. The host packs the program, and the guest starts it.

use ktstr_assert::payload::{CheckError, PatternError};
use ktstr_assert::{MetricCheck, MetricHint, OutputFormat};

use crate::scheduler::Scheduler;

/// A program with its arguments, the format of its output, and checks of its metrics.
///
/// ```
/// use ktstr_assert::{MetricCheck, MetricHint, OutputFormat, Polarity};
/// use ktstr_scenario::payload::Payload;
///
/// const FIO: Payload = Payload::binary("fio", "fio")
///     .with_output(OutputFormat::Json)
///     .with_default_args(&["--output-format=json", "--name=w", "--rw=write", "--size=1M"])
///     .with_default_checks(&[MetricCheck::min("jobs.0.write.iops", 1.0)])
///     .with_metrics(&[MetricHint {
///         name: "jobs.0.write.iops",
///         polarity: Polarity::HigherBetter,
///         unit: "op/s",
///     }]);
/// assert_eq!(FIO.validate(), Ok(()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Payload {
    /// The name in reports and in operations.
    pub name: &'static str,
    /// The program of the host that is run, or a scheduler, which cannot run as a load.
    pub kind: PayloadKind,
    /// The format of the program's output, from which its metrics are read.
    pub output: OutputFormat,
    /// The arguments that precede the arguments of a single run.
    pub default_args: &'static [&'static str],
    /// The checks of every run.
    pub default_checks: &'static [MetricCheck],
    /// Descriptions of the metrics in the program's output.
    pub metrics: &'static [MetricHint],
    /// Files of the host that the program needs. They are found by the same rules as the test's `extra_include_files`.
    pub include_files: &'static [&'static str],
    /// Whether the program stays in the harness's process group. In that case, processes that it leaves behind are found only by
    /// a mark in their environment.
    pub uses_parent_pgrp: bool,
    /// The flags that the program accepts. An argument that begins with `-` and is not a number must be one of these flags, or
    /// one of them followed by `=` and a value. `None` accepts every argument.
    pub known_flags: Option<&'static [&'static str]>,
}

/// The kind of a payload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PayloadKind {
    /// A scheduler, which cannot run as a load; the test's attribute `scheduler` runs it.
    Scheduler(&'static Scheduler),
    /// A program of the host. A bare name is searched for in the current folder and in `PATH`; a path is used as it is. The
    /// program's shared libraries, or the interpreter of a script, are packed with it.
    Binary(&'static str),
}

/// Why a payload or its arguments are invalid.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// The name is empty.
    #[error("a payload has an empty name: reports and operations refer to a payload by its name")]
    Name,
    /// A scheduler is used as a load.
    #[error(
        "payload {payload:?} is a scheduler and cannot run as a load: name it in the test's `scheduler`"
    )]
    Scheduler {
        /// The name of the payload.
        payload: &'static str,
    },
    /// The program's path has no file name.
    #[error(
        "payload {payload:?}: the program {binary:?} has no file name: write the program's name or its path"
    )]
    Binary {
        /// The name of the payload.
        payload: &'static str,
        /// The program as declared.
        binary: &'static str,
    },
    /// An argument with a NUL byte.
    #[error(
        "payload {payload:?}: the argument {argument:?} has a NUL byte, which no argument can have"
    )]
    Argument {
        /// The name of the payload.
        payload: &'static str,
        /// The argument that has the NUL byte.
        argument: String,
    },
    /// A flag that the payload does not know.
    #[error("payload {payload:?} does not accept the flag {flag:?}; it accepts {known}")]
    Flag {
        /// The name of the payload.
        payload: &'static str,
        /// The flag that was given.
        flag: String,
        /// The flags that the payload accepts, joined by commas.
        known: String,
    },
    /// A check that can never hold.
    #[error("payload {payload:?}: {cause}")]
    Check {
        /// The name of the payload.
        payload: &'static str,
        /// What is wrong with the check.
        cause: CheckError,
    },
    /// A pattern of a metric is invalid.
    #[error("payload {payload:?}: {cause}")]
    Pattern {
        /// The name of the payload.
        payload: &'static str,
        /// What is wrong with the pattern.
        cause: PatternError,
    },
}

impl Payload {
    /// The kernel's own scheduler in the form of a payload.
    pub const KERNEL_DEFAULT: Self = Self::new(
        "kernel_default",
        PayloadKind::Scheduler(&Scheduler::EEVDF),
        OutputFormat::ExitCode,
        &[],
        &[],
        &[],
        &[],
        false,
        None,
    );

    /// Declares a program without arguments, of which only the exit code is checked.
    pub const fn binary(name: &'static str, binary: &'static str) -> Self {
        Self::new(
            name,
            PayloadKind::Binary(binary),
            OutputFormat::ExitCode,
            &[],
            &[],
            &[],
            &[],
            false,
            None,
        )
    }

    /// A payload with all its fields, in the order of the struct.
    #[expect(
        clippy::too_many_arguments,
        reason = "one for each field; `binary` and the setters are for people"
    )]
    pub const fn new(
        name: &'static str,
        kind: PayloadKind,
        output: OutputFormat,
        default_args: &'static [&'static str],
        default_checks: &'static [MetricCheck],
        metrics: &'static [MetricHint],
        include_files: &'static [&'static str],
        uses_parent_pgrp: bool,
        known_flags: Option<&'static [&'static str]>,
    ) -> Self {
        Self {
            name,
            kind,
            output,
            default_args,
            default_checks,
            metrics,
            include_files,
            uses_parent_pgrp,
            known_flags,
        }
    }

    /// Sets the format of the program's output.
    pub const fn with_output(mut self, output: OutputFormat) -> Self {
        self.output = output;
        self
    }

    /// Sets the arguments that precede the arguments of a single run.
    pub const fn with_default_args(mut self, args: &'static [&'static str]) -> Self {
        self.default_args = args;
        self
    }

    /// Sets the checks of every run.
    pub const fn with_default_checks(mut self, checks: &'static [MetricCheck]) -> Self {
        self.default_checks = checks;
        self
    }

    /// Sets the descriptions of the metrics in the program's output.
    pub const fn with_metrics(mut self, metrics: &'static [MetricHint]) -> Self {
        self.metrics = metrics;
        self
    }

    /// Sets the additional files of the host.
    pub const fn with_include_files(mut self, files: &'static [&'static str]) -> Self {
        self.include_files = files;
        self
    }

    /// Makes the payload refuse every flag that is not one of these.
    pub const fn with_known_flags(mut self, flags: &'static [&'static str]) -> Self {
        self.known_flags = Some(flags);
        self
    }

    /// Keeps the program in the harness's process group.
    pub const fn with_parent_pgrp(mut self) -> Self {
        self.uses_parent_pgrp = true;
        self
    }

    /// Returns the name of the payload for messages.
    pub const fn display_name(&self) -> &'static str {
        self.name
    }

    /// Returns whether the payload is a scheduler, which cannot be run as a load.
    pub const fn is_scheduler(&self) -> bool {
        matches!(self.kind, PayloadKind::Scheduler(_))
    }

    /// Returns the scheduler; `None` if the payload is a program.
    pub const fn as_scheduler(&self) -> Option<&'static Scheduler> {
        match self.kind {
            PayloadKind::Scheduler(scheduler) => Some(scheduler),
            PayloadKind::Binary(_) => None,
        }
    }

    /// Returns the program as it was declared: a bare name or a path.
    ///
    /// # Errors
    /// [`PayloadError::Scheduler`] if the payload is a scheduler.
    pub const fn program(&self) -> Result<&'static str, PayloadError> {
        match self.kind {
            PayloadKind::Binary(binary) => Ok(binary),
            PayloadKind::Scheduler(_) => Err(PayloadError::Scheduler { payload: self.name }),
        }
    }

    /// Checks the declaration.
    ///
    /// # Errors
    /// [`PayloadError`] names the payload and the first error.
    pub fn validate(&self) -> Result<(), PayloadError> {
        let payload = self.name;
        if payload.is_empty() {
            return Err(PayloadError::Name);
        }
        let binary = self.program()?;
        if std::path::Path::new(binary).file_name().is_none() {
            return Err(PayloadError::Binary { payload, binary });
        }
        self.validate_checks(self.default_checks)?;
        self.output
            .validate()
            .map_err(|cause| PayloadError::Pattern { payload, cause })?;
        let args = self.default_args.iter();
        args.copied().try_for_each(|arg| self.validate_arg(arg))
    }

    /// Returns an error if one of these checks can never hold.
    ///
    /// # Errors
    /// [`PayloadError::Check`] names the first such check.
    pub fn validate_checks(&self, checks: &[MetricCheck]) -> Result<(), PayloadError> {
        let payload = self.name;
        checks
            .iter()
            .try_for_each(MetricCheck::validate)
            .map_err(|cause| PayloadError::Check { payload, cause })
    }

    /// Checks that the payload accepts this argument.
    ///
    /// # Errors
    /// [`PayloadError::Argument`] if it has a NUL byte, [`PayloadError::Flag`] if it is an unknown flag.
    pub fn validate_arg(&self, argument: &str) -> Result<(), PayloadError> {
        let payload = self.name;
        if argument.contains('\0') {
            return Err(PayloadError::Argument {
                payload,
                argument: argument.to_owned(),
            });
        }
        let flag = argument.split('=').next().unwrap_or_default();
        let is_number = argument.parse::<f64>().is_ok();
        match self.known_flags {
            Some(known) if flag.starts_with('-') && !is_number && !known.contains(&flag) => {
                Err(PayloadError::Flag {
                    payload,
                    flag: flag.to_owned(),
                    known: known.join(", "),
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_assert::MetricPattern;

    const LOAD: Payload = Payload::binary("load", "bin/load").with_known_flags(&["--size", "-n"]);

    fn refused(payload: Payload) -> String {
        payload.validate().expect_err("must be refused").to_string()
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(LOAD.validate(), Ok(()));
        assert!(refused(Payload::binary("", "x")).contains("empty name"));
        assert!(refused(Payload::binary("x", "/")).contains("no file name"));
        insta::assert_snapshot!(refused(Payload::KERNEL_DEFAULT), @r#"payload "kernel_default" is a scheduler and cannot run as a load: name it in the test's `scheduler`"#);
        insta::assert_snapshot!(refused(LOAD.with_default_args(&["--sise=1"])), @r#"payload "load" does not accept the flag "--sise"; it accepts --size, -n"#);
        insta::assert_snapshot!(refused(LOAD.with_default_args(&["a\0b"])), @r#"payload "load": the argument "a\0b" has a NUL byte, which no argument can have"#);
        insta::assert_snapshot!(refused(LOAD.with_default_checks(EMPTY)), @r#"payload "load": the range 2 to 1 of metric "m" is empty: the lower bound comes first"#);
        const EMPTY: &[MetricCheck] = &[MetricCheck::range("m", 2.0, 1.0)];
        const BAD: OutputFormat = OutputFormat::Patterns(&[MetricPattern {
            name: "m",
            regex: "[0-9]+",
        }]);
        insta::assert_snapshot!(refused(LOAD.with_output(BAD)), @r#"payload "load": metric pattern "m": "[0-9]+" has no group: put parentheses around the number"#);
    }

    #[test]
    fn flags_are_looked_up_without_their_values() {
        for fine in ["--size=5", "-n", "-5", "file", "a=-b", ""] {
            assert_eq!(LOAD.validate_arg(fine), Ok(()), "{fine}");
        }
        assert!(LOAD.validate_arg("-x").is_err());
    }

    #[test]
    fn a_scheduler_is_no_load() {
        assert!(Payload::KERNEL_DEFAULT.is_scheduler());
        assert_eq!(
            Payload::KERNEL_DEFAULT.as_scheduler(),
            Some(&Scheduler::EEVDF)
        );
        assert_eq!(LOAD.as_scheduler(), None);
        assert_eq!(LOAD.program(), Ok("bin/load"));
    }
}
