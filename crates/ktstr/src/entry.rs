//! A test as it is registered at link time, and the slices that hold all tests and schedulers of a binary.
//!
//! `#[ktstr_test]` generates entries; `#[ktstr_test_entry]` registers one that is written by hand. This module only
//! declares tests, it does not run them. The code that the macros generate names the public items of this module by their
//! paths in `::ktstr::test_support`, so these paths must stay valid.

use std::time::Duration;

use ktstr_assert::{Assert, AssertResult, ExpectedErrorError, PerfDeltaAssertion, PerfDeltaError};
use ktstr_machine::MAX_CPUS;
use ktstr_scenario::Ctx;
use ktstr_scenario::disk::{DiskConfig, DiskError};
use ktstr_scenario::payload::{Payload, PayloadError};
use ktstr_scenario::scheduler::{BpfMapWrite, CgroupPath, Scheduler, WatchBpfMap};
use ktstr_scenario::topology::{ConstraintsError, Topology, TopologyConstraints, TopologyError};
use linkme::distributed_slice;

use crate::vm_result::VmResult;

/// Every test of this binary.
#[distributed_slice]
pub static KTSTR_TESTS: [KtstrTestEntry];

/// Every scheduler declared in this binary.
#[distributed_slice]
pub static KTSTR_SCHEDULERS: [&'static Scheduler];

/// The function of a test. It runs in the guest, or on the host with `host_only`.
pub type TestFn = fn(&Ctx) -> anyhow::Result<AssertResult>;

/// A callback that runs on the host after the VM has ended.
pub type PostVmFn = fn(&VmResult) -> anyhow::Result<()>;

/// The largest number of periodic captures of one test.
pub const MAX_SNAPSHOTS: u32 = 64;

/// The shortest guest time between two periodic captures.
pub const MIN_SNAPSHOT_INTERVAL: Duration = Duration::from_millis(100);

/// The clock that the guest uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClockMode {
    /// The real clock if KVM is usable, otherwise the virtual clock.
    #[default]
    Auto,
    /// Guest time follows the host's clock.
    Real,
    /// A clock that counts executed instructions: the same seed gives the same run.
    Virtual,
}

