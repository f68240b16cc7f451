//! The declaration of the scheduler under test: its name, its binary, and its requirements. All of it is `const`, because a test
//! refers to a scheduler by a constant. The host finds the binary, and the guest starts it.

mod map_watch;
mod map_write;
mod promise;
mod settings;

use ktstr_assert::Assert;

use crate::topology::{Topology, TopologyConstraints};

pub use map_watch::{BpfMapAgg, WatchBpfMap};
pub use map_write::BpfMapWrite;
pub use promise::{Promise, Promises};
pub use settings::{CgroupPath, Speed, Sysctl};

/// How the scheduler is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchedulerSpec {
    /// The kernel's own scheduler; nothing is started.
    Eevdf,
    /// The package of this name in the workspace of the declaring crate, or the binary of this name in one of its packages. Cargo
    /// builds it if it is stale. `KTSTR_SCHEDULER` replaces it with another binary.
    Discover(&'static str),
    /// A binary at this path.
    Path(&'static str),
    /// A scheduler inside the kernel, which commands of the form `echo V > /path` switch on and off.
    KernelBuiltin {
        /// The commands that run in the guest before the workload.
        enable: &'static [&'static str],
        /// The commands that run in the guest after the workload.
        disable: &'static [&'static str],
    },
}

impl SchedulerSpec {
    /// Returns the scheduler that a user names by one word: `eevdf` is the kernel's own scheduler, a word with a `/` is the
    /// path of a binary, and any other word is the name of a package.
    pub fn of_binary(word: &'static str) -> Self {
        match word {
            "eevdf" => Self::Eevdf,
            path if path.contains('/') => Self::Path(path),
            name => Self::Discover(name),
        }
    }

    /// Returns whether tests run under anything other than the kernel's default scheduling.
    pub const fn has_active_scheduling(&self) -> bool {
        !matches!(self, Self::Eevdf)
    }

    /// Returns whether a sched_ext (BPF) scheduler is started from a binary.
    pub const fn has_bpf_scheduler(&self) -> bool {
        matches!(self, Self::Discover(_) | Self::Path(_))
    }

    /// Returns the scheduler's name for reports: `eevdf`, the name, the path, or `kernel` for [`Self::KernelBuiltin`].
    pub const fn display_name(&self) -> &'static str {
        match self {
            Self::Eevdf => "eevdf",
            Self::Discover(name) => name,
            Self::Path(path) => path,
            Self::KernelBuiltin { .. } => "kernel",
        }
    }

    /// Always returns `None`, because a declaration does not know the commit from which the scheduler is built. The record of a
    /// run identifies the binary by its hash and its answer to `--version`.
    pub const fn scheduler_commit(&self) -> Option<&'static str> {
        None
    }
}

