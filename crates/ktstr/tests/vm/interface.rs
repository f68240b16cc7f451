//! Tests of what a run leaves and shows to callbacks and scripts: its sidecar, the file of a failure, the hash of its variant,
//! the kernel's log; and of the functions that find what a run uses.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::common::{Case, Ended};
use ktstr::prelude::*;

const SCHED: Scheduler =
    Scheduler::named("ktstr_sched").binary(SchedulerSpec::Discover("scx-ktstr"));
const CRASHES: Scheduler = SCHED.sched_args(&["--crash-after", "1"]);

case!(PASSES = "interface_passes", passes,
    topology: Topology::new(1, 1, 2, 1), duration: Duration::from_secs(1), scheduler: &SCHED,
    num_snapshots: 2, post_vm: Some(of_a_pass));
case!(REAL = "interface_real", two_steps, clock: ktstr::test_support::ClockMode::Real,
    topology: Topology::new(1, 1, 2, 1), duration: Duration::from_secs(2), post_vm: Some(of_the_real_clock));
case!(ONE_CPU = "interface_one_cpu", works, no_perf_mode: true, cpu_budget: Some(1),
    topology: Topology::new(1, 1, 2, 1), duration: Duration::from_millis(300), post_vm: Some(of_one_cpu));
case!(CAPPED = "interface_capped", works,
    topology: Topology::new(1, 1, 2, 1), duration: Duration::from_millis(300), post_vm: Some(of_one_cpu));
case!(CRASH = "interface_crash", works,
    topology: Topology::new(1, 1, 2, 1), duration: Duration::from_secs(2), scheduler: &CRASHES,
    expect_err: true, post_vm_unconditional: Some(of_a_crash));
case!(FAILS = "interface_fails", fails,
    topology: Topology::new(1, 1, 2, 1), duration: Duration::from_secs(1),
    post_vm_unconditional: Some(of_a_failure));

const MESSAGE: &str = "a message of the test to the kernel's log";

fn works(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![CgroupDef::named("spin").workers(2)])
}

fn passes(ctx: &Ctx) -> Result<AssertResult> {
    ktstr::send_kmsg(format!("<1>{MESSAGE}").as_bytes());
    let log = ktstr::read_kmsg();
    ensure!(log.lines().any(|line| line == MESSAGE), "{log}");
    ensure!(log.starts_with("Linux version "), "{log}");
    let boot = std::fs::read_dir("/boot")?
        .next()
        .context("the kernel's configuration")??;
    let config = std::fs::read_to_string(boot.path())?;
    let hz = config
        .lines()
        .find_map(|line| line.strip_prefix("CONFIG_HZ="));
    println!("hz {}", hz.context("CONFIG_HZ")?);
    println!("variant {:016x}", ctx.variant_hash);
    works(ctx)
}

fn of_a_pass(result: &VmResult) -> Result<()> {
    let shown = format!("variant {:016x}\n", result.variant_hash);
    ensure!(result.output.contains(&shown), "{shown}: {}", result.output);
    ensure!(
        result.guest_kmsg().contains(MESSAGE),
        "{}",
        result.guest_kmsg()
    );
    // The scheduler's own timeout is 20 s; the entry's default of 5 s replaces it.
    let hz = result
        .output
        .lines()
        .find_map(|line| line.strip_prefix("hz "));
    let hz: u64 = hz.context("the guest's tick")?.parse()?;
    let watchdog = result
        .watchdog_observation()
        .context("a scheduler is attached")?;
    let both = (watchdog.expected_jiffies, watchdog.observed_jiffies);
    let report = result.monitor.as_ref().context("samples")?;
    ensure!(report.watchdog_observation == Some(watchdog), "{report:?}");
    ensure!(both == (5 * hz, 5 * hz), "{watchdog:?} at {hz} Hz");
    let programs = &result.verifier_stats;
    let verified = |name: &str| {
        programs
            .iter()
            .any(|p| p.name == name && p.verified_insns > 20)
    };
    ensure!(
        verified("ktstr_dispatch") && verified("ktstr_enqueue"),
        "{programs:?}"
    );
    let captures = (result.periodic_prereqs_ready, result.periodic_window_end);
    let (Some(ready), Some(end)) = captures else {
        bail!("{captures:?}")
    };
    ensure!(
        Duration::ZERO < ready && ready < end && end < result.duration,
        "{captures:?}"
    );
    ensure!(
        result.contention_witness.is_none(),
        "under the virtual clock the host withholds no time from the guest"
    );
    let path = result.failure_dump_path()?;
    ensure!(!path.exists(), "a pass leaves no {}", path.display());
    Ok(())
}

