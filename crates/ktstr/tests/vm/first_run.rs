//! The main use case from a user's view: a kernel boots with the declared topology, a scheduler takes over, two steps run under
//! it, the machine is frozen and read, and the results are consistent.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use ktstr::assert::series::Sample;
use ktstr::prelude::*;

const SCX_KTSTR: Scheduler =
    Scheduler::named("scx_ktstr").binary(SchedulerSpec::Discover("scx-ktstr"));

const STEPS: [&str; 2] = ["first", "second"];
const WINDOW: Duration = Duration::from_secs(2);
const CAPTURES: usize = 14;
/// The longest delay of a capture and of the end of a step if the vCPUs never wait for a CPU of the host.
const LATE: Duration = Duration::from_millis(400);

#[ktstr_test(
    scheduler = SCX_KTSTR,
    llcs = 1,
    cores = 2,
    threads = 1,
    duration_s = 2,
    watchdog_timeout_s = 20,
    num_snapshots = 14,
    not_stuck,
    post_vm = two_steps_seen_from_outside,
)]
fn two_steps_under_a_scheduler(ctx: &Ctx) -> Result<AssertResult> {
    two_steps(ctx)
}

/// Runs the same two steps under the host's clock, where a capture takes time that the guest must not see.
#[ktstr_test(
    scheduler = SCX_KTSTR,
    llcs = 1,
    cores = 2,
    threads = 1,
    duration_s = 2,
    watchdog_timeout_s = 20,
    num_snapshots = 14,
    not_stuck,
    clock = "real",
    post_vm = two_steps_seen_from_outside,
)]
fn two_steps_in_real_time(ctx: &Ctx) -> Result<AssertResult> {
    two_steps(ctx)
}

fn two_steps(ctx: &Ctx) -> Result<AssertResult> {
    let state = std::fs::read_to_string("/sys/kernel/sched_ext/state")?;
    ensure!(state.trim() == "enabled", "sched_ext is {state:?}");
    let pid = ctx.sched_pid.expect("a scheduler with a process");
    let program = std::fs::read_link(format!("/proc/{pid}/exe"))?;
    ensure!(program.ends_with("scx-ktstr"), "{program:?} has that pid");
    ensure!(ctx.duration == WINDOW, "{:?}", ctx.duration);

    let step = |name| Step::with_defs(vec![CgroupDef::named(name).workers(2)], HoldSpec::frac(0.5));
    let result = execute_steps(ctx, STEPS.map(step).into())?;
    let left: Vec<_> = std::fs::read_dir("/sys/fs/cgroup/ktstr")?
        .filter_map(|entry| entry.ok().filter(|e| e.path().is_dir()))
        .collect();
    ensure!(left.is_empty(), "cgroups left behind: {left:?}");
    println!("said by the test");
    Ok(result)
}

/// Returns for how long all vCPUs together waited for CPUs of the host. Anything may be late by that much more. The result is 0
/// under the virtual clock, where the guest does not notice such a wait.
fn waited(vm: &VmResult) -> Duration {
    vm.host_vcpu_schedstat.map_or(Duration::ZERO, |stat| {
        Duration::from_nanos(stat.total_run_delay_ns)
    })
}

fn two_steps_seen_from_outside(vm: &VmResult) -> Result<()> {
    ensure!(vm.success && vm.exit_code == 0 && !vm.timed_out, "{vm:?}");
    ensure!(vm.final_guest_phase == GuestLifecyclePhase::Teardown);
    // Under the real clock the guest may leave its window before the last capture is taken if the host is busy.
    periodic_starvation_gate(vm, CAPTURES as u32)?;
    ensure!(vm.vcpus == 2 && ["tcg", "kvm"].contains(&vm.accelerator));
    ensure!(vm.output == "said by the test\n", "{:?}", vm.output);
    let guest = vm.guest_assert_result()?;
    ensure!(guest.is_pass() && guest.stats.cgroups.len() == 2);

    captures_are_stamped_with_their_phase(vm)?;
    variables_of_the_scheduler_grow(vm)?;
    guest_time_stands_still_in_a_capture(vm)?;
    steps_last_as_long_as_declared(vm)?;
    for (k, name) in STEPS.iter().enumerate() {
        a_step_has_its_own_cgroup_alone(vm, Phase::step(k as u16), name)?;
    }
    Ok(())
}