/// The declaration of one test. All times are guest time.
#[derive(Clone, Copy, Debug)]
pub struct KtstrTestEntry {
    /// The name of the test; not empty, and without `/`.
    pub name: &'static str,
    /// The function that is called in the guest, or on the host with `host_only`.
    pub func: TestFn,
    /// The CPU topology of the VM.
    pub topology: Topology,
    /// The topologies on which the test makes sense. The test's own topology must be one of them.
    pub constraints: TopologyConstraints,
    /// The minimum memory of the VM, in MiB.
    pub memory_mib: u32,
    /// The scheduler under test.
    pub scheduler: &'static Scheduler,
    /// The test's own checks. They override those of the scheduler.
    pub assert: Assert,
    /// Arguments that are appended to the scheduler's own.
    pub extra_sched_args: &'static [&'static str],
    /// The content of the configuration file that the scheduler's `config_file_def` names. An entry is refused if only one of the
    /// two is set: this content, or the scheduler's `config_file_def`.
    pub config_content: Option<&'static str>,
    /// Further schedulers that operations of the test may start.
    pub staged_schedulers: &'static [&'static Scheduler],
    /// The program that the test runs as its workload. It is packed into the guest and named in the record.
    pub payload: Option<&'static Payload>,
    /// Further programs that the test runs. They are packed into the guest.
    pub workloads: &'static [&'static Payload],
    /// Values that the host writes into variables of the scheduler before a scenario creates its first cgroup.
    pub bpf_map_write: &'static [&'static BpfMapWrite],
    /// Variables of the scheduler that the host samples in the workload window, as metrics of the run.
    pub watch_bpf_maps: &'static [&'static WatchBpfMap],
    /// Metrics that must not be much worse than in an earlier run of the test: the run whose sidecar is in the folder that
    /// `KTSTR_PERF_BASELINE` names.
    pub perf_delta_assertions: &'static [&'static PerfDeltaAssertion],
    /// How long a runnable task may wait before sched_ext ejects the scheduler.
    pub watchdog_timeout: Duration,
    /// The length of the workload window.
    pub duration: Duration,
    /// Whether the run must end in an error.
    pub expect_err: bool,
    /// Whether an inconclusive run counts as passed.
    pub allow_inconclusive: bool,
    /// Whether the test runs on the host, without a VM.
    pub host_only: bool,
    /// Whether the test is listed as ignored.
    pub ignored: bool,
    /// Files of the host that are packed for the guest, where they appear under `/include-files/`. A bare name is
    /// looked up in the current folder and then in the host's `PATH`; a path is used as written; a folder is packed
    /// with all of its contents, and a program with its shared libraries.
    pub extra_include_files: &'static [&'static str],
    /// How long the guest may take from the end of the scenario to its own end. A guest that takes longer fails the test.
    /// The host's own delay, which is the longest time for which it kept one of the vCPUs waiting for a CPU, is subtracted before
    /// the comparison.
    pub cleanup_budget: Option<Duration>,
    /// A callback that the host calls after the run if the test function in the guest returned a result that is not a failure. It
    /// is called even if the checks of the host found a failure.
    pub post_vm: Option<PostVmFn>,
    /// A callback on the host after every run in a machine, whatever the verdict is, unless an error of the host ended the
    /// run. A repeat (`auto_repro`) calls neither callback.
    pub post_vm_unconditional: Option<PostVmFn>,
    /// The number of periodic captures, which are spread over the workload window.
    pub num_snapshots: u32,
    /// The parent of the test's cgroups; `None` uses the harness's default.
    pub workload_root_cgroup: Option<CgroupPath>,
    /// The guest's disk, `/dev/vda`; `None` for none. Its capacity is added to the guest's memory.
    pub disk: Option<DiskConfig>,
    /// Additional arguments for the guest kernel.
    pub kargs: &'static [&'static str],
    /// The seed of the run; `None` stands for 0. `KTSTR_SEED` overrides either.
    pub seed: Option<u64>,
    /// The clock of the guest, unless `KTSTR_CLOCK` overrides it.
    pub clock: ClockMode,
    /// Whether the scheduler is always started anew for this test. Otherwise the run may be a fork of a template, which is a
    /// saved machine in which the scheduler is attached already.
    pub fresh_attach: bool,
    /// Whether the test's numbers are meaningful only with pinned CPUs and huge pages on the host. ktstr has no such mode
    /// yet, so the test is skipped. `KTSTR_NO_PERF_MODE` lets it run like any other; without that variable,
    /// `KTSTR_NO_SKIP_MODE` turns the skip into a failure.
    pub performance_mode: bool,
    /// Whether the test does without pinned CPUs. ktstr pins none in any case, so this only allows a `cpu_budget`
    /// and excludes `performance_mode`.
    pub no_perf_mode: bool,
    /// The largest number of the host's CPUs that the vCPUs may use. `None` stands for `KTSTR_CPU_CAP`, or for all CPUs
    /// that this process may use. A budget needs `no_perf_mode`.
    pub cpu_budget: Option<u32>,
    /// Whether a failed run under a BPF scheduler is repeated from the same seed, with captures at the times of its findings.
    /// It is repeated only if the fault is the scheduler's or the guest kernel's. A run that passes costs nothing more. This
    /// has no effect on tests with `expect_err`.
    pub auto_repro: bool,
    /// Whether the scheduler must outlive the test: its ejection is a failure, whatever else was concluded, unless a
    /// busy host explains it. The test needs a scheduler, and cannot have `expect_err`.
    pub survives_storm: bool,
    /// Whether the kernel's addresses are randomised. This is not implemented yet: an entry that sets it is refused.
    pub kaslr: bool,
    /// Whether devices are on PCI. This is not implemented yet: an entry that sets it is refused.
    pub pci: bool,
}

