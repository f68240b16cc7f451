//! Tests of scenarios as text: what is printed parses to the same scenario, everything in the language has a text form, and
//! errors name their place.
#![allow(clippy::unwrap_used)]

mod random;

use std::collections::BTreeSet;

use ktstr_scenario::ops::{CgroupDef, Op, Setup, Step};
use ktstr_scenario::text::{Names, Scenario, ScenarioFile};
use ktstr_scenario::topology::{TestTopology, Topology};
use ktstr_scenario::workload::{WorkSpec, WorkType, WorkerCtx};

fn machine() -> TestTopology {
    TestTopology::from_vm_topology(&Topology::new(1, 2, 2, 1))
}

/// Expands to the names of the operations, from the rows of `op_table!`.
macro_rules! names {
    ($(
        $(#[$doc:meta])+
        $number:literal $constructor:ident $name:ident => $file:ident::$function:ident $(, $clause:ident $of:ident)*
        $({ $($fields:tt)* })?;
    )*) => {
        [$(stringify!($name)),*]
    };
}

/// The number of random scenarios.
const MANY: u64 = 1_000;

#[test]
fn a_printed_scenario_is_read_back_as_the_same() {
    let (mut ops, mut same) = (BTreeSet::new(), 0);
    for number in 0..MANY {
        let scenario = random::any(number);
        let text = scenario.to_text().unwrap();
        match Scenario::from_text(&text) {
            Ok(read) => {
                assert_eq!(read, scenario, "scenario {number}:\n{text}");
                same += 1;
            }
            // An invalid cgroup or worker is refused when it is parsed.
            Err(error) => assert!(!is_valid(&scenario), "scenario {number}: {error}\n{text}"),
        }
        let of_steps = scenario.steps.iter().flat_map(|step| &step.ops);
        ops.extend(of_steps.chain(&scenario.backdrop.ops).map(Op::name));
    }
    assert!(same >= 500, "only {same} scenarios are valid");
    // All operations are drawn, except the three that refer to a program or a scheduler by its declaration.
    let all: BTreeSet<&str> = ktstr_scenario::op_table!(names).into();
    let undrawn: Vec<_> = all.difference(&ops).collect();
    assert_eq!(
        undrawn,
        [&"AttachScheduler", &"ReplaceScheduler", &"RunPayload"],
        "no operation of the other rows of the table may be missing"
    );
}

/// Returns whether each cgroup and worker of a scenario is valid by itself.
fn is_valid(scenario: &Scenario) -> bool {
    let of_steps = scenario.steps.iter().flat_map(|step| match &step.setup {
        Setup::Defs(defs) => defs.as_slice(),
        Setup::Factory(_) => &[],
    });
    let ops = scenario.steps.iter().flat_map(|step| &step.ops);
    let ops: Vec<&Op> = ops.chain(&scenario.backdrop.ops).collect();
    let of_ops = ops.iter().filter_map(|op| match op {
        Op::AddCgroupDef { def } => Some(def),
        _ => None,
    });
    let spawned = ops.iter().filter_map(|op| match op {
        Op::Spawn { work, .. } => Some(work),
        _ => None,
    });
    let mut defs = of_steps.chain(&scenario.backdrop.cgroups).chain(of_ops);
    defs.all(|def| def.validate().is_ok())
        && spawned.into_iter().all(|work| work.validate().is_ok())
}

#[test]
fn scenarios_that_can_be_run_are_drawn_and_read_back() {
    let (mut busy, mut ops) = (0, BTreeSet::new());
    for number in 0..MANY {
        let scenario = random::runnable(number, &machine());
        let of_steps = scenario.steps.iter().flat_map(|step| &step.ops);
        ops.extend(of_steps.chain(&scenario.backdrop.ops).map(Op::name));
        let text = scenario.to_text().unwrap();
        let file =
            ScenarioFile::from_text(&text).unwrap_or_else(|e| panic!("{number}: {e}\n{text}"));
        assert_eq!(file.scenario, scenario, "{text}");
        assert_eq!(file.validate(&machine()), Ok(()), "{text}");
        assert_eq!(file.to_text().unwrap(), text);
        busy += usize::from(text.lines().count() > 10);
    }
    assert!(busy as u64 > MANY / 2, "only {busy} scenarios do anything");
    // Each other operation is in a scenario that the validation accepts, so that random scenarios run it.
    let all: BTreeSet<&str> = ktstr_scenario::op_table!(names).into();
    let never_run: Vec<_> = all.difference(&ops).copied().collect();
    insta::assert_compact_debug_snapshot!(never_run, @r#"["AttachScheduler", "DetachScheduler", "KillPayload", "PinBpfMap", "ReplaceScheduler", "RestartScheduler", "RunPayload", "SetCpusetPartition", "SetMemoryHigh", "SetMemoryLow", "SetMemoryMax", "SteerIrq", "WaitPayload", "WatchSnapshot", "WriteKernelCold", "WriteKernelHot"]"#);
}

/// Changes or removes one character, removes one line, or duplicates one line. The result is a valid scenario file, or is
/// refused with the number of a line.
#[test]
fn what_is_wrong_is_refused_with_its_place() {
    let mut refused = 0;
    for number in 0..MANY {
        let mut draw = random::Draw::new(number ^ 0xbad);
        let text = random::runnable(number, &machine()).to_text().unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let at = draw.up_to(lines.len() as u64 - 1) as usize;
        match draw.up_to(3) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => lines[at] = lines[at].replacen(['a', 'e', 'o', '1'], "z", 1),
            _ => lines[at] = lines[at].replacen(['"', '=', '['], "", 1),
        }
        let text = lines.join("\n");
        let read = ScenarioFile::from_text(&text)
            .and_then(|file| file.validate(&machine()).map(|()| file));
        if let Err(error) = read {
            refused += 1;
            assert!(
                (1..=lines.len() + 1).contains(&error.line),
                "{error}\n{text}"
            );
            assert!(
                !error.message.is_empty() && error.message.len() < 1500,
                "{error}"
            );
        }
    }
    assert!(refused > MANY / 4, "only {refused} were refused");
}

#[test]
fn every_work_type_has_a_text() {
    fn nothing(_: &WorkerCtx) -> ktstr_assert::WorkerReport {
        ktstr_assert::WorkerReport::default()
    }
    let own = WorkType::custom("own", nothing);
    let names = Names::new().work(own.clone());
    for name in WorkType::ALL_NAMES {
        let work = match *name {
            "Custom" => own.clone(),
            "Sequence" => continue,
            name => WorkType::from_name(name).unwrap(),
        };
        let def = CgroupDef::named("a").work(WorkSpec::new(work).workers(60));
        let scenario = Scenario {
            steps: vec![Step::with_defs(vec![def], Default::default())],
            ..Default::default()
        };
        let text = scenario.to_text().unwrap();
        assert_eq!(
            Scenario::from_text_with(&text, &names).unwrap(),
            scenario,
            "{text}"
        );
        // Parameters are optional: the name of a work type alone stands for its defaults.
        let short = text.lines().map(|line| match line.split_once("= { ") {
            Some((key, rest)) if *name != "Custom" => {
                format!("{key}= {:?}", rest.split(' ').next().unwrap_or_default())
            }
            _ => line.to_owned(),
        });
        let short = short.collect::<Vec<_>>().join("\n");
        assert_eq!(
            Scenario::from_text_with(&short, &names).unwrap(),
            scenario,
            "{short}"
        );
    }
}
