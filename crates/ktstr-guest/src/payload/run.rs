//! A run of a payload before it is started: its arguments, its checks, where and how long.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ktstr_assert::payload::PayloadMetrics;
use ktstr_assert::{AssertResult, MetricCheck};
use ktstr_scenario::Ctx;
use ktstr_scenario::cgroup::CgroupOps;
use ktstr_scenario::payload::Payload;

use super::INCLUDE_FILES;
use super::handle::PayloadHandle;
use super::process::{Process, Start};
use crate::link;

/// Runs payloads: [`Ctx`] does.
pub trait RunsPayloads {
    /// A run of `payload` with its own arguments and checks, in the harness's own cgroup, which may last as long as the
    /// test's window.
    fn payload(&self, payload: &'static Payload) -> PayloadRun<'_>;
}

impl RunsPayloads for Ctx<'_> {
    fn payload(&self, payload: &'static Payload) -> PayloadRun<'_> {
        PayloadRun {
            payload,
            cgroups: self.cgroups,
            longest: self.duration,
            args: payload
                .default_args
                .iter()
                .map(|s| (*s).to_owned())
                .collect(),
            checks: payload.default_checks.to_vec(),
            cgroup: None,
            limit: None,
        }
    }
}

/// A run of a payload that is not started yet.
#[derive(Clone)]
#[must_use = "nothing runs before `run` or `spawn` is called"]
pub struct PayloadRun<'a> {
    payload: &'static Payload,
    cgroups: &'a dyn CgroupOps,
    /// The test's window.
    longest: Duration,
    args: Vec<String>,
    checks: Vec<MetricCheck>,
    cgroup: Option<String>,
    limit: Option<Duration>,
}

impl PayloadRun<'_> {
    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments after those that the payload has already.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Takes all arguments away, those of the declaration too.
    pub fn clear_args(mut self) -> Self {
        self.args.clear();
        self
    }

    /// Adds a check.
    pub fn check(mut self, check: MetricCheck) -> Self {
        self.checks.push(check);
        self
    }

    /// Takes all checks away, those of the declaration too. The exit code must be 0 then.
    pub fn clear_checks(mut self) -> Self {
        self.checks.clear();
        self
    }

    /// Has it run in this cgroup below the test's root, which must be there when it is started.
    pub fn in_cgroup(mut self, name: impl Into<String>) -> Self {
        self.cgroup = Some(name.into());
        self
    }

    /// Sets how long it may run, in guest time: at most the test's window, which is the limit otherwise.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Runs it to its end, and judges that.
    ///
    /// # Errors
    /// As [`Self::spawn`]. How the program ends is part of the result, whatever it is.
    pub fn run(self) -> Result<(AssertResult, PayloadMetrics)> {
        self.spawn()?.wait()
    }

    /// Starts it and goes on. It is killed with all that it has started when the handle is dropped.
    ///
    /// # Errors
    /// Arguments, checks or limit make no sense, the program is not in the guest or cannot be executed, or there is no
    /// such cgroup.
    pub fn spawn(self) -> Result<PayloadHandle> {
        let payload = self.payload;
        let name = payload.name;
        payload.validate()?;
        payload.validate_checks(&self.checks)?;
        self.args
            .iter()
            .try_for_each(|arg| payload.validate_arg(arg))?;
        let limit = self.limit.unwrap_or(self.longest);
        if limit.is_zero() || limit > self.longest {
            bail!(
                "payload {name:?}: a limit of {limit:?} is not between 0 and the test's window of {:?}, after which the \
                 host gives the test up: raise `duration_s`",
                self.longest
            );
        }
        let program = program(name, payload.program()?)?;
        let procs = match &self.cgroup {
            None => None,
            Some(cgroup) => {
                self.cgroups.read_procs(cgroup).with_context(|| {
                    format!(
                        "payload {name:?}: there is no cgroup {cgroup:?} to run in; make it first, with \
                         ctx.cgroups.create_cgroup, or in a step"
                    )
                })?;
                let path = self.cgroups.parent_path().join(cgroup).join("cgroup.procs");
                let file = std::fs::OpenOptions::new().write(true).open(&path);
                Some(file.with_context(|| format!("payload {name:?}: {}", path.display()))?)
            }
        };
        let start = Start {
            program: &program,
            args: &self.args,
            cgroup: procs.as_ref(),
            own_group: !payload.uses_parent_pgrp,
        };
        let process = Process::start(&start).map_err(|error| {
            let advice = advice(&error, self.cgroup.is_some());
            anyhow::anyhow!(
                "payload {name:?}: {} could not be started: {error}{advice}",
                Path::new(&program).display()
            )
        })?;
        Ok(PayloadHandle::new(
            payload,
            self.checks,
            self.cgroup,
            limit,
            process,
        ))
    }
}

/// What usually is to be done about an error of starting a program.
fn advice(error: &std::io::Error, in_cgroup: bool) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EACCES) => "; the file on the host must be executable",
        Some(libc::ENOEXEC) => "; it is neither an ELF program nor a script that begins with #!",
        Some(libc::ENOENT) => "; its interpreter or its loader is not there",
        Some(libc::E2BIG) => "; its arguments are too long",
        Some(libc::EBUSY) if in_cgroup => {
            "; a cgroup whose children have controllers takes no processes: name one of the children"
        }
        _ => "",
    }
}

/// The program's path where this process runs: in the guest where the host has packed it, on the host (`host_only`)
/// where it would be packed from.
fn program(payload: &str, declared: &'static str) -> Result<OsString> {
    if !link::is_there() {
        let here = Path::new(declared);
        let is_bare = !declared.contains('/');
        return Ok(match is_bare && here.is_file() {
            true => Path::new(".").join(here).into_os_string(),
            false => here.as_os_str().to_owned(),
        });
    }
    let file_name = Path::new(declared).file_name().unwrap_or_default();
    let path: PathBuf = Path::new(INCLUDE_FILES).join(file_name);
    if !path.exists() {
        bail!(
            "payload {payload:?}: its program {declared:?} is not in the guest: name the payload in the test's `payload` \
             or `workloads`"
        );
    }
    Ok(path.into_os_string())
}
