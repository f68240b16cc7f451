//! The keys of `#[ktstr_test]` as settings of a file. The macro's table generates the code that sets checks; [`set`] handles the
//! other keys of a file, and [`ITEMS`] lists the keys that only a test in Rust can use.

use std::time::Duration;

use ktstr_assert::Assert;
use ktstr_scenario::scheduler::{CgroupPath, Scheduler, SchedulerSpec};
use ktstr_scenario::text::{ScenarioFile, Setting, TextError, nearest};
use ktstr_scenario::topology::TopologyConstraints;

use super::given::Given;
use super::wrong;
use crate::entry::{ClockMode, KtstrTestEntry};

/// Generates the list `KEYS` and the function `check` from the table of keys. `check` sets a check according to the kind of
/// its key, and returns `None` for a key that is no check.
macro_rules! table {
    ($( $name:ident $kind:ident($least:literal, $most:literal) $group:ident $default:literal $doc:literal; )*) => {
        /// All keys that are available, each with its meaning.
        pub(super) const KEYS: &[(&str, &str)] = &[$( (stringify!($name), $doc) ),*];

        fn check(assert: &mut Assert, given: Given<'_>) -> Option<Result<(), TextError>> {
            match given.0.key.as_str() {
                $( stringify!($name) => check!($group $kind assert given $name $least $most), )*
                _ => None,
            }
        }
    };
}

macro_rules! check {
    (Check $($rest:tt)*) => { Some(set_check!($($rest)*)) };
    (MonitorBound $kind:ident $assert:ident $($rest:tt)*) => {{
        // A bound that is given is enforced, unless `apply` finds a key `monitor` that decides otherwise.
        $assert.enforce_monitor_thresholds = true;
        Some(set_check!($kind $assert $($rest)*))
    }};
    ($($other:tt)*) => { None };
}

macro_rules! set_check {
    (Bool $($rest:tt)*) => { set_check!(@bool $($rest)*) };
    (Number $($rest:tt)*) => { set_check!(@number $($rest)*) };
    (Float $($rest:tt)*) => { set_check!(@float $($rest)*) };
    (Limit $($rest:tt)*) => { set_check!(@limit $($rest)*) };
    (Text $($rest:tt)*) => { set_check!(@text $($rest)*) };
    (@$method:ident $assert:ident $given:ident $name:ident $least:literal $most:literal) => {
        $given.$method($least, $most).map(|value| $assert.$name = Some(value))
    };
}

ktstr_macros::__keys!(table);

/// Keys that a file cannot set, because they name an item of the code, or concern how Rust tests are run. The second text tells
/// the user what to do instead, or why the key has no use.
pub(super) const ITEMS: &[(&str, &str)] = &[
    (
        "post_vm",
        "write what must hold of the run as a `[[claim]]`",
    ),
    (
        "post_vm_unconditional",
        "write what must hold of the run as a `[[claim]]`",
    ),
    (
        "config",
        "name the scheduler's configuration file in `extra_include_files` and `extra_sched_args`",
    ),
    ("payload", "declare the program with `[[payload]]`"),
    ("workloads", "declare the programs with `[[payload]]`"),
    (
        "staged_schedulers",
        "declare the schedulers with `[[staged_scheduler]]`",
    ),
    ("bpf_map_write", "it names a constant of a test"),
    ("watch_bpf_maps", "it names a constant of a test"),
    ("perf_delta_assertions", "it names a constant of a test"),
    ("disk", "it names a constant of a test"),
    ("host_only", "a file is run in a machine"),
    ("ignore", "a file is run when it is named"),
];

