//! Tests of the default checks: planted defects are found and attributed correctly, and a sound scheduler passes. The tests of
//! idle CPUs and of ignored nice values have a control, which passes: the same run with the check off, or
//! with the promise excluded.

use std::time::Duration;

use crate::common::{Case, Ended, scx_ktstr};
use ktstr::prelude::*;

const SOUND: Scheduler = scx_ktstr(&[]);
const IDLE_CPU: Scheduler = scx_ktstr(&["--idle-cpu"]);
const MAY_IDLE: Scheduler = IDLE_CPU.does_not_promise(Promise::WorkConservation);
const STARVES: Scheduler = scx_ktstr(&["--starve-nice"]);
const INVERTS: Scheduler = scx_ktstr(&["--invert-priority"]);
const IGNORES_NICE: Scheduler = INVERTS
    .does_not_promise(Promise::Fairness)
    .does_not_promise(Promise::Nice);
const STORMS: Scheduler = scx_ktstr(&["--switch-storm"]);
const LATE: Scheduler = scx_ktstr(&["--slow-wake"]);

const TWO_LLCS: Topology = Topology::new(1, 2, 2, 1);
const THREE_SECONDS: Duration = Duration::from_secs(3);
/// No default checks; each test adds the check that it is about.
const NONE: Assert = Assert::NO_OVERRIDES.without_defaults();

macro_rules! cases {
    ($( $entry:ident = $name:literal, $func:ident, $scheduler:expr $(, $assert:expr)?; )*) => { $(
        case!(
            $entry = $name,
            $func,
            topology: TWO_LLCS,
            duration: THREE_SECONDS,
            clock: ClockMode::Virtual,
            scheduler: &$scheduler
            $(, assert: $assert)?,
        );
    )* };
}

cases! {
    SOUND_MIX = "defaults_sound", mix, SOUND;
    EEVDF_MIX = "defaults_eevdf", mix, Scheduler::EEVDF, Assert::NO_OVERRIDES.min_driven_share(Limit::At(0.9));
    WASTES = "defaults_wastes", spinners, IDLE_CPU, NONE.max_wasted_share(Limit::At(0.1));
    WASTES_OFF = "defaults_wastes_off", spinners, IDLE_CPU, NONE;
    WASTES_ALLOWED = "defaults_wastes_allowed", spinners, MAY_IDLE, NONE.max_wasted_share(Limit::At(0.1));
    STARVED = "defaults_starves", mix, STARVES;
    STARVED_RATES = "defaults_starves_rates", mix, STARVES, Assert::NO_OVERRIDES.max_throughput_cv(10.0);
    INVERTED = "defaults_inverts", nices, INVERTS;
    NO_NICE = "defaults_no_nice", nices, IGNORES_NICE;
    STORMED = "defaults_storms", spinners, STORMS;
    WOKEN_LATE = "defaults_late", mix, LATE;
}

fn spinners(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(
        ctx,
        vec![CgroupDef::named("spin").workers(2 * ctx.topo.total_cpus())],
    )
}

/// Spinners, half of them with a lower weight, and a pair of workers that wake each other.
fn mix(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let pipes = WorkType::PipeIo { burst_iters: 1000 };
    let defs = vec![
        CgroupDef::named("spin").workers(cpus),
        CgroupDef::named("low").workers(cpus).nice(5),
        CgroupDef::named("pipes").work_type(pipes).workers(2),
    ];
    execute_defs(ctx, defs)
}

/// One cgroup with workers of two weights. No rule of fairness gives the workers of the lower weight more CPU time.
fn nices(ctx: &Ctx) -> Result<AssertResult> {
    let cpus = ctx.topo.total_cpus();
    let of = |nice| WorkSpec::default().workers(cpus).nice(nice);
    let mixed = CgroupDef::named("mixed").work(of(0)).work(of(5));
    execute_defs(ctx, vec![mixed])
}

fn run(name: &str) -> Ended {
    Case::new(name).run()
}

#[test]
fn sound_schedulers_pass() {
    run("defaults_sound").says(0, &[]);
    // A bound that cannot be judged without a BPF scheduler is noted, and is not a failure.
    let eevdf = run("defaults_eevdf");
    eevdf.says(0, &[]);
    let result = eevdf.artefact("result.json");
    assert!(
        result.contains("min_driven_share = 0.9 does not count: "),
        "{result}"
    );
}

#[test]
fn a_cpu_that_is_left_idle_is_found() {
    run("defaults_wastes").says(
        1,
        &[
            "stayed idle while tasks could have used it",
            "the scheduler's fault",
        ],
    );
    run("defaults_wastes_off").says(0, &[]);
    // The violation is in the record, and is not a failure.
    let allowed = run("defaults_wastes_allowed");
    allowed.says(0, &[]);
    let result = allowed.artefact("result.json");
    assert!(
        result.contains("not promised (work conservation): "),
        "{result}"
    );
}

#[test]
fn starvation_is_found() {
    // Workers that never run have no rate, so a check of rates lacks its data. The default checks judge nevertheless.
    for name in ["defaults_starves", "defaults_starves_rates"] {
        run(name).says(
            1,
            &[
                "while it was entitled to",
                "(cgroup `low`)",
                "the scheduler's fault",
            ],
        );
    }
}

#[test]
fn shares_that_do_not_follow_nice_values_are_found() {
    run("defaults_inverts").says(1, &["entitled to", "the scheduler's fault"]);
    run("defaults_no_nice").says(0, &[]);
}

#[test]
fn a_storm_of_preemptions_is_found() {
    run("defaults_storms").says(1, &["preemptions", "the scheduler's fault"]);
}

#[test]
fn late_wake_ups_are_found() {
    run("defaults_late").says(1, &["wake-ups waited", "the scheduler's fault"]);
}