fn captures_are_stamped_with_their_phase(vm: &VmResult) -> Result<()> {
    let series = vm.periodic_series();
    ensure!(vm.periodic_target as usize == CAPTURES && vm.periodic_fired as usize == CAPTURES);
    ensure!(vm.periodic_real as usize == CAPTURES && series.len() == CAPTURES);
    let waited = waited(vm);
    for (i, entry) in series.entries().iter().enumerate() {
        ensure!(entry.tag == format!("periodic_{i:03}"));
        let late =
            entry.elapsed_ms.unwrap_or(0) as i64 - entry.boundary_offset_ms.unwrap_or(0) as i64;
        ensure!(
            (0..(LATE + waited).as_millis() as i64).contains(&late),
            "capture {i} is {late} ms late, and the vCPUs waited for {waited:?}"
        );
        // The middle of the window is half an interval away from the captures next to it, so each half of an interval by which
        // the capture, or the guest's message about a step, is late can move one capture into the other step.
        let delay = waited + Duration::from_millis(late.unsigned_abs());
        let interval = WINDOW / (CAPTURES as u32 + 1);
        let moved = (2 * delay).div_duration_f64(interval) as usize;
        // The first boundary of the second half may come before the guest's message that the second step has started.
        let (step, half) = (entry.step_index, CAPTURES / 2);
        let first = step == Some(1) || i + moved >= half;
        let second = step == Some(2) || i <= half + moved;
        ensure!(first && second, "capture {i} in {step:?}");
    }
    Ok(())
}

fn variables_of_the_scheduler_grow(vm: &VmResult) -> Result<()> {
    let series = vm.periodic_series();
    let mut verdict = Verdict::new();
    for name in ["nr_dispatched", "nr_enqueued"] {
        let counter = series.bpf(name, |snapshot| snapshot.var(name).as_u64());
        counter.nondecreasing(&mut verdict);
        let first_and_last = (
            counter.value_at_phase(Phase::step(0)),
            counter.value_at_phase(Phase::step(1)),
        );
        ensure!(
            matches!(first_and_last, (Some(first), Some(last)) if 0 < first && first < last),
            "{name}: {first_and_last:?}"
        );
    }
    let result = verdict.into_result();
    ensure!(result.is_pass(), "{result:?}");
    for sample in series.iter_samples() {
        // Constants can be read too, as variables of the live scheduler.
        ensure!(sample.snapshot.live_var("nr_cpus").as_u64()? == 2);
        let map = sample.snapshot.live_var("cpu_llc").as_u64_array()?;
        ensure!(map.iter().all(|llc| *llc == 0), "one LLC, seen as {map:?}");
        let state = sample
            .snapshot
            .scx_sched_state()
            .expect("a scheduler is attached");
        ensure!(state.ops_name.as_deref() == Some("ktstr"), "{state:?}");
    }
    Ok(())
}

/// Compares the clock of the guest's runqueues with the machine's running time between captures of a step: if guest time
/// passed during freezes, they would differ by the freezes.
fn guest_time_stands_still_in_a_capture(vm: &VmResult) -> Result<()> {
    let series = vm.periodic_series();
    let samples: Vec<_> = series.iter_samples().collect();
    let clock_ms = |sample: &Sample| {
        let queues = sample.snapshot.rq_scx_states();
        queues.iter().map(|rq| rq.rq_clock).max().unwrap_or(0) as f64 / 1e6
    };
    let ms = |sample: &Sample| sample.elapsed_ms.unwrap_or(0) as f64;
    // Each entry is the time by which the guest's clock advanced in a freeze, as a share of the freeze. The share is not 0: the
    // clocks of queues are up to a tick old, a busy host stops the machine late, and the freeze is measured from the request to
    // stop until the reply to the request to continue, so the guest runs in a part of it. If guest time did not stop, the clock
    // would advance by the whole freeze each time. So it is enough that the median is small.
    let mut gained = Vec::new();
    for (pair, freeze) in samples.windows(2).zip(&vm.capture_freezes) {
        ensure!(clock_ms(&pair[0]) > 0.0, "no clock in {}", pair[0].tag);
        // The window excludes the time between two steps, but the guest's clock includes it.
        if pair[0].step_index == pair[1].step_index {
            let guest = clock_ms(&pair[1]) - clock_ms(&pair[0]);
            let host = ms(&pair[1]) - ms(&pair[0]);
            gained.push((guest - host) / (freeze.as_secs_f64() * 1e3));
        }
    }
    gained.sort_by(f64::total_cmp);
    println!("gained in freezes, as shares of them: {gained:.2?}");
    let middle = gained.get(gained.len() / 2).copied();
    // If the vCPUs often wait, the clocks that only they advance are often old.
    let busy = capture_starvation_witness(vm).is_some();
    ensure!(
        busy || middle.is_some_and(|share| share.abs() < 0.5),
        "the guest's clock gained these shares of freezes: {gained:.2?}"
    );
    Ok(())
}