fn two_steps(ctx: &Ctx) -> Result<AssertResult> {
    let step = |name| Step::with_defs(vec![CgroupDef::named(name).workers(2)], HoldSpec::frac(0.5));
    execute_steps(ctx, vec![step("first"), step("second")])
}

/// The phases are parts of the window, and the CPU time shows that the guest was busy in both of them.
fn of_the_real_clock(result: &VmResult) -> Result<()> {
    let witness = result.contention_witness.as_ref().context("samples")?;
    let body = witness.body_window;
    // On a busy host, steps may end late, samples may be missing, and the guest may get little CPU time.
    let busy = capture_starvation_witness(result).is_some() || witness.body_dilation() > 1.5;
    // The last sample may come after the window of 2 s: the window stays open until the guest's message about its end is read.
    ensure!(
        body.start_ms < body.end_ms && (busy || body.end_ms <= 2200),
        "{witness:?}"
    );
    ensure!(
        body.schedstat.sampled_vcpus == 2 && witness.body_dilation() >= 1.0,
        "{witness:?}"
    );
    let steps: Vec<u16> = witness
        .per_phase
        .iter()
        .map(|phase| phase.step_index)
        .collect();
    ensure!(busy || steps == [1, 2], "{witness:?}");
    let ran = |stat: HostVcpuSchedstat| stat.total_on_cpu_ns;
    let of_phases: u64 = witness
        .per_phase
        .iter()
        .map(|phase| ran(phase.schedstat))
        .sum();
    let whole = ran(body.schedstat);
    ensure!(whole > 0 && of_phases <= whole, "{witness:?}");
    ensure!(
        busy || whole > 200_000_000 && of_phases > whole / 2,
        "{witness:?}"
    );
    ensure!(result.verifier_stats.is_empty() && result.watchdog_observation().is_none());
    Ok(())
}

/// Checks that QEMU may use one CPU, as the host's kernel reports it. On a host with one CPU this would show nothing.
fn of_one_cpu(result: &VmResult) -> Result<()> {
    ensure!(
        std::thread::available_parallelism()?.get() > 1,
        "on a host with one CPU the limit has no effect"
    );
    ensure!(result.cpu_budget == 1, "{} CPUs", result.cpu_budget);
    Ok(())
}

fn fails(ctx: &Ctx) -> Result<AssertResult> {
    let bench = TaobenchConfig::DEFAULT.client_threads(2).slow_threads(1);
    let bench = WorkSpec::default().work_type(WorkType::taobench(bench.cache_capacity_mib(1)));
    let cgroup = CgroupDef::named("cache").work(bench.workers(1));
    let mut result = execute_defs(ctx, vec![cgroup])?;
    result.note(ctx.failure_dump_path()?.to_string_lossy());
    result.merge(AssertResult::fail_msg("on purpose"));
    Ok(result)
}

