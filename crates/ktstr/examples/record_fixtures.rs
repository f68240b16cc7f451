//! Records the measurements of real runs for the tests of the checks: `ktstr-assert/tests/data`.
//!
//! `cargo build -p scx-ktstr && cargo run -p ktstr --example record_fixtures -- [RUN]...` records all runs again, or only
//! those that are named. Each run is one folder of JSON files: `run.json` describes the run, `workers.json` has the workers'
//! reports and the CPUs of their cgroups, `monitor.json` has the samples, `series.json` has the captures, and `phases.json` has
//! the statistics of the result, the buckets of the phases, and the timeline of the steps. The measurements are not changed, but
//! not all of them are kept (see [`capture`] and [`monitor`]).
//!
//! The example does not judge the numbers; the tests do.

#[path = "../tests/common/wedge.rs"]
mod wedge;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use ktstr::cgroup::Controller;
use ktstr::prelude::*;
use ktstr::snapshot::FailureDumpReport;
use ktstr::topology::NumaNode;
use ktstr_record::RunRecord;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The folder of the recorded runs.
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ktstr-assert/tests/data");
/// The prefix of each line in which the guest prints the reports of a cgroup's workers.
const MARK: &str = "recorded: ";
/// The largest number of samples that are kept from a run.
const SAMPLES: usize = 22;
/// The seed of all runs.
const SEED: u64 = 7;
const FOUR: Topology = Topology::new(1, 2, 2, 1);
/// Two nodes with CPUs, and one with memory only.
const NODES: Topology = Topology::with_nodes(
    2,
    1,
    &[
        NumaNode::new(1, 256),
        NumaNode::new(1, 256),
        NumaNode::new(0, 256),
    ],
);
const SECOND: Duration = Duration::from_secs(1);

/// The settings of a run, and the parts of it that are kept.
struct Run {
    name: &'static str,
    sched_args: Option<&'static [&'static str]>,
    func: fn(&Ctx) -> Result<AssertResult>,
    topology: Topology,
    window: Duration,
    clock: ClockMode,
    keeps: &'static [&'static str],
    /// The cgroups whose workers are kept; an empty list stands for all.
    cgroups: &'static [&'static str],
}

impl Run {
    /// Creates a run of [`crowded`] under `scx-ktstr` with these arguments.
    const fn new(
        name: &'static str,
        args: &'static [&'static str],
        keeps: &'static [&'static str],
    ) -> Self {
        Run {
            name,
            sched_args: Some(args),
            func: crowded,
            topology: FOUR,
            window: Duration::from_millis(2400),
            clock: ClockMode::Virtual,
            keeps,
            cgroups: &[],
        }
    }

    /// Keeps only the workers of these cgroups.
    const fn only(mut self, cgroups: &'static [&'static str]) -> Self {
        self.cgroups = cgroups;
        self
    }

    const fn of(mut self, func: fn(&Ctx) -> Result<AssertResult>) -> Self {
        self.func = func;
        self
    }

    const fn lasting(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }
}

const WORKERS: &str = "workers.json";
const MONITOR: &str = "monitor.json";
const SERIES: &str = "series.json";
const PHASES: &str = "phases.json";

const RUNS: &[Run] = &[
    Run::new("sound", &[], &[WORKERS, MONITOR, SERIES, PHASES]),
    Run {
        sched_args: None,
        ..Run::new("eevdf", &[], &[WORKERS, MONITOR])
    },
    Run::new("starve-nice", &["--starve-nice"], &[WORKERS]).only(&["nice", "nicer"]),
    Run::new("cpuset-unfair", &["--cpuset-unfair"], &[WORKERS])
        .lasting(Duration::from_secs(6))
        .only(&[SHIFTED]),
    Run::new("slow-wake", &["--slow-wake"], &[WORKERS, PHASES]),
    Run::new("scattershot", &["--scattershot"], &[WORKERS, MONITOR]),
    Run::new("switch-storm", &["--switch-storm"], &[WORKERS]),
    Run::new("no-steal", &["--no-steal"], &[WORKERS, PHASES]),
    Run::new("slow", &["--slow"], &[MONITOR]),
    Run::new("idle-cpu", &["--idle-cpu"], &[MONITOR]),
    Run::new("light", &[], &[MONITOR]).of(light),
    Run::new("wrong-cpu", &["--wrong-cpu"], &[MONITOR]).of(light),
    Run::new("stall", &["--stall-after", "1.2"], &[SERIES, MONITOR]),
    Run {
        sched_args: None,
        topology: NODES,
        ..Run::new("numa", &[], &[WORKERS])
            .of(on_nodes)
            .lasting(Duration::from_secs(4))
    },
    Run {
        clock: ClockMode::Real,
        ..Run::new("wedged", &[], &[MONITOR])
            .of(wedged)
            .lasting(Duration::from_secs(6))
    },
];

