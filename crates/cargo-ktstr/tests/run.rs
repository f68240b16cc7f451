//! Tests `cargo ktstr run` from the command line: the files of docs/guide/scenarios pass in virtual machines, a claim that does
//! not hold fails, and invalid files are refused before a machine boots.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;

use common::{run, text};
use ktstr::test_support::{Scheduler, SchedulerSpec};
use ktstr_record::RunVerdict;

const SCENARIOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/scenarios");

/// Returns the path of the workspace's own scheduler, which is built first if it is stale.
fn scx_ktstr() -> PathBuf {
    let declared = Scheduler::named("scx_ktstr")
        .binary(SchedulerSpec::Discover("scx-ktstr"))
        .manifest_dir(env!("CARGO_MANIFEST_DIR"));
    let found = ktstr::run::find_scheduler_binary(&declared).unwrap();
    found.unwrap().path
}

/// Runs a file of the guide, which must pass and leave a record with the command that runs it again. Returns the output.
fn passes(name: &str) -> String {
    let root = tempfile::tempdir().unwrap();
    let file = format!("{SCENARIOS}/{name}.toml");
    let eevdf = std::fs::read_to_string(&file)
        .unwrap()
        .contains("scheduler = \"eevdf\"");
    let scheduler = match eevdf {
        true => "eevdf".to_owned(),
        false => scx_ktstr().to_str().unwrap().to_owned(),
    };
    let output = run(
        root.path(),
        &[&file, "--scheduler", &scheduler, "--seed", "3"],
    );
    let screen = text(&output);
    println!("{screen}");
    assert_eq!(output.status.code(), Some(0), "{screen}");
    assert!(screen.contains(&format!("PASS  {file}")), "{screen}");
    let left = ktstr_record::list(&root.path().join("ktstr"), None).unwrap();
    let [left] = left.records.as_slice() else {
        panic!("{} records", left.records.len())
    };
    assert_eq!(left.record.verdict, RunVerdict::Pass);
    let again = left.record.again.clone().unwrap();
    assert_eq!(
        again,
        format!("cargo ktstr run {file} --scheduler {scheduler} --seed 3")
    );
    screen
}

macro_rules! shapes {
    ($($test:ident $file:literal;)+) => {
        $(
            #[test]
            fn $test() {
                passes($file);
            }
        )+

        /// The files that the tests above run.
        const FILES: &[&str] = &[$($file),+];
    };
}

shapes! {
    wake_ups_cross_llcs "wakes-cross-llcs";
    pipes_beside_yielders "pipes-and-yielders";
    a_fifo_hog_in_four_rounds "fifo-hog";
    affinity_and_policy_change_from_outside "affinity-and-policy-churn";
    a_small_quota_is_no_starvation "small-quota";
    the_smallest_of_nested_quotas_holds "nested-quotas";
    a_cpu_goes_off_and_on "cpu-off-and-on";
    a_scheduler_is_detached_half_way "detached-half-way";
}

#[test]
fn every_file_of_the_guide_is_run() {
    let there = std::fs::read_dir(SCENARIOS).unwrap();
    let mut there: Vec<String> = there
        .map(|file| {
            file.unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    there.sort();
    let mut run: Vec<&str> = FILES.to_vec();
    run.sort_unstable();
    assert_eq!(there, run);
}

#[test]
fn a_claim_that_does_not_hold_fails_with_its_line() {
    let root = tempfile::tempdir().unwrap();
    let file = "cores = 2\nduration_s = 0.2\n[[cgroup]]\nname = \"a\"\n[[step]]\n[[claim]]\nstep = 0\ncgroup = \"a\"\n\
                metric = \"total_iterations\"\nat_most = 0\n[[claim]]\nstep = 0\ncgroup = \"a\"\nmetric = \"colour\"\nat_least = 1\n";
    std::fs::write(root.path().join("x.toml"), file).unwrap();
    let output = run(root.path(), &["x.toml"]);
    let screen = text(&output);
    assert_eq!(output.status.code(), Some(1), "{screen}");
    assert!(
        screen
            .contains("claim of line 7: total_iterations of a in step 0: expected at most 0, was "),
        "{screen}"
    );
    assert!(
        screen.contains("colour of a in step 0: expected at least 1, metric absent; there are: "),
        "{screen}"
    );
    assert!(
        screen.contains("again: cargo ktstr run x.toml --seed 0"),
        "{screen}"
    );
}

#[test]
fn a_file_that_is_no_scenario_is_refused_before_a_machine_boots() {
    let root = tempfile::tempdir().unwrap();
    for (file, wanted) in [
        (
            "[[step]]\nholds = 1\n",
            "x.toml: line 2, `step[0].holds`: unknown key `holds`: did you mean `hold`?",
        ),
        (
            "llc = 2\n[[step]]\n",
            "x.toml: line 1, `llc`: unknown key `llc`: did you mean `llcs`?",
        ),
        (
            "cores = 2\n[[step]]\nops = [{ cpu_offline = 2 }]\n",
            "x.toml: line 3, `step[0].ops[0]`: the machine has no CPU 2: its CPUs are 0-1",
        ),
        ("[[step]\n", "x.toml: line 1: "),
    ] {
        std::fs::write(root.path().join("x.toml"), file).unwrap();
        let output = run(root.path(), &["x.toml"]);
        let screen = text(&output);
        assert_eq!(output.status.code(), Some(1), "{screen}");
        assert!(screen.contains(wanted), "{screen}");
        assert!(!screen.contains("Running"), "{screen}");
    }
    let output = run(root.path(), &["none.toml"]);
    assert_ne!(output.status.code(), Some(0));
    assert!(text(&output).contains("reading the scenario none.toml"));
    assert!(
        !root.path().join("ktstr").exists(),
        "a refused file was run"
    );
}

#[test]
fn a_file_is_printed_in_its_normal_form() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.toml");
    for name in FILES {
        let print = |file: &str| {
            let output = run(root.path(), &[file, "--print"]);
            assert_eq!(output.status.code(), Some(0), "{}", text(&output));
            String::from_utf8(output.stdout).unwrap()
        };
        let printed = print(&format!("{SCENARIOS}/{name}.toml"));
        std::fs::write(&path, &printed).unwrap();
        assert_eq!(print(path.to_str().unwrap()), printed, "{name}");
    }
}
