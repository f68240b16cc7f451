//! Random scenarios, each generated from its number: short scenarios that can be run, and scenarios that use the whole language.

mod ops;
mod values;

use std::time::Duration;

use ktstr_scenario::ops::{Backdrop, CgroupDef, HoldSpec, Op, Setup, Step};
use ktstr_scenario::text::Scenario;
use ktstr_scenario::topology::TestTopology;

pub use values::Draw;

/// Returns scenario `number` of those that can be run on this machine. It has at most three steps, with short holds or loops.
///
/// The scenario is drawn without regard to validity, and then everything that the validation refuses is removed.
pub fn runnable(number: u64, topology: &TestTopology) -> Scenario {
    let mut draw = Draw::new(number);
    let cgroups = (0..draw.up_to(3)).map(|_| draw.cgroup(true)).collect();
    let backdrop = Backdrop {
        cgroups,
        ops: (0..draw.up_to(3))
            .map(|_| ops::op(&mut draw, true))
            .collect(),
        payloads: Vec::new(),
    };
    let steps = (0..1 + draw.up_to(2))
        .map(|_| step(&mut draw, true))
        .collect();
    let mut scenario = Scenario { backdrop, steps };
    while let Err(invalid) = scenario.validate(topology) {
        remove(&mut scenario, &invalid.key);
    }
    scenario
}

/// Returns scenario `number` of those that the language can express, whether or not they can be run.
pub fn any(number: u64) -> Scenario {
    let mut draw = Draw::new(number);
    let cgroups = (0..draw.up_to(3)).map(|_| draw.cgroup(false)).collect();
    let backdrop = Backdrop {
        cgroups,
        ops: (0..draw.up_to(5))
            .map(|_| ops::op(&mut draw, false))
            .collect(),
        payloads: Vec::new(),
    };
    let steps = (0..1 + draw.up_to(4))
        .map(|_| step(&mut draw, false))
        .collect();
    Scenario { backdrop, steps }
}

fn step(draw: &mut Draw, runs: bool) -> Step {
    let hold = match draw.up_to(4) {
        0 => HoldSpec::frac(0.01 * (1 + draw.up_to(20)) as f64),
        1 => HoldSpec::loop_at(Duration::from_millis(10 + draw.up_to(30))),
        2 if !runs => HoldSpec::frac(draw.fraction() + 0.001),
        2 if !runs => HoldSpec::FULL,
        _ => HoldSpec::fixed(Duration::from_micros(draw.up_to(60_000))),
    };
    Step {
        setup: Setup::Defs((0..draw.up_to(2)).map(|_| draw.cgroup(runs)).collect()),
        ops: (0..draw.up_to(5)).map(|_| ops::op(draw, runs)).collect(),
        hold,
    }
}

/// Removes the element at a key such as `step[1].ops[0]` or `cgroup[2]`.
fn remove(scenario: &mut Scenario, key: &str) {
    let numbers: Vec<usize> = (key.split(['[', ']']))
        .filter_map(|part| part.parse().ok())
        .collect();
    fn at<T>(list: &mut Vec<T>, at: usize) {
        list.remove(at);
    }
    let backdrop = &mut scenario.backdrop;
    match (
        key.split('[').next().unwrap_or_default(),
        numbers.as_slice(),
    ) {
        ("cgroup", [n]) => at(&mut backdrop.cgroups, *n),
        ("ops", [n]) => at(&mut backdrop.ops, *n),
        ("step", [n, m]) => {
            let step: &mut Step = &mut scenario.steps[*n];
            match &mut step.setup {
                Setup::Defs(defs) if key.contains(".cgroup[") => at::<CgroupDef>(defs, *m),
                _ => at::<Op>(&mut step.ops, *m),
            }
        }
        _ => panic!("an element that cannot be removed: {key}"),
    }
}
