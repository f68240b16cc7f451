//! Random scenarios in virtual machines: none hangs, none crashes, none leaves cgroups or processes behind, and every scenario
//! that the validation accepts can be set up. `KTSTR_RANDOM_SCENARIOS=500` runs more than the default of 24.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use ktstr::prelude::*;
use ktstr::scenario::TextError;

#[path = "../../../ktstr-scenario/tests/random/mod.rs"]
#[expect(
    dead_code,
    reason = "the other kind of scenarios is for the tests of the text"
)]
mod drawn;

/// The number of scenarios per machine.
const OF_A_MACHINE: u64 = 12;

/// The line before each scenario in the file for the guest.
const HEAD: &str = "# scenario ";

const SHAPE: Topology = Topology::new(1, 2, 2, 1);

const MINE: Scheduler = Scheduler::named("mine").binary(SchedulerSpec::Discover("scx-ktstr"));

macro_rules! entry {
    ($name:ident, $scheduler:expr) => {
        #[ktstr_test_entry]
        static $name: KtstrTestEntry = KtstrTestEntry {
            name: stringify!($name),
            func: all_of_the_file,
            topology: SHAPE,
            scheduler: &$scheduler,
            // Most random workers do not stay tasks of the scheduler for long, so the default checks are off. The test only looks
            // for errors in the guest.
            assert: Assert::NO_OVERRIDES.without_defaults(),
            duration: Duration::from_millis(300),
            watchdog_timeout: Duration::from_secs(20),
            ..KtstrTestEntry::DEFAULT
        };
    };
}

entry!(RANDOM_UNDER_EEVDF, Scheduler::EEVDF);
entry!(RANDOM_UNDER_MINE, MINE);

/// Runs the scenarios of the file one after the other, and checks what each leaves behind.
fn all_of_the_file(ctx: &Ctx) -> Result<AssertResult> {
    let Ok(text) = std::fs::read_to_string("/include-files/random.toml") else {
        return Ok(AssertResult::skip(
            "no scenarios: `random::` runs it with some",
        ));
    };
    let mut all = AssertResult::pass();
    for text in text.split(HEAD).skip(1) {
        let (number, text) = text.split_once('\n').unwrap_or((text, ""));
        println!("{HEAD}{number}");
        let before = processes();
        let left = one(ctx, text)?;
        for cpu in ctx.topo.all_cpuset() {
            // CPU 0 has no such file.
            let _ = std::fs::write(format!("/sys/devices/system/cpu/cpu{cpu}/online"), "1");
        }
        let more = &processes() - &before;
        let left = left
            .into_iter()
            .chain((!more.is_empty()).then(|| format!("it left the processes {more:?}")));
        for what in left {
            all.record_fail(AssertDetail::new(
                DetailKind::Other,
                format!("scenario {number}: {what}\n{text}"),
            ));
        }
    }
    Ok(all)
}

/// Runs a scenario, and returns what is wrong.
fn one(ctx: &Ctx, text: &str) -> Result<Vec<String>, TextError> {
    let scenario = Scenario::from_text(text)?;
    let mut wrong = Vec::new();
    match execute_scenario(ctx, scenario.backdrop, scenario.steps) {
        Err(error) => wrong.push(format!("{error:#}")),
        // Only failures of steps count here. Failures of the checks of workers are ignored, and so is a worker whose CPUs the
        // scenario has taken offline.
        Ok(result) => wrong.extend(
            result
                .failure_details()
                .map(ToString::to_string)
                .filter(|message| message.contains(" failed: "))
                .filter(|message| !message.starts_with("the set-up of worker ")),
        ),
    }
    let left = below(ctx.cgroups.parent_path());
    if !left.is_empty() {
        wrong.push(format!("it left the cgroups {left:?}"));
    }
    Ok(wrong)
}

/// Returns the folders in a folder.
fn below(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    folders
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Returns the processes that are not kernel threads, except those that have exited.
fn processes() -> BTreeSet<String> {
    let ids = below(Path::new("/proc"));
    ids.into_iter()
        .filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|id| {
            let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            !line.is_empty()
        })
        .collect()
}

/// Runs half of the requested number of scenarios: every second one, starting with `first`.
fn run(declared: &'static KtstrTestEntry, first: u64) {
    let asked = std::env::var("KTSTR_RANDOM_SCENARIOS").ok();
    let asked: u64 = asked.map_or(24, |text| {
        text.parse().expect("KTSTR_RANDOM_SCENARIOS: a number")
    });
    // The other half runs under the other scheduler.
    let numbers: Vec<u64> = (first..)
        .step_by(2)
        .take(asked.div_ceil(2) as usize)
        .collect();
    let machine = TestTopology::from_vm_topology(&SHAPE);
    let mut red = Vec::new();
    for numbers in numbers.chunks(OF_A_MACHINE as usize) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("random.toml");
        let texts = numbers.iter().map(|number| {
            let text = drawn::runnable(*number, &machine)
                .to_text()
                .expect("it has a text");
            format!("{HEAD}{number}\n{text}\n")
        });
        std::fs::write(&path, texts.collect::<String>()).expect("room");
        let file = path.to_str().expect("plain letters").to_owned();
        let entry: &'static KtstrTestEntry = Box::leak(Box::new(KtstrTestEntry {
            extra_include_files: vec![&*file.leak()].leak(),
            ..*declared
        }));
        let finished = ktstr::run::run(entry);
        if finished.exit_code() != 0 || finished.result.is_skip() {
            red.push(format!("{numbers:?}:\n{}", finished.text));
        }
    }
    println!("{} scenarios from {first} on", numbers.len());
    assert!(red.is_empty(), "{}", red.join("\n\n"));
}

#[test]
fn random_scenarios_under_eevdf() {
    run(&RANDOM_UNDER_EEVDF, 0);
}

#[test]
fn random_scenarios_under_a_scheduler() {
    run(&RANDOM_UNDER_MINE, 1);
}