/// The reason why an entry cannot be run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// The name is empty or contains `/`.
    #[error("test name {name:?} must not be empty nor contain '/'")]
    Name {
        /// The name as declared.
        name: &'static str,
    },
    /// A number that must not be zero is zero.
    #[error("test {name:?}: {field} must be more than 0")]
    Zero {
        /// The name of the test.
        name: &'static str,
        /// The field that is zero.
        field: &'static str,
    },
    /// The topology cannot be built.
    #[error("test {name:?}: {cause}")]
    Topology {
        /// The name of the test.
        name: &'static str,
        /// What is wrong with the topology.
        cause: TopologyError,
    },
    /// The topology is valid, but no guest would number its nodes as declared.
    #[error("test {name:?}: {what}, but Linux numbers nodes with CPUs first: declare those first")]
    NotBuilt {
        /// The name of the test.
        name: &'static str,
        /// What is wrong with the order of the nodes.
        what: &'static str,
    },
    /// The constraints cannot be met, or the test's own topology violates them.
    #[error("test {name:?}: {cause}")]
    Constraints {
        /// The name of the test.
        name: &'static str,
        /// What is wrong with the constraints.
        cause: ConstraintsError,
    },
    /// There are too many captures, or they are too close together.
    #[error(
        "test {name:?}: num_snapshots = {count} in {duration:?}: at most {MAX_SNAPSHOTS}, and at \
         least {MIN_SNAPSHOT_INTERVAL:?} apart"
    )]
    Snapshots {
        /// The name of the test.
        name: &'static str,
        /// The number of captures that was asked for.
        count: u32,
        /// The length of the workload window.
        duration: Duration,
    },
    /// A `host_only` test uses something that needs a VM.
    #[error("test {name:?}: {field} needs a VM, host_only runs without one")]
    NeedsVm {
        /// The name of the test.
        name: &'static str,
        /// The field that needs a VM.
        field: &'static str,
    },
    /// The pattern for the expected error matches any text, or is not a valid regular expression.
    #[error("test {name:?}: {cause}")]
    ExpectedError {
        /// The name of the test.
        name: &'static str,
        /// What is wrong with the pattern.
        cause: ExpectedErrorError,
    },
    /// The test names an expected error, but does not require one (`expect_err`), or has no scheduler that could report it.
    #[error(
        "test {name:?}: expect_scx_bpf_error_contains and expect_scx_bpf_error_matches need expect_err and a scheduler"
    )]
    NoError {
        /// The name of the test.
        name: &'static str,
    },
    /// A test without a sched_ext scheduler uses something that needs one.
    #[error(
        "test {name:?}: {field} needs a scheduler with a binary, because it acts on that scheduler"
    )]
    NeedsScheduler {
        /// The name of the test.
        name: &'static str,
        /// The field that needs a scheduler.
        field: &'static str,
    },
    /// The test uses a feature that is not implemented yet.
    #[error("test {name:?}: {field} is not available yet: leave it false")]
    NotAvailable {
        /// The name of the test.
        name: &'static str,
        /// The field that is set.
        field: &'static str,
    },
    /// The guest cannot have the test's disk.
    #[error("test {name:?}: disk: {cause}")]
    Disk {
        /// The name of the test.
        name: &'static str,
        /// What is wrong with the declaration.
        cause: DiskError,
    },
    /// One of the test's `perf_delta_assertions` can never be judged.
    #[error("test {name:?}: perf_delta_assertions: {cause}")]
    PerfDelta {
        /// The name of the test.
        name: &'static str,
        /// What is wrong with the assertion.
        cause: PerfDeltaError,
    },
    /// One of the test's `perf_delta_assertions` is about a metric that the test never measures.
    #[error("test {name:?}: perf_delta_assertions: {why}")]
    NeverMeasured {
        /// The name of the test.
        name: &'static str,
        /// The metric, and what the test measures.
        why: String,
    },
    /// The test has a `cpu_budget`, but not `no_perf_mode`.
    #[error(
        "test {name:?}: cpu_budget needs no_perf_mode: a test that shares CPUs cannot have pinned ones"
    )]
    CpuBudget {
        /// The name of the test.
        name: &'static str,
    },
    /// The test sets both `performance_mode` and `no_perf_mode`.
    #[error("test {name:?}: performance_mode and no_perf_mode exclude each other")]
    PerformanceMode {
        /// The name of the test.
        name: &'static str,
    },
    /// The scheduler must survive the test (`survives_storm`), and the run must end in an error (`expect_err`).
    #[error("test {name:?}: survives_storm and expect_err exclude each other")]
    Storm {
        /// The name of the test.
        name: &'static str,
    },
    /// The test has a configuration that its scheduler does not take, or lacks one that the scheduler needs.
    #[error("test {name:?}: {what}")]
    Config {
        /// The name of the test.
        name: &'static str,
        /// Why the configuration does not fit the scheduler.
        what: &'static str,
    },
    /// A payload cannot be run.
    #[error("test {name:?}: {cause}")]
    Payload {
        /// The name of the test.
        name: &'static str,
        /// What is wrong with the payload.
        cause: PayloadError,
    },
    /// Two payloads have the same name, so operations could not tell them apart.
    #[error(
        "test {name:?}: `payload` and `workloads` have two programs named {payload:?}: give one of them another name"
    )]
    PayloadTwice {
        /// The name of the test.
        name: &'static str,
        /// The name that both payloads have.
        payload: &'static str,
    },
    /// Two different schedulers have the same name, so operations could not tell them apart.
    #[error(
        "test {name:?}: two of its schedulers have the name {scheduler:?}: operations find a scheduler by its name, so give one of \
         them another"
    )]
    SchedulerTwice {
        /// The name of the test.
        name: &'static str,
        /// The name that both schedulers have.
        scheduler: &'static str,
    },
    /// The topology has more CPUs than any machine can have.
    #[error("test {name:?}: the topology has {cpus} CPUs: at most {MAX_CPUS} are possible")]
    Cpus {
        /// The name of the test.
        name: &'static str,
        /// The number of CPUs.
        cpus: u32,
    },
    /// An argument contains a character that cannot be passed on.
    #[error("test {name:?}: {field} has {value:?}, which contains a newline or NUL")]
    Argument {
        /// The name of the test.
        name: &'static str,
        /// The field that holds the argument.
        field: &'static str,
        /// The argument that is refused.
        value: &'static str,
    },
}