/// Returns the entry with all settings of the file.
pub(super) fn apply(
    file: &ScenarioFile,
    mut entry: KtstrTestEntry,
) -> Result<KtstrTestEntry, TextError> {
    entry.workloads = file.payloads.clone().leak();
    entry.staged_schedulers = file.schedulers.clone().leak();
    for setting in &file.settings {
        let given = Given(setting);
        match check(&mut entry.assert, given) {
            Some(set) => set?,
            None => set(&mut entry, file, setting)?,
        }
    }
    strict_limits(file, &entry)?;
    if let Some(monitor) = file.settings.iter().find(|one| one.key == "monitor") {
        let enforced = Given(monitor).text(0, 0)? == "enforce";
        entry.assert.enforce_monitor_thresholds = enforced;
        entry.assert.report_monitor_only = Some(!enforced);
    }
    Ok(entry)
}

/// Checks the topology against each limit that the file sets. [`KtstrTestEntry::validate`] ignores limits
/// that equal the default.
fn strict_limits(file: &ScenarioFile, entry: &KtstrTestEntry) -> Result<(), TextError> {
    for setting in &file.settings {
        let Some(limit) = limit(&setting.key) else {
            continue;
        };
        let given = Given(setting).number(1, u32::MAX.into())?;
        let held = limit(TopologyConstraints::UNLIMITED, given).admits(&entry.topology);
        held.map_err(|error| TextError {
            line: setting.line,
            key: setting.key.clone(),
            message: error.to_string(),
        })?;
    }
    Ok(())
}

/// Returns how a key limits the topology; `None` for other keys.
fn limit(key: &str) -> Option<fn(TopologyConstraints, u32) -> TopologyConstraints> {
    Some(match key {
        "min_llcs" => TopologyConstraints::with_min_llcs,
        "max_llcs" => TopologyConstraints::with_max_llcs,
        "min_numa_nodes" => TopologyConstraints::with_min_numa_nodes,
        "max_numa_nodes" => TopologyConstraints::with_max_numa_nodes,
        "min_cpus" => TopologyConstraints::with_min_cpus,
        "max_cpus" => TopologyConstraints::with_max_cpus,
        _ => return None,
    })
}

/// Sets a field of the entry, for a key that is no check.
pub(super) fn set(
    entry: &mut KtstrTestEntry,
    file: &ScenarioFile,
    setting: &Setting,
) -> Result<(), TextError> {
    const MOST: u64 = u32::MAX as u64;
    let given = Given(setting);
    let Some(limit) = limit(&setting.key) else {
        return set_other(&setting.key, entry, file, given);
    };
    entry.constraints = limit(entry.constraints, given.number(1, MOST)?);
    Ok(())
}

