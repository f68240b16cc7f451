//! Configures a run of a payload before it is started: arguments, checks, cgroup and time limit.

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

/// Starts runs of payloads. [`Ctx`] implements this, so a test function calls `ctx.payload(…)`.
pub trait RunsPayloads {
    /// Creates a run of `payload` with its default arguments and checks, in the harness's own cgroup. The time limit of the run
    /// is the length of the test's window.
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

/// A run of a payload that has not been started yet.
#[derive(Clone)]
#[must_use = "nothing runs before `run` or `spawn` is called"]
pub struct PayloadRun<'a> {
    payload: &'static Payload,
    cgroups: &'a dyn CgroupOps,
    /// The length of the test's window.
    longest: Duration,
    args: Vec<String>,
    checks: Vec<MetricCheck>,
    cgroup: Option<String>,
    limit: Option<Duration>,
}

impl PayloadRun<'_> {
    /// Adds an argument after the arguments of the declaration and after the arguments that were added before.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments after the existing ones.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Removes all arguments, including those of the declaration.
    pub fn clear_args(mut self) -> Self {
        self.args.clear();
        self
    }

    /// Adds a check of the program's metrics to those of the declaration.
    pub fn check(mut self, check: MetricCheck) -> Self {
        self.checks.push(check);
        self
    }

    /// Removes all checks, including those of the declaration. The exit code must still be 0.
    pub fn clear_checks(mut self) -> Self {
        self.checks.clear();
        self
    }

    /// Runs the payload in this cgroup below the test's root. The cgroup must exist when the payload is started.
    pub fn in_cgroup(mut self, name: impl Into<String>) -> Self {
        self.cgroup = Some(name.into());
        self
    }

    /// Sets the time limit in guest time. It cannot exceed the test's window, which is the default.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Runs the payload until it exits, and judges it.
    ///
    /// # Errors
    /// The same errors as [`Self::spawn`] and [`PayloadHandle::wait`]. The program's own failure is part of the result and
    /// not an error.
    pub fn run(self) -> Result<(AssertResult, PayloadMetrics)> {
        self.spawn()?.wait()
    }

    /// Starts the payload and returns at once. Dropping the handle kills the payload together with every process that
    /// it has started.
    ///
    /// # Errors
    /// The arguments, checks or limit are invalid, the program is not in the guest or cannot be executed, or the
    /// cgroup does not exist.
    pub fn spawn(self) -> Result<PayloadHandle> {
        let payload = self.payload;
        let name = payload.name;
        payload.validate()?;
        payload.validate_checks(&self.checks)?;
        self.args
            .iter()
            .try_for_each(|arg| payload.validate_arg(arg))?;
        let limit = self.limit.unwrap_or(self.longest);
        if limit.is_zero() {
            bail!("payload {name:?}: the time limit is 0, so it could not run: give it a time");
        }
        if limit > self.longest {
            bail!(
                "payload {name:?}: the time limit of {limit:?} is longer than the test's window of {:?}, and the host aborts \
                 the test after the window: raise `duration_s`",
                self.longest
            );
        }
        let program = program(name, payload.program()?)?;
        let procs = match &self.cgroup {
            None => None,
            Some(cgroup) => {
                self.cgroups.read_procs(cgroup).with_context(|| {
                    format!(
                        "payload {name:?}: there is no cgroup {cgroup:?} to run in; create it first, with \
                         ctx.cgroups.create_cgroup, or in a step"
                    )
                })?;
                let root = self.cgroups.parent_path();
                if let Some(frozen) = frozen(root, cgroup) {
                    bail!(
                        "payload {name:?}: cgroup {cgroup:?} is frozen{}, so the program could not start: thaw it first, with \
                         Op::unfreeze_cgroup({frozen:?}) or ctx.cgroups.set_freeze({frozen:?}, false)",
                        match frozen == *cgroup {
                            true => String::new(),
                            false => format!(" together with {frozen:?} above it"),
                        }
                    );
                }
                let path = root.join(cgroup).join("cgroup.procs");
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

/// Returns the name of the cgroup that keeps this one frozen: itself, or one above it below the test's root; `None` if there is
/// none. A program enters its cgroup before it is executed, and whoever starts it waits for the execution, which in a frozen
/// cgroup never comes.
fn frozen<'a>(root: &Path, cgroup: &'a str) -> Option<&'a str> {
    let upwards = Path::new(cgroup).ancestors().filter_map(Path::to_str);
    let mut upwards = upwards.filter(|name| !name.is_empty());
    upwards.find(|name| {
        let file = root.join(name).join("cgroup.freeze");
        std::fs::read_to_string(file).is_ok_and(|text| text.trim() == "1")
    })
}

/// Returns advice on an error of starting a program, or an empty text.
fn advice(error: &std::io::Error, in_cgroup: bool) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EACCES) => "; the file on the host must be executable",
        Some(libc::ENOEXEC) => "; it is neither an ELF program nor a script that begins with #!",
        Some(libc::ENOENT) => "; the program, its interpreter or its dynamic loader does not exist",
        Some(libc::E2BIG) => "; its arguments are too long",
        Some(libc::EBUSY) if in_cgroup => {
            "; a cgroup whose children have controllers cannot hold processes: name one of the children"
        }
        _ => "",
    }
}

/// Returns the path of the program on the machine on which this process runs. In the guest, this is the path to which the host
/// has packed the program. On the host (`host_only`), it is the path from which the host would pack the program.
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