fn dump_of(result: &VmResult) -> Result<FailureDumpReport> {
    let path = result.failure_dump_path()?;
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let test = result.entry_name.unwrap_or_default();
    let wanted = format!("{test}-{:016x}.failure-dump.json", result.variant_hash);
    ensure!(
        name == wanted && path.parent() == Some(&sidecar_dir()),
        "{path:?}"
    );
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// The kernel ejects the scheduler; the capture of that moment has the scheduler's variables.
fn of_a_crash(result: &VmResult) -> Result<()> {
    let report = dump_of(result)?;
    ensure!(!report.is_placeholder, "{:?}", report.placeholder_reason);
    let snapshot = Snapshot::new(&report);
    ensure!(snapshot.var("crash").as_u64()? == 1, "it was told to crash");
    ensure!(snapshot.var("nr_dispatched").as_u64()? > 0);
    Ok(())
}

/// Nothing was captured, and the file says so.
fn of_a_failure(result: &VmResult) -> Result<()> {
    let shown = result.guest_assert_result()?.stats.cgroups;
    let bench = shown.first().and_then(|cgroup| cgroup.taobench_whole);
    let bench = bench.context("the counts of the benchmark's clients")?;
    ensure!(
        bench.get_cmds > 100 && bench.fast_ops + bench.slow_ops == bench.get_cmds,
        "{bench:?}"
    );
    ensure!(bench.get_misses > 0 && bench.cpu_time_ns > 0, "{bench:?}");
    let notes = result.guest_assert_result()?.info_notes;
    let file = result.failure_dump_path()?;
    let named = |note: &InfoNote| sidecar_dir().join(&note.message) == file;
    ensure!(
        notes.iter().any(named),
        "the guest names no {file:?}: {notes:?}"
    );
    let report = dump_of(result)?;
    let why = report.placeholder_reason.unwrap_or_default();
    ensure!(
        report.is_placeholder && why.contains("took no capture"),
        "{why}"
    );
    Ok(())
}

/// Runs an entry with a separate folder for sidecars. Returns the only result in that folder, and the files in it.
fn run(name: &str) -> (Ended, SidecarResult, Vec<PathBuf>) {
    let folder = tempfile::tempdir().expect("a folder");
    let ended = Case::new(name)
        .env("KTSTR_SIDECAR_DIR", folder.path())
        .env("KTSTR_CI", "1")
        .run();
    let (result, files) = only(folder.path());
    (ended, result, files)
}

fn only(folder: &Path) -> (SidecarResult, Vec<PathBuf>) {
    let mut all = ktstr::test_support::read_sidecars(Some(folder)).expect("sidecars");
    assert_eq!(all.len(), 1, "{all:?}");
    let files = std::fs::read_dir(folder).expect("a folder");
    let files = files.map(|file| file.expect("a file").path()).collect();
    (all.remove(0), files)
}

#[test]
fn a_pass_leaves_its_result_and_reaches_the_kernels_log() {
    let (ended, result, files) = run("interface_passes");
    ended.says(0, &[]);
    let record = &ended.record.as_ref().expect("a record").record;
    assert_eq!(result.verdict(), "pass");
    assert_eq!(result.test_name, "__unit_test_interface_passes__");
    let name = format!(
        "{}-{:016x}.ktstr.json",
        result.test_name, result.variant_hash
    );
    assert!(files.len() == 1 && files[0].ends_with(&name), "{files:?}");
    assert_eq!(
        (result.topology.as_str(), result.vcpus),
        ("1n1l2c1t", Some(2))
    );
    assert_eq!(result.scheduler, "ktstr_sched");
    assert_eq!(result.resolve_source.as_deref(), Some("auto_built"));
    assert_eq!((result.periodic_target, result.periodic_fired), (2, 2));
    assert_eq!(result.stats.total_workers, 2);
    assert!(result.stats.total_iterations > 0);
    assert!(result.monitor.is_some_and(|seen| seen.total_samples > 0));
    let steps = result.stimulus_events.iter();
    assert!(steps.clone().any(|event| event.is_step_end), "{steps:?}");
    assert_eq!(result.run_id, record.run_id);
    assert_eq!(result.kernel_version, record.kernel);
    assert_eq!(result.host, record.host);
    assert_eq!(result.run_source, "ci");
    assert!(result.cleanup_duration_ms.is_some_and(|ms| ms > 0.0));
}

#[test]
fn the_real_clock_shows_what_the_host_withheld() {
    let (ended, result, _) = run("interface_real");
    ended.says(0, &[]);
    assert!(
        result.host_dilation.is_some_and(|dilation| dilation >= 1.0),
        "{result:?}"
    );
}

#[test]
fn a_budget_limits_the_cpus_that_a_machine_may_use() {
    let (ended, result, _) = run("interface_one_cpu");
    ended.says(0, &[]);
    assert_eq!((result.cpu_budget, result.vcpus), (Some(1), Some(2)));
    let capped = |cap| {
        Case::new("interface_capped")
            .env("KTSTR_CPU_CAP", cap)
            .run()
    };
    capped("1").says(0, &[]);
    capped("0").says(
        1,
        &["KTSTR_CPU_CAP=0: expected a number of the host's CPUs, at least 1"],
    );
    let test = KtstrTestEntry {
        no_perf_mode: false,
        ..ONE_CPU
    };
    let refused = test
        .validate()
        .expect_err("a budget needs no_perf_mode")
        .to_string();
    assert!(
        refused.contains("cpu_budget needs no_perf_mode"),
        "{refused}"
    );
}

#[test]
fn the_capture_of_an_ejection_is_in_the_file_of_the_failure() {
    let (ended, result, files) = run("interface_crash");
    ended.says(0, &[]);
    assert!(result.expected_failure && result.passed, "{result:?}");
    assert_eq!(files.len(), 2, "{files:?}");
}

#[test]
fn a_failure_without_captures_leaves_a_placeholder() {
    let (ended, result, _) = run("interface_fails");
    ended.says(1, &["on purpose"]);
    assert_eq!(result.verdict(), "fail");
    assert_eq!(result.reason.as_deref(), Some("on purpose"));
}

#[test]
fn what_a_run_uses_is_found_outside_of_one() {
    let kernel = ktstr::find_kernel().expect("a cache").expect("a kernel");
    assert_eq!(
        ktstr::test_support::resolve_test_kernel().expect("the same"),
        kernel
    );
    let resolve = ktstr::test_support::resolve_scheduler;
    let (path, source) = resolve(&SCHED.binary, env!("CARGO_MANIFEST_DIR")).expect("it builds");
    let answer = std::process::Command::new(path.expect("a binary"))
        .arg("--version")
        .output();
    let answer = String::from_utf8_lossy(&answer.expect("it runs").stdout).into_owned();
    assert!(answer.starts_with("scx-ktstr "), "{answer}");
    assert_eq!(source.map(|source| source.name()), Some("auto_built"));
    assert_eq!(
        resolve(&SchedulerSpec::Eevdf, "").expect("nothing"),
        (None, None)
    );
    let nowhere = resolve(&SchedulerSpec::Path("/nowhere/scx"), "");
    assert!(
        nowhere
            .expect_err("no such file")
            .to_string()
            .contains("/nowhere/scx")
    );
}

const RATE: PerfDeltaAssertion = PerfDeltaAssertion::new("iteration_rate").with_min_abs(0.0);
const OF_STEP: PerfDeltaAssertion = PerfDeltaAssertion::new("total_iterations")
    .with_direction(Polarity::HigherBetter)
    .with_max_regression_pct(1.0)
    .with_min_abs(0.0)
    .with_phase(1);

case!(COMPARED = "interface_compared", works, perf_delta_assertions: &[&RATE, &OF_STEP],
    topology: Topology::new(1, 1, 2, 1), duration: Duration::from_millis(500),
    clock: ktstr::test_support::ClockMode::Virtual);

/// A run that equals its baseline is no regression. Compared with a better baseline, the same run is a regression.
#[test]
fn a_run_is_compared_with_its_baseline() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = folder.path().join("base");
    let compare = |sidecars: &str| {
        Case::new("interface_compared")
            .env("KTSTR_SIDECAR_DIR", folder.path().join(sidecars))
            .env("KTSTR_PERF_BASELINE", &base)
    };
    std::fs::create_dir(&base).expect("a folder");
    compare("base")
        .run()
        .says(2, &["perf_delta_assertions: read", ".ktstr.json"]);
    let again = compare("again").run();
    again.says(0, &[]);
    let result = again.artefact("result.json");
    for line in ["iteration_rate: ", "total_iterations: "] {
        assert!(result.contains(line), "no {line:?} in {result}");
    }
    let (mut better, files) = only(&base);
    let of_step = &better.perf_delta_assertions[1];
    assert_eq!(
        (of_step.metric.as_str(), of_step.phase),
        ("total_iterations", Some(1))
    );
    assert!(
        of_step.value.is_some_and(|value| value > 100.0),
        "{of_step:?}"
    );
    let rate = better.perf_delta_assertions[0]
        .value
        .as_mut()
        .expect("a rate");
    *rate *= 2.0;
    let json = serde_json::to_vec(&better).expect("JSON");
    let is_result = |file: &&PathBuf| file.to_string_lossy().ends_with(".ktstr.json");
    let file = files.iter().find(is_result).expect("a sidecar");
    std::fs::write(file, json).expect("a file");
    compare("worse").run().says(
        1,
        &[
            "iteration_rate: expected at most 10 % and 0 iter/cpu-s worse than ",
            &better.run_id,
            // No BPF scheduler is under test.
            "the guest kernel's fault",
        ],
    );
    // Runs under different clocks do not show a regression, and neither does a baseline from a busy host.
    let clock = better.clock.replace("real".to_owned());
    std::fs::write(file, serde_json::to_vec(&better).expect("JSON")).expect("a file");
    compare("clock")
        .run()
        .says(2, &["was real at ", "and that of this run is virtual"]);
    better.clock = clock;
    better.host_dilation = Some(3.0);
    std::fs::write(file, serde_json::to_vec(&better).expect("JSON")).expect("a file");
    compare("busy")
        .run()
        .says(2, &["was busy (the machine took 3.0 times as long)"]);
    better.host_dilation = None;
    // A baseline with turns of another length is refused, because the length changes the numbers.
    compare("turns").env("KTSTR_TURN_US", "45").run().says(
        2,
        &[
            "KTSTR_TURN_US was not set in the baseline ",
            "and 45 in this run",
        ],
    );
    // A baseline from another kernel says nothing about a regression.
    better.kernel_version = Some("6.1.0".to_owned());
    std::fs::write(file, serde_json::to_vec(&better).expect("JSON")).expect("a file");
    compare("other")
        .run()
        .says(2, &["ran on kernel 6.1.0, and this run on "]);
}

/// The kernel asks a scheduler without callbacks for the hotplug of CPUs to attach again, and each attach sets the scheduler's
/// own timeout of 20 s.
#[ktstr_test(scheduler = SCHED, cores = 2, duration_s = 2, post_vm = has_the_tests_timeout)]
fn the_timeout_of_a_test_survives_a_hotplug(ctx: &Ctx) -> Result<AssertResult> {
    let hold = HoldSpec::fixed(Duration::from_millis(500));
    let ops = [Op::cpu_offline(1), Op::cpu_online(1)];
    execute_steps(ctx, ops.map(|op| Step::with_op(op, hold)).to_vec())
}

fn has_the_tests_timeout(result: &VmResult) -> Result<()> {
    let watchdog = result
        .watchdog_observation()
        .context("a scheduler is attached")?;
    let (expected, observed) = (watchdog.expected_jiffies, watchdog.observed_jiffies);
    ensure!(expected == observed, "{watchdog:?}");
    let text = format!("{:?}", result.guest_assert_result()?.info_notes);
    ensure!(text.contains("attached again"), "{text}");
    Ok(())
}