/// The workers of one cgroup, and all CPUs that its cpuset ever had.
#[derive(Serialize, Deserialize)]
struct Recorded {
    cgroup: String,
    cpuset: Option<BTreeSet<usize>>,
    reports: Vec<WorkerReport>,
}

/// A cgroup of workers that the test function manages itself, so that it gets their reports.
struct Watched {
    cgroup: &'static str,
    cpuset: Option<BTreeSet<usize>>,
    handle: WorkloadHandle,
}

impl Watched {
    fn start(
        ctx: &Ctx,
        cgroup: &'static str,
        cpus: &[usize],
        config: &WorkloadConfig,
    ) -> Result<Self> {
        let mut group = Self::spawn(ctx, cgroup, cpus, config)?;
        group.move_and_start(ctx)?;
        Ok(group)
    }

    /// Creates a cgroup, and workers that wait outside of it.
    fn spawn(
        ctx: &Ctx,
        cgroup: &'static str,
        cpus: &[usize],
        config: &WorkloadConfig,
    ) -> Result<Self> {
        ctx.cgroups.create_cgroup(cgroup)?;
        let cpuset: BTreeSet<usize> = cpus.iter().copied().collect();
        if !cpuset.is_empty() {
            ctx.cgroups.set_cpuset(cgroup, &cpuset)?;
        }
        Ok(Watched {
            cgroup,
            cpuset: (!cpuset.is_empty()).then_some(cpuset),
            handle: WorkloadHandle::spawn_seeded(config, ctx.seed)?,
        })
    }

    fn move_and_start(&mut self, ctx: &Ctx) -> Result<()> {
        let pids = self.handle.worker_pids_for_cgroup_procs()?;
        ctx.cgroups.move_tasks(self.cgroup, &pids)?;
        self.handle.start();
        Ok(())
    }

    /// Stops the workers and sends their reports to the host.
    fn tell(self) -> Result<()> {
        let recorded = Recorded {
            cgroup: self.cgroup.to_owned(),
            cpuset: self.cpuset,
            reports: self.handle.stop_and_collect(),
        };
        println!("{MARK}{}", serde_json::to_string(&recorded)?);
        Ok(())
    }
}

fn spin(workers: usize) -> WorkloadConfig {
    WorkloadConfig::default().workers(workers)
}

fn bursty(workers: usize, work_ms: u64, sleep_ms: u64) -> WorkloadConfig {
    spin(workers).work_type(WorkType::bursty(
        Duration::from_millis(work_ms),
        Duration::from_millis(sleep_ms),
    ))
}

