//! The scheduler under test: what it is called, where its binary comes from, what it needs.
//! All `const`, because a test names a scheduler by a constant. Finding and starting the
//! binary is the host's and the guest's work.

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

/// How the scheduler's code gets into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchedulerSpec {
    /// The kernel's own scheduler; nothing is started.
    Eevdf,
    /// The package, or the binary of a package, of this name in the workspace of the declaring crate:
    /// cargo builds it if it is stale. `KTSTR_SCHEDULER` puts another binary in its place.
    Discover(&'static str),
    /// A binary at this path.
    Path(&'static str),
    /// A scheduler inside the kernel, switched by commands of the form `echo V > /path`.
    KernelBuiltin {
        /// Run in the guest before the workload.
        enable: &'static [&'static str],
        /// Run in the guest after the workload.
        disable: &'static [&'static str],
    },
}

impl SchedulerSpec {
    /// What a person means by a word: `eevdf` is the kernel's own scheduler, a word with a `/` the path of a binary, any other
    /// one the package whose binary is looked for.
    pub fn of_binary(word: &'static str) -> Self {
        match word {
            "eevdf" => Self::Eevdf,
            path if path.contains('/') => Self::Path(path),
            name => Self::Discover(name),
        }
    }

    /// Whether anything other than the kernel's default scheduling is active.
    pub const fn has_active_scheduling(&self) -> bool {
        !matches!(self, Self::Eevdf)
    }

    /// Whether a sched_ext (BPF) scheduler is started from a binary.
    pub const fn has_bpf_scheduler(&self) -> bool {
        matches!(self, Self::Discover(_) | Self::Path(_))
    }

    /// `eevdf`, the name, the path, or `kernel`.
    pub const fn display_name(&self) -> &'static str {
        match self {
            Self::Eevdf => "eevdf",
            Self::Discover(name) => name,
            Self::Path(path) => path,
            Self::KernelBuiltin { .. } => "kernel",
        }
    }

    /// The commit that the scheduler was built from. A declaration does not know it, so this is always `None`: the
    /// record of a run names the binary by its hash and its answer to `--version`.
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
    /// Where its code comes from.
    pub binary: SchedulerSpec,
    /// Kernel settings, written to `/proc/sys` before the scheduler starts.
    pub sysctls: &'static [Sysctl],
    /// More arguments of the guest kernel.
    pub kargs: &'static [&'static str],
    /// Checks that hold for every test of this scheduler; a test's own attributes win.
    pub assert: Assert,
    /// What the scheduler promises: the checks that the harness makes by itself hold it to this alone.
    pub promises: Promises,
    /// Instructions in a second of the virtual clock; `None` is by the number of CPUs.
    pub speed: Option<Speed>,
    /// A cgroup made for the scheduler before it starts.
    pub cgroup_parent: Option<CgroupPath>,
    /// Arguments of the scheduler; a test's `extra_sched_args` follow them.
    pub sched_args: &'static [&'static str],
    /// The shape of tests that do not say their own.
    pub topology: Topology,
    /// The shapes that tests of this scheduler make sense on: a test that declares another one is refused.
    pub constraints: TopologyConstraints,
    /// A configuration file, packed and passed with `--config`.
    pub config_file: Option<&'static str>,
    /// How the scheduler takes a configuration that each test writes out: its arguments, with `{file}` where the path
    /// belongs, and the absolute path that the file has in the guest. A test gives the content with `config`.
    pub config_file_def: Option<(&'static str, &'static str)>,
    /// `CARGO_MANIFEST_DIR` of the declaring crate, in whose workspace a discovered scheduler is built;
    /// empty for that of the test's own package.
    pub manifest_dir: &'static str,
    /// The cargo profile that a discovered scheduler is built with; `None` for that of the test's own
    /// binary. `KTSTR_SCHEDULER_PROFILE` goes before it.
    pub build_profile: Option<&'static str>,
    /// The cargo features that a discovered scheduler is built with, besides its default ones.
    pub build_features: &'static [&'static str],
}

impl Scheduler {
    /// The kernel's own scheduler.
    pub const EEVDF: Self = Self::named("eevdf");