/// A scheduler under test.
///
/// ```
/// use ktstr_scenario::scheduler::{Scheduler, SchedulerSpec};
///
/// const LAVD: Scheduler = Scheduler::named("lavd")
///     .binary(SchedulerSpec::Discover("scx_lavd"))
///     .sched_args(&["--performance"])
///     .topology(1, 2, 4, 1);
/// assert_eq!(LAVD.topology.total_cpus(), 8);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scheduler {
    /// The name in reports.
    pub name: &'static str,
    /// How the scheduler is started.
    pub binary: SchedulerSpec,
    /// The kernel settings that are written to `/proc/sys` before the scheduler starts.
    pub sysctls: &'static [Sysctl],
    /// Additional arguments of the guest kernel's command line.
    pub kargs: &'static [&'static str],
    /// The checks of every test of this scheduler; a test's own attributes take precedence.
    pub assert: Assert,
    /// What the scheduler promises: the default checks hold it only to these promises.
    pub promises: Promises,
    /// The number of instructions per second of the virtual clock; with `None` it depends on the number of CPUs.
    pub speed: Option<Speed>,
    /// The cgroup that is created for the scheduler before it starts; `None` creates none.
    pub cgroup_parent: Option<CgroupPath>,
    /// Arguments of the scheduler; a test's `extra_sched_args` follow them.
    pub sched_args: &'static [&'static str],
    /// The topology of tests that do not declare one.
    pub topology: Topology,
    /// The shapes that the scheduler supports: a test that declares another shape is refused; see [`TopologyConstraints::holds`].
    pub constraints: TopologyConstraints,
    /// A configuration file of the host, which is packed for the guest and passed with `--config`.
    pub config_file: Option<&'static str>,
    /// How the scheduler gets the configuration that each test supplies with `config`: the arguments, with `{file}` in place of
    /// the path, and the absolute path of the file in the guest.
    pub config_file_def: Option<(&'static str, &'static str)>,
    /// The kernels on which nextest loads the scheduler, in tests named `verifier/…`: versions such as `6.14`, and ranges such as
    /// `6.15..=7.0`. If the list is empty, the scheduler is loaded on all kernels of `KTSTR_KERNEL_LIST`.
    pub kernels: &'static [&'static str],
    /// The presets of shapes on which nextest does not load the scheduler.
    pub verifier_exclude_topologies: &'static [&'static str],
    /// `CARGO_MANIFEST_DIR` of the declaring crate, in whose workspace a discovered scheduler is built; if it is empty, the
    /// test's own package is used.
    pub manifest_dir: &'static str,
    /// The cargo profile with which a discovered scheduler is built; `None` uses the profile of the test's own binary.
    /// `KTSTR_SCHEDULER_PROFILE` takes precedence.
    pub build_profile: Option<&'static str>,
    /// The cargo features with which a discovered scheduler is built, in addition to its default features.
    pub build_features: &'static [&'static str],
}

impl Scheduler {
    /// The kernel's own scheduler.
    pub const EEVDF: Self = Self::named("eevdf");

    /// A scheduler of this name without a binary, on [`Topology::DEFAULT`]: one node, one LLC, two cores.
    pub const fn named(name: &'static str) -> Self {
        Self {
            name,
            binary: SchedulerSpec::Eevdf,
            sysctls: &[],
            kargs: &[],
            assert: Assert::NO_OVERRIDES,
            promises: Promises::ALL,
            speed: None,
            cgroup_parent: None,
            sched_args: &[],
            topology: Topology::DEFAULT,
            constraints: TopologyConstraints::DEFAULT,
            config_file: None,
            config_file_def: None,
            kernels: &[],
            verifier_exclude_topologies: &[],
            manifest_dir: "",
            build_profile: None,
            build_features: &[],
        }
    }

    /// Sets how the scheduler is started.
    pub const fn binary(mut self, spec: SchedulerSpec) -> Self {
        self.binary = spec;
        self
    }

    /// Starts the binary `name`, which cargo builds if it is stale; short for `binary(SchedulerSpec::Discover(name))`.
    pub const fn binary_discover(self, name: &'static str) -> Self {
        self.binary(SchedulerSpec::Discover(name))
    }

    /// Sets the declaring crate's folder: `env!("CARGO_MANIFEST_DIR")`.
    pub const fn manifest_dir(mut self, dir: &'static str) -> Self {
        self.manifest_dir = dir;
        self
    }