/// More than four times as many workers as CPUs, of all kinds: equal ones, nice ones, some that sleep, some in a cpuset,
/// some whose cpuset changes in the middle.
fn crowded(ctx: &Ctx) -> Result<AssertResult> {
    ctx.cgroups
        .setup(&[Controller::Cpu, Controller::Cpuset].into())?;
    let nice = WorkloadConfig {
        nice: Some(10),
        ..spin(2)
    };
    let pinned = bursty(2, 1, 2).affinity(AffinityIntent::exact([1]));
    let mut watched = vec![
        Watched::start(ctx, "even", &[], &spin(4))?,
        Watched::start(ctx, "sleepers", &[], &bursty(2, 2, 5))?,
        Watched::start(ctx, "pinned", &[], &pinned)?,
        Watched::start(ctx, "bound", &[0, 1], &spin(2))?,
        Watched::start(ctx, SHIFTED, &[0, 1], &spin(2))?,
        Watched::start(ctx, "nice", &[], &nice)?,
    ];
    let stopped_first = Watched::start(ctx, "nicer", &[], &nice)?;
    let half = HoldSpec::frac(0.5);
    let first = Step::with_defs(vec![CgroupDef::named("first").workers(2)], half);
    watched[SHIFTED_AT].cpuset = Some([0, 1, 2].into());
    let second = Step {
        setup: Setup::with_factory(shift),
        ..Step::hold(half)
    };
    let base = CgroupDef::named("base").workers(1);
    let result = execute_scenario(ctx, Backdrop::from_cgroups([base]), vec![first, second])?;
    // From now on the workers of `bound` may run outside of their declared CPUs, which the isolation check has to find. A
    // scheduler cannot cause this by itself, because the kernel ejects a scheduler that puts a task on a CPU outside its cpuset.
    ctx.cgroups.clear_cpuset("bound")?;
    std::thread::sleep(SECOND / 2);
    // A scheduler that starves nice workers keeps the workers of `nicer`, which are stopped first, from exiting. Those of `nice`
    // are stopped last, and can exit, because no other workers compete with them any more.
    stopped_first.tell()?;
    for group in watched {
        group.tell()?;
    }
    Ok(result)
}

const SHIFTED: &str = "shifted";
const SHIFTED_AT: usize = 4;

/// Replaces CPU 0 of the cgroup [`SHIFTED`] by CPU 2, and returns the cgroup of the second step.
fn shift(ctx: &Ctx) -> Vec<CgroupDef> {
    let moved = ctx.cgroups.set_cpuset(SHIFTED, &[1, 2].into());
    moved.expect("a cpuset of two CPUs of four");
    vec![CgroupDef::named("second").workers(2)]
}

/// Three cgroups whose workers run on the CPUs of the first node, each with its memory on another of the three nodes, and a
/// cgroup whose workers may run on all CPUs and migrate between the nodes.
fn on_nodes(ctx: &Ctx) -> Result<AssertResult> {
    ctx.cgroups.setup(&[Controller::Cpuset].into())?;
    let mut watched = Vec::new();
    for (node, cgroup) in ["near", "far", "slow"].into_iter().enumerate() {
        let group = Watched::spawn(ctx, cgroup, &[0, 1], &spin(2))?;
        ctx.cgroups.set_cpuset_mems(cgroup, &[node].into())?;
        watched.push(group);
    }
    watched.push(Watched::spawn(ctx, "wandering", &[], &spin(4))?);
    for group in &mut watched {
        group.handle.measure_pages();
        group.move_and_start(ctx)?;
    }
    let result = execute_steps(ctx, vec![Step::hold(HoldSpec::FULL)])?;
    for group in watched {
        group.tell()?;
    }
    Ok(result)
}

/// As many workers as CPUs. One of the workers sleeps now and then, so that there is a free CPU when it wakes.
fn light(ctx: &Ctx) -> Result<AssertResult> {
    let waking = WorkType::bursty(Duration::from_millis(30), Duration::from_millis(5));
    let cpus = ctx.topo.total_cpus();
    execute_defs(
        ctx,
        vec![
            CgroupDef::named("waking").workers(1).work_type(waking),
            CgroupDef::named("light").workers(cpus - 1),
        ],
    )
}

/// Blocks the CPUs for good, half a second after the start.
fn wedged(ctx: &Ctx) -> Result<AssertResult> {
    std::thread::spawn(|| {
        std::thread::sleep(SECOND / 2);
        wedge::loop_with_interrupts_off()
    });
    light(ctx)
}

/// Registers the tests, which the guest finds by name.
macro_rules! entries {
    ($($at:literal $name:ident;)*) => { $(
        #[ktstr::distributed_slice(KTSTR_TESTS)]
        #[linkme(crate = ktstr::linkme)]
        static $name: KtstrTestEntry = entry(&RUNS[$at]);
    )* };
}

const fn entry(run: &Run) -> KtstrTestEntry {
    KtstrTestEntry {
        name: run.name,
        func: run.func,
        topology: run.topology,
        duration: run.window,
        clock: run.clock,
        seed: Some(SEED),
        num_snapshots: 6,
        watchdog_timeout: Duration::from_secs(20),
        scheduler: match run.sched_args {
            Some(_) => &SCX_KTSTR,
            None => &Scheduler::EEVDF,
        },
        extra_sched_args: match run.sched_args {
            Some(args) => args,
            None => &[],
        },
        ..KtstrTestEntry::DEFAULT
    }
}

