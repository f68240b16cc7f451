//! Tests of the settings of scenario files. No machine boots.

use ktstr::prelude::*;
use ktstr::scenario::TextError;
use ktstr::scenario::file::{ScenarioFile, entry, settings};

fn declared(settings: &str) -> std::result::Result<KtstrTestEntry, TextError> {
    let file = ScenarioFile::from_text(&format!("{settings}\n[[step]]\n"))?;
    entry(&file, "x", |_| Ok(AssertResult::pass()))
}

fn refused(settings: &str) -> String {
    declared(settings).expect_err(settings).to_string()
}

/// A file knows each key of `#[ktstr_test]`: it is a setting, or the error says that it can only be set by a test in Rust.
#[test]
fn no_key_of_the_attribute_is_forgotten() {
    assert!(settings().count() > 50);
    for (key, doc) in settings() {
        // Most keys refuse an empty list as their value, but none may be unknown.
        let printed = declared(&format!("{key} = []")).err();
        let printed = printed.map_or_else(String::new, |error| error.message);
        assert!(!printed.contains("unknown key"), "{key} ({doc}): {printed}");
    }
}

#[test]
fn settings_are_those_of_the_attribute() {
    let entry = declared(
        "scheduler = \"scx_mine\"\nllcs = 2\ncores = 3\nduration_s = 0.3\nnot_stuck = true\nmax_gap_ms = 20\nmax_owed_ms = \"off\"\n\
         work_conservation = true\nextra_sched_args = [\"-v\"]\nclock = \"virtual\"\nmin_llcs = 2\nsurvives_storm = true",
    )
    .expect("they are good");
    assert_eq!((entry.topology.llcs, entry.topology.cores_per_llc), (2, 3));
    assert_eq!(entry.duration.as_millis(), 300);
    assert_eq!(entry.assert.not_stuck, Some(true));
    assert_eq!(entry.assert.max_gap_ms, Some(20));
    assert_eq!(entry.assert.max_owed_ms, Some(Limit::Off));
    assert!(entry.assert.enforce_monitor_thresholds);
    assert_eq!(entry.extra_sched_args, ["-v"]);
    assert_eq!(entry.constraints.min_llcs, 2);
    assert!(entry.survives_storm);
    assert_eq!(entry.scheduler.binary.display_name(), "scx_mine");
    let seen = declared("monitor = \"report\"\nwork_conservation = true").expect("they are good");
    assert!(!seen.assert.enforce_monitor_thresholds);
}

#[test]
fn what_is_wrong_is_named() {
    insta::assert_snapshot!(refused("llcs = 0"), @"line 1, `llcs`: found the number 0, expected a whole number of 1 to 4294967295");
    insta::assert_snapshot!(refused("clock = \"vertual\""), @r#"line 1, `clock`: found "vertual": did you mean "virtual"? The known ones are: auto, real, virtual"#);
    insta::assert_snapshot!(refused("llcs = 1\nnot_stuck = 1"), @"line 2, `not_stuck`: found the number 1, expected true or false");
    insta::assert_snapshot!(refused("post_vm = \"f\""), @"line 1, `post_vm`: `post_vm` can only be set by a test in Rust: write what must hold of the run as a `[[claim]]`");
    insta::assert_snapshot!(refused("duration_s = 0"), @"line 1, `duration_s`: found 0, expected seconds, more than 0");
    assert!(refused("llc = 2").starts_with(
        "line 1, `llc`: unknown key `llc`: did you mean `llcs`? The known ones are: "
    ));
    assert!(refused("workload_root_cgroup = \"x\"").contains("expected an absolute path"));
    assert!(
        refused("llcs = 3\nnuma_nodes = 2")
            .contains("llcs = 3 cannot be divided by numa_nodes = 2")
    );
}