impl KtstrTestEntry {
    /// The defaults of a test: the kernel's own scheduler, two CPUs, a window of 12 s. The entry has no name yet, so it is
    /// not valid, and its function only returns an error.
    pub const DEFAULT: Self = Self {
        name: "",
        func: no_body,
        topology: Topology::DEFAULT,
        constraints: TopologyConstraints::DEFAULT,
        memory_mib: 256,
        scheduler: &Scheduler::EEVDF,
        assert: Assert::NO_OVERRIDES,
        extra_sched_args: &[],
        config_content: None,
        staged_schedulers: &[],
        payload: None,
        workloads: &[],
        bpf_map_write: &[],
        watch_bpf_maps: &[],
        perf_delta_assertions: &[],
        watchdog_timeout: Duration::from_secs(5),
        duration: Duration::from_secs(12),
        expect_err: false,
        allow_inconclusive: false,
        host_only: false,
        ignored: false,
        extra_include_files: &[],
        cleanup_budget: None,
        post_vm: None,
        post_vm_unconditional: None,
        num_snapshots: 0,
        workload_root_cgroup: None,
        disk: None,
        kargs: &[],
        seed: None,
        clock: ClockMode::Auto,
        fresh_attach: false,
        performance_mode: false,
        no_perf_mode: false,
        cpu_budget: None,
        auto_repro: true,
        survives_storm: false,
        kaslr: false,
        pci: false,
    };