static SCX_KTSTR: Scheduler =
    Scheduler::named("ktstr_sched").binary(SchedulerSpec::Discover("scx-ktstr"));

entries! {
    0 R0; 1 R1; 2 R2; 3 R3; 4 R4; 5 R5; 6 R6; 7 R7; 8 R8; 9 R9; 10 R10; 11 R11; 12 R12; 13 R13; 14 R14;
}

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for run in RUNS {
        if wanted.is_empty() || wanted.iter().any(|name| name == run.name) {
            record(run).with_context(|| format!("recording {}", run.name))?;
        }
    }
    Ok(())
}

fn record(run: &Run) -> Result<()> {
    let entry = find_test(run.name).context("the run is not among the entries")?;
    let finished = ktstr::run::run(entry);
    let vm = finished.vm.as_ref().context(finished.text.clone())?;
    let folder = Path::new(DATA).join(run.name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    for kept in run.keeps {
        let value = match *kept {
            WORKERS => workers(&vm.output, run.cgroups)?,
            MONITOR => monitor(vm.monitor.as_ref().context("no samples")?)?,
            SERIES => vm.captures_series().entries().iter().map(capture).collect(),
            PHASES => json!({
                "stats": finished.result.stats,
                "buckets": vm.phase_buckets(),
                "stimulus": vm.stimulus_timeline(),
            }),
            other => bail!("nobody makes {other}"),
        };
        write(&folder.join(kept), &value)?;
    }
    let record = finished
        .record
        .as_deref()
        .context("the run left no record")?;
    write(
        &folder.join("run.json"),
        &about(run, &ktstr_record::read(record)?, &finished.text),
    )
}

/// Returns the description of the run.
fn about(run: &Run, record: &RunRecord, text: &str) -> Value {
    json!({
        "sched_args": run.sched_args,
        "topology": record.topology,
        "window_s": record.window_s,
        "kernel": record.kernel,
        "clock": record.clock,
        "seed": record.seed,
        "mips": record.mips,
        "digest": record.digest,
        "verdict": record.verdict,
        "text": text.lines().next(),
    })
}

fn workers(output: &str, only: &[&str]) -> Result<Value> {
    let shown = output.lines().filter_map(|line| line.strip_prefix(MARK));
    let mut groups: Vec<Recorded> = shown.map(serde_json::from_str).collect::<Result<_, _>>()?;
    groups.retain(|group| only.is_empty() || only.contains(&group.cgroup.as_str()));
    if groups.is_empty() {
        bail!("the workers told nothing: {output}");
    }
    Ok(serde_json::to_value(groups)?)
}

/// Returns the first samples only, because a machine that hangs is sampled until the host gives up on it.
fn monitor(report: &MonitorReport) -> Result<Value> {
    let samples: Vec<_> = report.samples.iter().take(SAMPLES).cloned().collect();
    let report = MonitorReport {
        summary: MonitorSummary::of(&samples),
        samples,
        ..report.clone()
    };
    Ok(serde_json::to_value(report)?)
}

/// Returns a capture without its largest parts, which no check reads: the scheduler's constants, its exit record, and the
/// list of all tasks.
fn capture(entry: &DrainedSnapshotEntry) -> Value {
    let mut report: FailureDumpReport = entry.report.clone();
    report.task_enrichments = Vec::new().into();
    let kept = |name: &str| name.ends_with(".bss") || name.starts_with("ktstr_pcpu");
    report.maps.retain(|map| kept(&map.name));
    json!({
        "tag": entry.tag,
        "elapsed_ms": entry.elapsed_ms,
        "boundary_offset_ms": entry.boundary_offset_ms,
        "step_index": entry.step_index,
        "report": report,
    })
}

fn write(path: &PathBuf, value: &Value) -> Result<()> {
    let text = serde_json::to_string(value)?;
    println!("{} bytes: {}", text.len(), path.display());
    fs::write(path, text + "\n")?;
    Ok(())
}