fn steps_last_as_long_as_declared(vm: &VmResult) -> Result<()> {
    let events = vm.stimulus_timeline();
    for (ordinal, _) in (1u16..).zip(STEPS) {
        let at = |end: bool| {
            let of_step =
                |e: &&StimulusEvent| e.step_index == Some(ordinal) && e.is_step_end == end;
            events.iter().find(of_step).map(|e| e.elapsed_ms)
        };
        let (Some(start), Some(end)) = (at(false), at(true)) else {
            anyhow::bail!("step {ordinal} has no start or no end in {events:?}");
        };
        // Setup and teardown of both steps take some time of the window.
        let held = Duration::from_millis(end - start);
        let (half, late) = (WINDOW / 2, LATE + waited(vm));
        ensure!(
            (half.saturating_sub(late)..half + late).contains(&held),
            "step {ordinal}: {held:?}"
        );
    }
    Ok(())
}

fn a_step_has_its_own_cgroup_alone(vm: &VmResult, phase: Phase, name: &str) -> Result<()> {
    for other in STEPS {
        let carrier = vm.phase_cgroup(phase, other);
        ensure!(carrier.is_some() == (other == name), "{other} in {phase:?}");
    }
    let carrier = vm.phase_cgroup(phase, name).expect("seen above");
    ensure!(carrier.num_workers == 2, "{} workers", carrier.num_workers);
    ensure!(
        carrier.cpus_used == BTreeSet::from([0, 1]),
        "{:?}",
        carrier.cpus_used
    );
    ensure!(carrier.total_iterations > 0);
    // Two spinning workers on two CPUs get most of a second each, and not more than the available time.
    let cpu = Duration::from_nanos(carrier.total_cpu_time_ns);
    let waited = waited(vm);
    ensure!(
        cpu + waited > WINDOW / 2 && cpu < WINDOW + 2 * (LATE + waited),
        "{name} used {cpu:?} of CPU, and the vCPUs waited for {waited:?}"
    );
    let metric = vm.phase_metric(phase, "total_iterations");
    ensure!(
        metric == Some(carrier.total_iterations as f64),
        "{metric:?}"
    );
    Ok(())
}

/// Two LLCs with two cores of two threads, and the kernel's own scheduler.
#[ktstr_test(llcs = 2, cores = 2, threads = 2, duration_s = 1, not_stuck, isolation)]
fn a_declared_topology_without_a_scheduler(ctx: &Ctx) -> Result<AssertResult> {
    let state = std::fs::read_to_string("/sys/kernel/sched_ext/state").unwrap_or_default();
    ensure!(state.trim() != "enabled" && ctx.sched_pid.is_none());
    let topology = ctx.topo;
    ensure!(topology.total_cpus() == 8 && topology.num_numa_nodes() == 1);
    let llcs = topology.split_by_llc();
    ensure!(
        llcs.len() == 2 && llcs.iter().all(|llc| llc.len() == 4),
        "{llcs:?}"
    );
    ensure!(llcs[0].is_disjoint(&llcs[1]), "{llcs:?}");
    for llc in topology.llcs() {
        ensure!(llc.num_cores() == 2, "{llc:?}");
        ensure!(
            llc.cores().values().all(|threads| threads.len() == 2),
            "{llc:?}"
        );
    }

    let result = execute_defs(
        ctx,
        vec![
            CgroupDef::named("left")
                .workers(2)
                .cpuset(CpusetSpec::llc(0)),
            CgroupDef::named("right")
                .workers(2)
                .cpuset(CpusetSpec::llc(1)),
            CgroupDef::named("one")
                .workers(2)
                .cpuset(CpusetSpec::exact([3])),
        ],
    )?;
    let used = |name| {
        let cgroup = result.stats.cgroups.iter().find(|c| c.cgroup_name == name);
        cgroup.map(|c| c.cpus_used.clone()).unwrap_or_default()
    };
    for (name, allowed) in [
        ("left", &llcs[0]),
        ("right", &llcs[1]),
        ("one", &BTreeSet::from([3])),
    ] {
        let used = used(name);
        ensure!(
            !used.is_empty() && used.is_subset(allowed),
            "{name} ran on {used:?}, was to run on {allowed:?}"
        );
    }
    Ok(result)
}