fn set_other(
    key: &str,
    entry: &mut KtstrTestEntry,
    file: &ScenarioFile,
    given: Given<'_>,
) -> Result<(), TextError> {
    const MOST: u64 = u32::MAX as u64;
    let topology = &mut entry.topology;
    match key {
        "scheduler" => entry.scheduler = scheduler(file, given.text(0, 0)?),
        "numa_nodes" => topology.numa_nodes = given.number(1, MOST)?,
        "llcs" => topology.llcs = given.number(1, MOST)?,
        "cores" => topology.cores_per_llc = given.number(1, MOST)?,
        "threads" => topology.threads_per_core = given.number(1, MOST)?,
        "memory_mib" => entry.memory_mib = given.number(1, MOST)?,
        "duration_s" => entry.duration = seconds(given)?,
        "watchdog_timeout_s" => entry.watchdog_timeout = seconds(given)?,
        "cleanup_budget_ms" => {
            entry.cleanup_budget = Some(Duration::from_millis(given.number(1, u64::MAX)?));
        }
        "num_snapshots" => entry.num_snapshots = given.number(0, MOST)?,
        "extra_sched_args" => entry.extra_sched_args = given.texts()?,
        "extra_include_files" => entry.extra_include_files = given.texts()?,
        "requires_smt" => {
            let smt = given.bool(0, 0)?;
            entry.constraints = entry.constraints.with_requires_smt(smt);
        }
        "expect_err" => entry.expect_err = given.bool(0, 0)?,
        "allow_inconclusive" => entry.allow_inconclusive = given.bool(0, 0)?,
        "survives_storm" => entry.survives_storm = given.bool(0, 0)?,
        "performance_mode" => entry.performance_mode = given.bool(0, 0)?,
        "cpu_budget" => entry.cpu_budget = Some(given.number(1, MOST)?),
        "no_perf_mode" => entry.no_perf_mode = given.bool(0, 0)?,
        "auto_repro" => entry.auto_repro = given.bool(0, 0)?,
        "fresh_attach" => entry.fresh_attach = given.bool(0, 0)?,
        "seed" => entry.seed = Some(given.number(0, u64::MAX)?),
        "workload_root_cgroup" => {
            let path = given.text(0, 0)?;
            let below = path.strip_prefix('/');
            let good = |part: &str| !part.is_empty() && part != "..";
            if !below.is_some_and(|below| below.split('/').all(good)) {
                let what = "an absolute path below the root, such as \"/work\", without `..`";
                return Err(wrong(given.0, format!("found {path:?}, expected {what}")));
            }
            entry.workload_root_cgroup = Some(CgroupPath::new(path));
        }
        "clock" => {
            entry.clock = match given.text(0, 0)? {
                "real" => ClockMode::Real,
                "virtual" => ClockMode::Virtual,
                "auto" => ClockMode::Auto,
                word => return Err(word_of(given, word, &["auto", "real", "virtual"])),
            };
        }
        // `apply` evaluates this key after all others, so that its place in the file does not matter. Here only its value is
        // checked.
        "monitor" => match given.text(0, 0)? {
            "report" | "enforce" => {}
            word => return Err(word_of(given, word, &["report", "enforce"])),
        },
        key => return Err(unknown(given.0, key)),
    }
    Ok(())
}

/// Returns the duration of a number of seconds. The number may have a fraction, so that a file can ask for a tenth of a
/// second.
fn seconds(given: Given<'_>) -> Result<Duration, TextError> {
    let seconds = given.float(0, 0)?;
    let duration = Duration::try_from_secs_f64(seconds).ok();
    duration
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| {
            wrong(
                given.0,
                format!("found {seconds}, expected seconds, more than 0"),
            )
        })
}

/// Returns the scheduler of this name among those that the file declares, or otherwise the scheduler for which the word
/// itself stands: `eevdf`, the path of a binary, or the name of a package.
fn scheduler(file: &ScenarioFile, word: &'static str) -> &'static Scheduler {
    let declared = file
        .schedulers
        .iter()
        .find(|scheduler| scheduler.name == word);
    declared.copied().unwrap_or_else(|| {
        let name = word.rsplit('/').next().unwrap_or(word);
        Box::leak(Box::new(
            Scheduler::named(name).binary(SchedulerSpec::of_binary(word)),
        ))
    })
}

fn word_of(given: Given<'_>, word: &str, known: &[&str]) -> TextError {
    let meant =
        nearest(word, known).map_or_else(String::new, |meant| format!("did you mean {meant:?}? "));
    wrong(
        given.0,
        format!(
            "found {word:?}: {meant}The known ones are: {}",
            known.join(", ")
        ),
    )
}

fn unknown(setting: &Setting, key: &str) -> TextError {
    if let Some((_, instead)) = ITEMS.iter().find(|(item, _)| *item == key) {
        return wrong(
            setting,
            format!("`{key}` can only be set by a test in Rust: {instead}"),
        );
    }
    let keys = super::settings().map(|(key, _)| key);
    let known: Vec<&str> = ScenarioFile::keys().chain(keys).collect();
    let meant =
        nearest(key, &known).map_or_else(String::new, |meant| format!("did you mean `{meant}`? "));
    wrong(
        setting,
        format!(
            "unknown key `{key}`: {meant}The known ones are: {}",
            known.join(", ")
        ),
    )
}