    /// The programs that the test runs as its workload.
    fn payloads(&self) -> impl Iterator<Item = &'static Payload> {
        self.payload
            .into_iter()
            .chain(self.workloads.iter().copied())
    }

    /// Returns all files of the host that are packed for the guest, as declared, each once: first the programs of
    /// payloads and their files, then the additional ones.
    pub fn all_include_files(&self) -> Vec<&'static str> {
        let mut all = Vec::new();
        let of_payloads = self.payloads().flat_map(|payload| {
            let program = payload.program().into_iter();
            program.chain(payload.include_files.iter().copied())
        });
        for file in of_payloads.chain(self.extra_include_files.iter().copied()) {
            if !all.contains(&file) {
                all.push(file);
            }
        }
        all
    }

    fn validate_payloads(&self) -> Result<(), EntryError> {
        let name = self.name;
        let mut known: Vec<&Payload> = Vec::new();
        for payload in self.payloads() {
            payload
                .validate()
                .map_err(|cause| EntryError::Payload { name, cause })?;
            if known
                .iter()
                .any(|other| other.name == payload.name && *other != payload)
            {
                let payload = payload.name;
                return Err(EntryError::PayloadTwice { name, payload });
            }
            known.push(payload);
        }
        Ok(())
    }

    /// Checks that operations can find each scheduler of the test by its name.
    fn validate_schedulers(&self) -> Result<(), EntryError> {
        let name = self.name;
        let own = Some(self.scheduler).filter(|own| own.binary.has_bpf_scheduler());
        let mut known: Vec<&Scheduler> = own.into_iter().collect();
        for &staged in self.staged_schedulers {
            let scheduler = staged.name;
            if (known.iter()).any(|other| other.name == scheduler && *other != staged) {
                return Err(EntryError::SchedulerTwice { name, scheduler });
            }
            known.push(staged);
        }
        Ok(())
    }

    /// Returns the guest time between two periodic captures, which are spread over eight tenths of the window. Returns
    /// `None` without captures, and if the calculation overflows.
    pub fn snapshot_interval(&self) -> Option<Duration> {
        let count = self.num_snapshots.checked_add(1).filter(|&n| n > 1)?;
        Some(self.duration.checked_mul(8)? / 10 / count)
    }

    /// Returns the times of the periodic captures since the start of the workload window. They divide the eight tenths in the
    /// middle of the window into equal parts, so no capture is taken at the start or at the end.
    pub fn capture_times(&self) -> Vec<Duration> {
        let window = self.duration.as_secs_f64();
        let parts = f64::from(self.num_snapshots) + 1.0;
        (0..self.num_snapshots)
            .map(|i| {
                let share = 0.1 + (f64::from(i) + 1.0) * 0.8 / parts;
                Duration::from_secs_f64(window * share)
            })
            .collect()
    }

    /// Checks whether the entry can be run. `#[ktstr_test]` finds such defects at compile time where it can; every run calls
    /// this method before it starts a machine. Call it yourself to check an entry without a run.
    ///
    /// # Errors
    /// An [`EntryError`] that names the test and the first defect.
    pub fn validate(&self) -> Result<(), EntryError> {
        let name = self.name;
        if name.is_empty() || name.contains('/') {
            return Err(EntryError::Name { name });
        }
        for (field, zero) in [
            ("memory_mib", self.memory_mib == 0),
            ("duration", self.duration.is_zero()),
            ("watchdog_timeout", self.watchdog_timeout.is_zero()),
            (
                "cleanup_budget",
                self.cleanup_budget == Some(Duration::ZERO),
            ),
            ("cpu_budget", self.cpu_budget == Some(0)),
        ] {
            if zero {
                return Err(EntryError::Zero { name, field });
            }
        }
        self.topology
            .validate()
            .map_err(|cause| EntryError::Topology { name, cause })?;
        let cpus = self.topology.total_cpus();
        if cpus > MAX_CPUS {
            return Err(EntryError::Cpus { name, cpus });
        }
        self.constraints
            .validate()
            .and_then(|()| self.constraints.holds(&self.topology))
            .map_err(|cause| EntryError::Constraints { name, cause })?;
        if let Some(what) = unbuilt(&self.topology) {
            return Err(EntryError::NotBuilt { name, what });
        }
        let too_close = self
            .snapshot_interval()
            .is_some_and(|interval| interval < MIN_SNAPSHOT_INTERVAL);
        if self.num_snapshots > MAX_SNAPSHOTS || too_close {
            return Err(EntryError::Snapshots {
                name,
                count: self.num_snapshots,
                duration: self.duration,
            });
        }
        self.validate_payloads()?;
        self.validate_schedulers()?;
        if let Some(disk) = &self.disk {
            disk.validate()
                .map_err(|cause| EntryError::Disk { name, cause })?;
        }
        for (field, wanted) in [("kaslr", self.kaslr), ("pci", self.pci)] {
            if wanted {
                return Err(EntryError::NotAvailable { name, field });
            }
        }
        if self.survives_storm && !self.scheduler.binary.has_bpf_scheduler() {
            let field = "survives_storm";
            return Err(EntryError::NeedsScheduler { name, field });
        }
        if self.survives_storm && self.expect_err {
            return Err(EntryError::Storm { name });
        }
        if self.performance_mode && self.no_perf_mode {
            return Err(EntryError::PerformanceMode { name });
        }
        if let Some(what) = config_misfit(self.scheduler, self.config_content) {
            return Err(EntryError::Config { name, what });
        }
        for (field, given) in [
            ("bpf_map_write", !self.bpf_map_write.is_empty()),
            ("watch_bpf_maps", !self.watch_bpf_maps.is_empty()),
        ] {
            if given && !self.scheduler.binary.has_bpf_scheduler() {
                return Err(EntryError::NeedsScheduler { name, field });
            }
        }
        for assertion in self.perf_delta_assertions {
            assertion
                .validate()
                .map_err(|cause| EntryError::PerfDelta { name, cause })?;
            if let Some(why) = crate::entry_metrics::never_measured(self, assertion) {
                return Err(EntryError::NeverMeasured { name, why });
            }
        }
        if self.cpu_budget.is_some() && !self.no_perf_mode {
            return Err(EntryError::CpuBudget { name });
        }
        if self.host_only {
            for (field, given) in [
                ("cpu_budget", self.cpu_budget.is_some()),
                (
                    "perf_delta_assertions",
                    !self.perf_delta_assertions.is_empty(),
                ),
                ("scheduler", self.scheduler.binary.has_active_scheduling()),
                ("num_snapshots", self.num_snapshots > 0),
                ("a bound of the monitor", self.assert.has_monitor_checks()),
                ("fresh_attach", self.fresh_attach),
                ("staged_schedulers", !self.staged_schedulers.is_empty()),
                ("disk", self.disk.is_some()),
                ("cleanup_budget", self.cleanup_budget.is_some()),
                ("post_vm", self.post_vm.is_some()),
                (
                    "post_vm_unconditional",
                    self.post_vm_unconditional.is_some(),
                ),
            ] {
                if given {
                    return Err(EntryError::NeedsVm { name, field });
                }
            }
        }
        let expects = |a: &Assert| {
            a.expect_scx_bpf_error_contains.is_some() || a.expect_scx_bpf_error_matches.is_some()
        };
        let may_come = self.expect_err && self.scheduler.binary.has_active_scheduling();
        if expects(&self.assert) && !may_come {
            return Err(EntryError::NoError { name });
        }
        self.scheduler
            .assert
            .merge(&self.assert)
            .validate_expected_error()
            .map_err(|cause| EntryError::ExpectedError { name, cause })?;
        for (field, values) in [
            ("extra_sched_args", self.extra_sched_args),
            ("kargs", self.kargs),
        ] {
            if let Some(value) = values.iter().find(|value| value.contains(['\n', '\0'])) {
                return Err(EntryError::Argument { name, field, value });
            }
        }
        Ok(())
    }
}