    /// A scheduler of this name, with nothing to start, on one node, one LLC, two cores.
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
            manifest_dir: "",
            build_profile: None,
            build_features: &[],
        }
    }

    /// Sets where its code comes from.
    pub const fn binary(mut self, spec: SchedulerSpec) -> Self {
        self.binary = spec;
        self
    }

    /// Short for `binary(SchedulerSpec::Discover(name))`.
    pub const fn binary_discover(self, name: &'static str) -> Self {
        self.binary(SchedulerSpec::Discover(name))
    }

    /// Sets the declaring crate's folder: `env!("CARGO_MANIFEST_DIR")`.
    pub const fn manifest_dir(mut self, dir: &'static str) -> Self {
        self.manifest_dir = dir;
        self
    }

    /// Builds a discovered scheduler with this cargo profile.
    pub const fn build_profile(mut self, profile: &'static str) -> Self {
        self.build_profile = Some(profile);
        self
    }

    /// Builds a discovered scheduler with these cargo features, besides its default ones.
    pub const fn build_features(mut self, features: &'static [&'static str]) -> Self {
        self.build_features = features;
        self
    }

    /// Sets kernel settings.
    pub const fn sysctls(mut self, sysctls: &'static [Sysctl]) -> Self {
        self.sysctls = sysctls;
        self
    }

    /// Sets more kernel arguments.
    pub const fn kargs(mut self, kargs: &'static [&'static str]) -> Self {
        self.kargs = kargs;
        self
    }

    /// Sets checks for every test of this scheduler.
    pub const fn assert(mut self, assert: Assert) -> Self {
        self.assert = assert;
        self
    }

    /// Says that the scheduler does not promise this: it is told where it does not hold, and fails no test.
    pub const fn does_not_promise(mut self, promise: Promise) -> Self {
        self.promises = self.promises.without(promise);
        self
    }

    /// Sets how many instructions a second of the virtual clock has. A scheduler with deadlines of its own, for its start
    /// for instance, needs as many as it does within them on a real machine; more of them take more wall time.
    /// `KTSTR_VIRTUAL_MIPS` goes before it.
    pub const fn speed(mut self, speed: Speed) -> Self {
        self.speed = Some(speed);
        self
    }

    /// Sets the cgroup made for the scheduler.
    ///
    /// # Panics
    /// As [`CgroupPath::new`]; a compile error in a `const`.
    pub const fn cgroup_parent(mut self, path: &'static str) -> Self {
        self.cgroup_parent = Some(CgroupPath::new(path));
        self
    }

    /// Sets the scheduler's arguments.
    pub const fn sched_args(mut self, args: &'static [&'static str]) -> Self {
        self.sched_args = args;
        self
    }

    /// Sets the shape of tests that do not say their own.
    ///
    /// # Panics
    /// When it cannot be built; a compile error in a `const`.
    pub const fn topology(mut self, numa_nodes: u32, llcs: u32, cores: u32, threads: u32) -> Self {
        self.topology = Topology::new(numa_nodes, llcs, cores, threads).checked();
        self
    }

    /// Sets the accepted shapes.
    pub const fn constraints(mut self, constraints: TopologyConstraints) -> Self {
        self.constraints = constraints;
        self
    }

    /// Sets the fewest NUMA nodes of the accepted shapes.
    pub const fn min_numa_nodes(mut self, n: u32) -> Self {
        self.constraints = self.constraints.with_min_numa_nodes(n);
        self
    }

    /// Sets the most NUMA nodes of the accepted shapes.
    pub const fn max_numa_nodes(mut self, n: u32) -> Self {
        self.constraints = self.constraints.with_max_numa_nodes(n);
        self
    }

    /// Sets the fewest LLCs of the accepted shapes.
    pub const fn min_llcs(mut self, n: u32) -> Self {
        self.constraints = self.constraints.with_min_llcs(n);
        self
    }

    /// Sets the most LLCs of the accepted shapes.
    pub const fn max_llcs(mut self, n: u32) -> Self {
        self.constraints = self.constraints.with_max_llcs(n);
        self
    }

    /// Accepts only shapes with more than one thread to a core.
    pub const fn requires_smt(mut self) -> Self {
        self.constraints = self.constraints.with_requires_smt(true);
        self
    }

    /// Sets the fewest CPUs of the accepted shapes.
    pub const fn min_cpus(mut self, n: u32) -> Self {
        self.constraints = self.constraints.with_min_cpus(n);
        self
    }

    /// Sets the most CPUs of the accepted shapes.
    pub const fn max_cpus(mut self, n: u32) -> Self {
        self.constraints = self.constraints.with_max_cpus(n);
        self
    }

    /// Sets a configuration file of the host, packed for the guest.
    pub const fn config_file(mut self, path: &'static str) -> Self {
        self.config_file = Some(path);
        self
    }

    /// Sets how the scheduler takes a configuration that each test writes out: `arguments` are words apart by blanks, with
    /// `{file}` in the place of the path, and `path` is where the file lies in the guest.
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
    /// In a `const` a compile error: unless `arguments` has `{file}`, and `path` is absolute and names a file.
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

    /// The arguments that hand the scheduler the configuration a test has written out; empty without
    /// [`Self::config_file_def`].
    pub fn config_args(&self) -> Vec<String> {
        let Some((arguments, path)) = self.config_file_def else {
            return Vec::new();
        };
        let words = arguments.split_whitespace();
        words.map(|word| word.replace("{file}", path)).collect()
    }

    /// The declaring crate's folder, `None` when it was not recorded.
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
