//! The rows of the table: a constant for each variable, and [`TABLE`], which has all of them in the order of README.md.

use super::Mark::{InReadme, InRecord, OnlyOutput, ZeroIsNone};
use super::{List, NotEmpty, Number, One, Path, Presence, Row, Switch, Text, Variable};

/// Defines a variable for each row. A row has the variable's name in Rust, its name in the environment, its grammar, its marks
/// (`Mark`), and its effect.
macro_rules! table {
    ($(
        $ident:ident $name:literal $kind:ident $(<$of:ty>)? $(($($argument:expr),*))? [$($mark:ident),*] $effect:literal;
    )*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $effect, ".")]
            pub static $ident: Variable<$kind $(<$of>)?> = Variable {
                row: Row {
                    name: $name,
                    effect: $effect,
                    marks: &[$($mark),*],
                },
                grammar: $kind $(($($argument),*))?,
            };
        )*

        /// All variables that the host reads, those of README.md first and in its order.
        pub static TABLE: &[&Row] = &[$(&$ident.row),*];
    };
}

table! {
    KERNEL "KTSTR_KERNEL" Text("expected a path or the spec of a kernel, in UTF-8") [InReadme, InRecord]
        "the kernel: a bzImage, a vmlinux, an unpacked package folder, a `.deb`, a built kernel tree (`~/linux`), or a \
         spec such as `debian:7.3`, `debian:7.2+rt` (flavours: `cloud`, `plain`, `rt`; without one, `cloud` is preferred) \
         or `debian:newest`; `cargo ktstr kernel list --offered` shows the available ones. Without the variable: the \
         newest cached kernel (PREEMPT_RT only if there is no other), this machine's own if it has sched_ext, else Debian's newest";
    TEST_KERNEL "KTSTR_TEST_KERNEL" Text("expected a path or the spec of a kernel, in UTF-8") [InReadme]
        "the kernel, like `KTSTR_KERNEL`, over which it takes precedence";
    AUTO_REPRO "KTSTR_AUTO_REPRO"
        Number<u32>(&[0..=100], "expected 0, for no repeat of a failed run, or up to 100 repeats under the real clock") [InReadme]
        "`0`: a failed run is not repeated; 1 to 100: how often at most a failed run under the real clock is repeated \
         until it fails again; 3 without the variable";
    SCHEDULER "KTSTR_SCHEDULER" Path [InReadme, InRecord]
        "path of a binary that replaces every discovered scheduler; one that cannot run in the guest is an error";
    SCHEDULER_PROFILE "KTSTR_SCHEDULER_PROFILE"
        Text("expected the name of a cargo profile, such as `dev` or `release`") [InReadme, InRecord]
        "the cargo profile that discovered schedulers are built with, such as `release`; takes precedence over the \
         declaration's profile. Without either: the profile of the test's binary";
    QEMU "KTSTR_QEMU" Path [InReadme, InRecord]
        "path of the QEMU, instead of `qemu-system-x86_64` on `PATH`";
    ACCEL "KTSTR_ACCEL" Text("expected `auto`, `kvm` or `tcg`") [InReadme, InRecord]
        "`kvm`, `tcg` or `auto`; without it, and with `auto`, KVM if a kernel boots under KVM on this host, else TCG";
    CLOCK "KTSTR_CLOCK" Text("expected `auto`, `real` or `virtual`") [InReadme, InRecord]
        "`real`, `virtual` or `auto`; takes precedence over the test's `clock`. Without either: real with KVM, else virtual";
    VIRTUAL_MIPS "KTSTR_VIRTUAL_MIPS"
        Text("expected 125, 250, 500 or 1000 million instructions a second") [InReadme, InRecord]
        "125, 250, 500 or 1000: millions of instructions in a second of the virtual clock; without it the number that the \
         scheduler sets (`Scheduler::speed`), or else one that depends on the number of CPUs";
    COLD "KTSTR_COLD" Switch [InReadme, InRecord, ZeroIsNone]
        "neither empty nor `0`: every run boots instead of forking a template";
    TOPOLOGY "KTSTR_TOPOLOGY" Text("expected the shape of a machine, in UTF-8") [InReadme, InRecord]
        "the shape of the machine, instead of the one that the test declares: `1n2l4c1t` (NUMA nodes, LLCs in total, \
         cores per LLC, threads per core) or a preset such as `8cpu-2llc-smt`; a test whose constraints (`min_llcs`, \
         `max_cpus` …) do not admit it is skipped";
    MOMENTS "KTSTR_MOMENTS" Switch [InReadme]
        "`0`: take no captures when sched_ext ends or bypasses the scheduler, when the guest hangs, or when its kernel \
         panics";
    CAPTURE_AT "KTSTR_CAPTURE_AT"
        Text("expected up to 16 times of the scheduler's clock, in nanoseconds, separated by commas") [InReadme]
        "under the virtual clock, up to 16 times on the kernel's scheduler clock, in nanoseconds, separated by commas: for each, \
         a capture is taken at the first event of the schedule at or after that time. `cargo ktstr replay RUN \
         --capture-at 1.25s` sets it";
    MONITOR "KTSTR_MONITOR" Switch [InReadme]
        "`0`: take no samples of the runqueues; the monitor's bounds are then not checked";
    TURN_US "KTSTR_TURN_US" Number<u32>(&[0..=0, 10..=1000], "expected 0 or 10 to 1000 microseconds") [InReadme, InRecord]
        "under the virtual clock, microseconds of guest time after which the next CPU continues, 10 to 1000; without it \
         the seed draws 30 to 70, less with more than 8 CPUs. `0`: QEMU decides, 250 to 1000, and a wake-up on an idle \
         CPU can be late by that much";
    SCHEDULE "KTSTR_SCHEDULE" Switch [InReadme]
        "`0`: do not record the schedules of runs";
    FRESH_ATTACH "KTSTR_FRESH_ATTACH" Switch [InReadme, InRecord, ZeroIsNone]
        "neither empty nor `0`: no run forks a template that has the scheduler attached";
    TEMPLATES_MIB "KTSTR_TEMPLATES_MIB" Number<u64>(&[0..=u64::MAX >> 20], "expected a number of MiB") [InReadme]
        "the largest size of all templates that are kept, in MiB, instead of 8192";
    MACHINES "KTSTR_MACHINES"
        Number<u32>(&[1..=1024], "expected the number of machines that may run at once, from 1 to 1024") [InReadme]
        "the largest number of machines at once on this host; without it, as many as fit together into its cores and half \
         of its memory";
    NO_PERF_MODE "KTSTR_NO_PERF_MODE" NotEmpty [InReadme]
        "if set, tests with `performance_mode` run like any other, without pinned CPUs; without the variable they are \
         skipped";
    NO_SKIP_MODE "KTSTR_NO_SKIP_MODE" Presence [InReadme]
        "if set, even to an empty value, a test with `performance_mode` fails instead of being skipped";
    SEED "KTSTR_SEED" Number<u64>(&[0..=u64::MAX], "expected a whole number from 0 to 2^64-1") [InReadme, InRecord]
        "seed of the run, a whole number; takes precedence over the test's `seed`";
    OFFLINE "KTSTR_OFFLINE" Switch [InReadme]
        "neither empty nor `0`: never fetch a kernel; a missing kernel is an error";
    CACHE_DIR "KTSTR_CACHE_DIR" Path [InReadme]
        "the cache, instead of `$XDG_CACHE_HOME/ktstr` or `~/.cache/ktstr`";
    RUNS_ROOT "KTSTR_RUNS_ROOT" Path [InReadme]
        "the runs' root, instead of `ktstr` in cargo's target folder";
    SIDECAR_DIR "KTSTR_SIDECAR_DIR" Path [InReadme]
        "where the newest result of each test is written, instead of `sidecars` in the runs' root \
         ([docs/record.md](docs/record.md))";
    CI "KTSTR_CI" NotEmpty [InReadme]
        "if set, sidecars mark the run as one of continuous integration (`run_source`)";
    KERNEL_LIST "KTSTR_KERNEL_LIST" Text("expected LABEL=PATH, separated by semicolons, in UTF-8") [InReadme]
        "under nextest, kernels as `LABEL=PATH`, separated by semicolons; `PATH` may be whatever `KTSTR_KERNEL` takes. \
         Tests run on each of them ([the gauntlet](docs/guide/gauntlet.md)), and declared schedulers are loaded on each \
         of them and on each preset ([docs/verifier.md](docs/verifier.md))";
    SEED_LIST "KTSTR_SEED_LIST" Text("expected seeds separated by commas, such as 1,2,3") [InReadme]
        "under nextest, seeds separated by commas: each variant of the gauntlet runs under each of them";
    PERF_BASELINE "KTSTR_PERF_BASELINE" Path [InReadme]
        "a folder with the sidecars of earlier runs: `perf_delta_assertions` of a test are compared with the sidecar of \
         the same test and variant there";
    CPU_CAP "KTSTR_CPU_CAP" Number<u32>(&[1..=u32::MAX], "expected a number of the host's CPUs, at least 1") [InReadme]
        "the largest number of the host's CPUs that a machine may use, at least 1; a test's `cpu_budget` takes precedence";
    HOST_CGROUP_PARENT "KTSTR_HOST_CGROUP_PARENT" Path [InReadme]
        "where `host_only` tests make their cgroups, instead of `/sys/fs/cgroup/ktstr`";
    VERBOSE "KTSTR_VERBOSE" One [InReadme, InRecord]
        "`1`: the guest's kernel prints more on the console";
    RUST_BACKTRACE "RUST_BACKTRACE" Text("expected text in UTF-8") [InReadme, InRecord, OnlyOutput]
        "passed to the test and the scheduler in the guest";
    RUST_LOG "RUST_LOG" Text("expected text in UTF-8") [InReadme, InRecord]
        "passed to the test and the scheduler in the guest";
    LOG_PASSES "KTSTR_LOG_PASSES" Switch [InReadme, InRecord, OnlyOutput]
        "neither empty nor `0`: claims that hold are printed on standard error too, in the guest's `stderr.log` and by \
         callbacks on the host";
    BPF_CLANG "BPF_CLANG" Path [InReadme]
        "the clang that builds `scx-ktstr`, instead of the first clang that is new enough";
    NEXTEST "NEXTEST" NotEmpty [InReadme]
        "set by nextest: the test binary answers nextest's questions itself";

    // These are set by other programs, or by ktstr for its own processes.
    SESSION "KTSTR_SESSION" Text("expected text in UTF-8") []
        "the name of a call of `cargo ktstr`, which sets it for its children: they ask cargo once for each scheduler";
    RECORDED_SCHEDULERS "KTSTR_RECORDED_SCHEDULERS" List []
        "set by `cargo ktstr replay`: the binaries of a recorded run's schedulers, separated by colons. A scheduler that would be \
         discovered is the one of these with its name, and nothing is built";
    NEXTEST_RUN_ID "NEXTEST_RUN_ID" Text("expected text in UTF-8") []
        "set by nextest: the name of its run, whose tests ask cargo once for each scheduler";
    CARGO "CARGO" Path []
        "set by cargo: the cargo that builds schedulers and tests, instead of `cargo` on `PATH`";
    CARGO_MANIFEST_DIR "CARGO_MANIFEST_DIR" Path []
        "set by cargo: the folder of the test's package; a scheduler that declares no folder is built in its workspace";
    CARGO_PKG_NAME "CARGO_PKG_NAME" Text("expected text in UTF-8") []
        "set by cargo: the package in the printed command that runs a test again";
    CARGO_TARGET_DIR "CARGO_TARGET_DIR" Path []
        "cargo's target folder, which has the runs' root";
    GITHUB_STEP_SUMMARY "GITHUB_STEP_SUMMARY" Path []
        "set by GitHub's runners: the file with the summary page of a job, to which runs and checks are appended";
    HOME "HOME" Path []
        "the user's home, with the cache in `.cache/ktstr`";
    XDG_CACHE_HOME "XDG_CACHE_HOME" Path []
        "the folder with the user's caches, instead of `.cache` in the home";
    XDG_RUNTIME_DIR "XDG_RUNTIME_DIR" Path []
        "the folder of the user's login, with the list of the machines that run";
    PATH "PATH" List []
        "the folders with programs: QEMU, cargo, and those that a test has in the guest";
    LD_PRELOAD "LD_PRELOAD" List []
        "the libraries that a user preloads: QEMU keeps them";
}