impl Default for KtstrTestEntry {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Returns the first test of this name; `None` if the binary has none.
pub fn find_test(name: &str) -> Option<&'static KtstrTestEntry> {
    KTSTR_TESTS.iter().find(|entry| entry.name == name)
}

/// Returns the first declared scheduler of this name; `None` if the binary declares none.
pub fn find_scheduler(name: &str) -> Option<&'static Scheduler> {
    KTSTR_SCHEDULERS
        .iter()
        .copied()
        .find(|scheduler| scheduler.name == name)
}

/// Returns why a test's configuration does not fit its scheduler; `None` if it fits.
pub(crate) const fn config_misfit(
    scheduler: &Scheduler,
    content: Option<&'static str>,
) -> Option<&'static str> {
    match (scheduler.config_file_def, content) {
        (Some(_), None) => Some(
            "the scheduler has a config_file_def, but the test has no configuration: give it one with `config`",
        ),
        (None, Some(_)) => Some(
            "the test has a configuration, but the scheduler has no config_file_def that names its file in the guest",
        ),
        (Some(_), Some(_)) | (None, None) => None,
    }
}

/// Returns why no guest would number the nodes of this topology as declared; `None` if a guest would. A test on such a
/// topology would pass or fail for the wrong reason. Linux numbers nodes in the order in which the firmware's table names
/// them, and the entries of processors come first there.
fn unbuilt(topology: &Topology) -> Option<&'static str> {
    let nodes = topology.nodes?;
    let with_cpus = nodes.iter().take_while(|node| !node.is_memory_only());
    (with_cpus.count() < topology.cpu_bearing_nodes() as usize)
        .then_some("a node without CPUs is before one with CPUs")
}