    /// Sets the kernels on which the tests `verifier/…` of nextest load the scheduler: versions such as `6.14`, and ranges such
    /// as `6.15..=7.0`.
    pub const fn kernels(mut self, kernels: &'static [&'static str]) -> Self {
        self.kernels = kernels;
        self
    }

    /// Sets the presets of shapes on which the tests `verifier/…` of nextest do not load the scheduler.
    pub const fn verifier_exclude_topologies(mut self, presets: &'static [&'static str]) -> Self {
        self.verifier_exclude_topologies = presets;
        self
    }

    /// Builds a discovered scheduler with this cargo profile.
    pub const fn build_profile(mut self, profile: &'static str) -> Self {
        self.build_profile = Some(profile);
        self
    }

    /// Builds a discovered scheduler with these cargo features, in addition to its default features.
    pub const fn build_features(mut self, features: &'static [&'static str]) -> Self {
        self.build_features = features;
        self
    }

    /// Sets the kernel settings, which are written to `/proc/sys` before the scheduler starts.
    pub const fn sysctls(mut self, sysctls: &'static [Sysctl]) -> Self {
        self.sysctls = sysctls;
        self
    }

    /// Sets the additional arguments of the guest kernel's command line.
    pub const fn kargs(mut self, kargs: &'static [&'static str]) -> Self {
        self.kargs = kargs;
        self
    }

    /// Sets checks for every test of this scheduler.
    pub const fn assert(mut self, assert: Assert) -> Self {
        self.assert = assert;
        self
    }

    /// Declares that the scheduler does not make this promise: violations are reported, but fail no test.
    pub const fn does_not_promise(mut self, promise: Promise) -> Self {
        self.promises = self.promises.without(promise);
        self
    }

    /// Sets the number of instructions per second of the virtual clock. A scheduler with internal deadlines, for example for
    /// its start, needs enough instructions to meet them; more instructions per second take more wall time.
    /// `KTSTR_VIRTUAL_MIPS` takes precedence.
    pub const fn speed(mut self, speed: Speed) -> Self {
        self.speed = Some(speed);
        self
    }

    /// Sets the cgroup that is created for the scheduler.
    ///
    /// # Panics
    /// As [`CgroupPath::new`]; in a `const` this is a compile error.
    pub const fn cgroup_parent(mut self, path: &'static str) -> Self {
        self.cgroup_parent = Some(CgroupPath::new(path));
        self
    }

    /// Sets the scheduler's arguments.
    pub const fn sched_args(mut self, args: &'static [&'static str]) -> Self {
        self.sched_args = args;
        self
    }

    /// Sets the topology of tests that do not declare one.
    ///
    /// # Panics
    /// If the shape cannot be built; in a `const` this is a compile error.
    pub const fn topology(mut self, numa_nodes: u32, llcs: u32, cores: u32, threads: u32) -> Self {
        self.topology = Topology::new(numa_nodes, llcs, cores, threads).checked();
        self
    }

    /// Sets the constraints on the shapes of tests.
    pub const fn constraints(mut self, constraints: TopologyConstraints) -> Self {
        self.constraints = constraints;
        self
    }

    /// Sets the smallest accepted number of NUMA nodes.
    pub const fn min_numa_nodes(mut self, n: u32) -> Self {
        self.constraints = self.constraints.with_min_numa_nodes(n);
        self
    }

    /// Sets the largest accepted number of NUMA nodes.
    pub const fn max_numa_nodes(mut self, n: u32) -> Self {
        self.constraints = self.constraints.with_max_numa_nodes(n);
        self
    }

    /// Sets the smallest accepted number of LLCs.
    pub const fn min_llcs(mut self, n: u32) -> Self {
        self.constraints = self.constraints.with_min_llcs(n);
        self
    }

    /// Sets the largest accepted number of LLCs.
    pub const fn max_llcs(mut self, n: u32) -> Self {
        self.constraints = self.constraints.with_max_llcs(n);
        self
    }

    /// Accepts only shapes with more than one thread per core.
    pub const fn requires_smt(mut self) -> Self {
        self.constraints = self.constraints.with_requires_smt(true);
        self
    }

    /// Sets the smallest accepted number of CPUs.
    pub const fn min_cpus(mut self, n: u32) -> Self {
        self.constraints = self.constraints.with_min_cpus(n);
        self
    }

    /// Sets the largest accepted number of CPUs.
    pub const fn max_cpus(mut self, n: u32) -> Self {
        self.constraints = self.constraints.with_max_cpus(n);
        self
    }

    /// Sets a configuration file of the host, packed for the guest.
    pub const fn config_file(mut self, path: &'static str) -> Self {
        self.config_file = Some(path);
        self
    }

    /// Sets how the scheduler gets the configuration that each test supplies: `arguments` are words separated by white
    /// space, with `{file}` in place of the path, and `path` is the path of the file in the guest.
    ///
    /// ```
    /// use ktstr_scenario::scheduler::Scheduler;
    ///
    /// const LAYERED: Scheduler =
    ///     Scheduler::named("layered").config_file_def("--config {file}", "/etc/layers.json");
    /// assert_eq!(LAYERED.config_args(), ["--config", "/etc/layers.json"]);
    /// ```
    ///
    /// # Panics
    /// If `arguments` lacks `{file}`, or `path` is not the absolute path of a file; in a `const` this is a compile error.
    pub const fn config_file_def(mut self, arguments: &'static str, path: &'static str) -> Self {
        assert!(
            settings::has_file(arguments),
            "config_file_def: the arguments must have {{file}} where the path belongs"
        );
        let bytes = path.as_bytes();
        assert!(
            bytes.len() > 1 && bytes[0] == b'/' && bytes[bytes.len() - 1] != b'/',
            "config_file_def: the path in the guest must be absolute and name a file"
        );
        self.config_file_def = Some((arguments, path));
        self
    }

    /// Returns the arguments that pass the test's configuration to the scheduler; empty without [`Self::config_file_def`].
    pub fn config_args(&self) -> Vec<String> {
        let Some((arguments, path)) = self.config_file_def else {
            return Vec::new();
        };
        let words = arguments.split_whitespace();
        words.map(|word| word.replace("{file}", path)).collect()
    }

    /// Returns the folder of the declaring crate; `None` if the field `manifest_dir` is empty.
    pub const fn effective_manifest_dir(&self) -> Option<&'static str> {
        if self.manifest_dir.is_empty() {
            None
        } else {
            Some(self.manifest_dir)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: Scheduler = Scheduler::named("x")
        .binary(SchedulerSpec::Discover("scx_x"))
        .cgroup_parent("/x.slice")
        .sysctls(&[Sysctl::new("kernel.sched_x", "1")])
        .topology(2, 4, 1, 1)
        .max_numa_nodes(2)
        .requires_smt();
    static Y: &Scheduler = &X;

    #[test]
    fn a_const_holds_everything() {
        assert_eq!(Y.binary.display_name(), "scx_x");
        assert!(Y.binary.has_bpf_scheduler());
        assert_eq!(Y.topology.to_string(), "2n4l1c1t");
        assert!(Y.constraints.requires_smt);
        assert_eq!(Y.constraints.max_numa_nodes, Some(2));
        assert_eq!(Y.effective_manifest_dir(), None);
        assert!(!Scheduler::EEVDF.binary.has_active_scheduling());
        assert_eq!(Y.binary.scheduler_commit(), None);
        assert!(Y.config_args().is_empty());
    }

    #[test]
    fn arguments_of_a_written_configuration_name_its_file() {
        let y = X.config_file_def("-c={file} --strict", "/tmp/c.json");
        assert_eq!(y.config_args(), ["-c=/tmp/c.json", "--strict"]);
    }

    #[test]
    #[should_panic(expected = "must have {file}")]
    fn a_written_configuration_must_be_named() {
        let _ = X.config_file_def("--config", "/tmp/c.json");
    }

    #[test]
    #[should_panic(expected = "must be absolute")]
    fn a_written_configuration_lies_in_the_guest() {
        let _ = X.config_file_def("{file}", "c.json");
    }

    #[test]
    #[should_panic(expected = "llcs = 3 cannot be divided by numa_nodes = 2")]
    fn a_topology_that_cannot_be_built_is_refused() {
        let _ = Scheduler::named("x").topology(2, 3, 1, 1);
    }
}