fn no_body(_: &Ctx) -> anyhow::Result<AssertResult> {
    anyhow::bail!("this test has no body: set `func` in its entry")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: KtstrTestEntry = KtstrTestEntry {
        name: "good",
        ..KtstrTestEntry::DEFAULT
    };

    fn error(entry: KtstrTestEntry) -> String {
        entry.validate().expect_err("must be refused").to_string()
    }

    #[test]
    fn defaults_are_valid() {
        assert_eq!(GOOD.validate(), Ok(()));
    }

    #[test]
    fn writes_to_variables_need_a_scheduler() {
        const STALL: BpfMapWrite = BpfMapWrite::new(".bss", "stall", 1);
        let entry = KtstrTestEntry {
            bpf_map_write: &[&STALL],
            ..GOOD
        };
        assert!(error(entry).contains("bpf_map_write needs a scheduler with a binary"));
    }

    #[test]
    fn payloads_are_programs_with_distinct_names() {
        const FIO: Payload = Payload::binary("fio", "fio").with_include_files(&["job", "x"]);
        const OTHER: Payload = Payload::binary("fio", "other");
        let with = |workloads| KtstrTestEntry {
            payload: Some(&FIO),
            workloads,
            extra_include_files: &["x", "y"],
            ..GOOD
        };
        assert_eq!(with(&[&FIO]).validate(), Ok(()));
        assert_eq!(with(&[]).all_include_files(), ["fio", "job", "x", "y"]);
        assert!(error(with(&[&OTHER])).contains("have two programs named \"fio\""));
        let scheduler = error(with(&[&Payload::KERNEL_DEFAULT]));
        assert!(
            scheduler.contains("is a scheduler and cannot run as a load"),
            "{scheduler}"
        );
    }

    #[test]
    fn errors_name_the_defect() {
        assert!(error(KtstrTestEntry::DEFAULT).contains("must not be empty"));
        assert!(
            error(KtstrTestEntry {
                name: "a/b",
                ..GOOD
            })
            .contains("a/b")
        );
        let zero = KtstrTestEntry {
            duration: Duration::ZERO,
            ..GOOD
        };
        assert_eq!(error(zero), "test \"good\": duration must be more than 0");
        let expecting = |text, expect_err| {
            error(KtstrTestEntry {
                assert: Assert::NO_OVERRIDES.expect_scx_bpf_error_matches(text),
                expect_err,
                scheduler: &SCHED,
                ..GOOD
            })
        };
        const SCHED: Scheduler =
            Scheduler::named("s").binary(ktstr_scenario::scheduler::SchedulerSpec::Discover("s"));
        assert!(expecting("x", false).contains("need expect_err"));
        let nobody = KtstrTestEntry {
            assert: Assert::NO_OVERRIDES.expect_scx_bpf_error_contains("x"),
            expect_err: true,
            ..GOOD
        };
        assert!(error(nobody).contains("need expect_err and a scheduler"));
        assert!(
            expecting("(", true)
                .contains("\"good\": expect_scx_bpf_error_matches = \"(\" is not a regular")
        );
        let shape = KtstrTestEntry {
            topology: Topology::new(2, 3, 1, 1),
            ..GOOD
        };
        assert!(error(shape).contains("llcs = 3 cannot be divided by numa_nodes = 2"));
        let small = KtstrTestEntry {
            constraints: TopologyConstraints::DEFAULT.with_min_llcs(2),
            ..GOOD
        };
        assert_eq!(
            error(small),
            "test \"good\": constraints: min_llcs = 2, and the topology has 1"
        );
        let host = KtstrTestEntry {
            host_only: true,
            num_snapshots: 1,
            ..GOOD
        };
        assert!(error(host).contains("num_snapshots needs a VM"));
        let args = KtstrTestEntry {
            extra_sched_args: &["a\nb"],
            ..GOOD
        };
        assert!(error(args).contains("newline"));
    }

    #[test]
    fn a_configuration_needs_a_scheduler_that_takes_it_and_the_reverse() {
        const PLAIN: Scheduler = Scheduler::named("plain");
        const TAKES: Scheduler = PLAIN.config_file_def("-c {file}", "/etc/c");
        let entry = |scheduler, config_content| KtstrTestEntry {
            scheduler,
            config_content,
            ..GOOD
        };
        assert_eq!(entry(&TAKES, Some("x")).validate(), Ok(()));
        assert!(error(entry(&TAKES, None)).contains("the test has no configuration"));
        assert!(error(entry(&PLAIN, Some("x"))).contains("the scheduler has no config_file_def"));
    }

    #[test]
    fn modes_that_are_not_implemented_or_contradict_are_refused() {
        let kaslr = KtstrTestEntry {
            kaslr: true,
            ..GOOD
        };
        assert_eq!(
            error(kaslr),
            "test \"good\": kaslr is not available yet: leave it false"
        );
        let nobody = KtstrTestEntry {
            survives_storm: true,
            ..GOOD
        };
        assert!(error(nobody).contains("survives_storm needs a scheduler"));
        let both = KtstrTestEntry {
            performance_mode: true,
            no_perf_mode: true,
            ..GOOD
        };
        assert!(error(both).contains("exclude each other"));
    }

    #[test]
    fn a_topology_that_no_guest_would_see_is_refused() {
        use ktstr_scenario::topology::NumaNode;
        const THREE_AND_ONE: &[NumaNode] = &[NumaNode::new(3, 512), NumaNode::new(1, 512)];
        const MEMORY_FIRST: &[NumaNode] = &[NumaNode::new(0, 512), NumaNode::new(1, 512)];
        const MEMORY_LAST: &[NumaNode] = &[NumaNode::new(1, 512), NumaNode::new(0, 512)];
        let topology = Topology::with_nodes(1, 1, MEMORY_FIRST);
        let text = error(KtstrTestEntry { topology, ..GOOD });
        assert!(
            text.contains("a node without CPUs is before") && text.contains("declare those first"),
            "{text}"
        );
        let uneven_cores = Topology {
            llc_cores: Some(&[3, 1]),
            ..Topology::new(1, 2, 2, 1)
        };
        for topology in [
            Topology::with_nodes(1, 1, MEMORY_LAST),
            Topology::with_nodes(1, 1, THREE_AND_ONE),
            uneven_cores,
        ] {
            assert_eq!(KtstrTestEntry { topology, ..GOOD }.validate(), Ok(()));
        }
    }

    #[test]
    fn captures_must_be_far_enough_apart() {
        let entry = |num_snapshots, ms| KtstrTestEntry {
            num_snapshots,
            duration: Duration::from_millis(ms),
            ..GOOD
        };
        assert_eq!(
            entry(4, 10_000).snapshot_interval(),
            Some(Duration::from_millis(1600))
        );
        assert_eq!(entry(0, 1).snapshot_interval(), None);
        let at = |num| entry(num, 10_000).capture_times().into_iter();
        let ms: Vec<u128> = at(4).map(|at| at.as_millis()).collect();
        assert_eq!(ms, [2600, 4200, 5800, 7400]);
        let ms: Vec<u128> = at(3).map(|at| at.as_millis()).collect();
        assert_eq!(ms, [3000, 5000, 7000]);
        assert!(entry(7, 1000).validate().is_ok());
        assert!(entry(8, 1000).validate().is_err());
        assert!(entry(65, 1_000_000).validate().is_err());
    }
}
