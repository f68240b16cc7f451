//! Tests that the merged results of three shards give exactly the report of the whole check, and that incomplete or foreign
//! results are refused. The check has three scenarios on two CPUs, one seed, and a scheduler with a planted defect.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;
use std::process::Output;

use common::{json, ktstr, text};
use ktstr::test_support::{Scheduler, SchedulerSpec};
use serde_json::Value;

/// Runs the command with these arguments, with its cache below `root`. All shards use the same binary, so they fork from the
/// same templates in that cache.
fn run(root: &Path, words: &[&str]) -> Output {
    ktstr(&root.join("ktstr"), words)
        .current_dir(root)
        .env("KTSTR_CACHE_DIR", root.join("cache"))
        .output()
        .unwrap()
}

/// Links this user's kernels into the cache below `root`.
fn lend_kernels(root: &Path) {
    let private = |path: &Path| {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(path).unwrap();
    };
    for kernel in ktstr_kernel::cache::list().unwrap() {
        let place = root.join("cache/kernels").join(&kernel.id);
        private(&place);
        for file in std::fs::read_dir(kernel.image.parent().unwrap()).unwrap() {
            let file = file.unwrap();
            symlink(file.path(), place.join(file.file_name())).unwrap();
        }
    }
}

/// Returns the report of a check without the parts that may differ from run to run: wall times, paths of records, and which of
/// EEVDF's runs were cached.
fn bare(path: &Path) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for field in ["wall_s", "record", "eevdf_runs"] {
                    fields.remove(field);
                }
                fields.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    strip(&mut value);
    value
}

#[test]
fn three_shards_merged_are_the_whole_to_the_letter() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    lend_kernels(root);
    let declared = Scheduler::named("scx_ktstr")
        .binary(SchedulerSpec::Discover("scx-ktstr"))
        .manifest_dir(env!("CARGO_MANIFEST_DIR"));
    let scheduler = ktstr::run::find_scheduler_binary(&declared).unwrap();
    let scheduler = scheduler.unwrap().path;
    let check = |more: &[&str], code: i32| {
        let words = [
            "check",
            scheduler.to_str().unwrap(),
            "--scenarios",
            "steady,custom_nice_mix,custom_bursts",
            "--seeds",
            "1",
        ];
        let output = run(root, &[&words[..], more, &["--", "--starve-nice"]].concat());
        assert_eq!(
            output.status.code(),
            Some(code),
            "{more:?}: {}",
            text(&output)
        );
        text(&output)
    };
    check(&["--json", "whole.json", "--results", "whole.results"], 1);
    // Only one of the shards finds the defect.
    let screens = ["1/3", "2/3", "3/3"].map(|shard| {
        let file = format!("{}.results", &shard[..1]);
        let report = format!("{}.json", &shard[..1]);
        let words = ["--shard", shard, "--results", &file, "--json", &report];
        let output = run(
            root,
            &[
                &["check", scheduler.to_str().unwrap(), "--seeds", "1"][..],
                &["--scenarios", "steady,custom_nice_mix,custom_bursts"],
                &words,
                &["--", "--starve-nice"],
            ]
            .concat(),
        );
        assert!(text(&output).contains(&format!("This is shard {shard}")));
        assert_eq!(
            bare(&root.join(&report))["runs"],
            1,
            "each shard has one run"
        );
        output.status.code().unwrap()
    });
    assert_eq!(
        screens.iter().filter(|code| **code == 1).count(),
        1,
        "{screens:?}"
    );

    let merge = |files: &[&str]| {
        let words = [
            &["merge"][..],
            files,
            &["--json", "merged.json", "--html", "check.html"],
        ];
        run(root, &words.concat())
    };
    let output = merge(&["3.results", "1.results", "2.results"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(
        bare(&root.join("merged.json")),
        bare(&root.join("whole.json"))
    );
    let page = std::fs::read_to_string(root.join("check.html")).unwrap();
    assert!(page.contains("<h3>custom_nice_mix: "), "{page}");
    let output = run(root, &["merge", "whole.results", "--json", "-"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(
        json(&output)["results"],
        bare(&root.join("whole.json"))["results"]
    );

    // Results that cannot be merged, each with the reason that is expected for the refusal.
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let write = |name: &str, text: &str| std::fs::write(root.join(name), text).unwrap();
    let second = read("2.results");
    write("cut", &second[..second.len() / 2]);
    let old = second.replacen("\"schema\":2", "\"schema\":1", 1);
    assert_ne!(old, second, "the results do not have schema 2");
    write("old", &old);
    write(
        "foreign",
        &second.replacen("--starve-nice", "--slow-wake", 1),
    );
    write("prose", "not one letter of results");
    for (files, printed) in [
        (
            &["1.results", "3.results"][..],
            "the results of 1 of 3 shards are missing: 2/3",
        ),
        (
            &["1.results", "cut", "3.results"],
            "the file ends in the middle of the results",
        ),
        (
            &["1.results", "old", "3.results"],
            "its schema is 1, and this command reads only 2",
        ),
        (
            &["1.results", "foreign", "3.results"],
            "are not of one check: the scheduler's arguments were",
        ),
        (
            &["1.results", "2.results", "2.results"],
            "are both shard 2/3",
        ),
        (
            &["1.results", "whole.results"],
            "is a whole check, and not a shard",
        ),
        (&["prose"], "it is not a file of results"),
        (&["missing"], "No such file"),
        (&[], "<FILE>"),
    ] {
        let output = merge(files);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{files:?}: {}",
            text(&output)
        );
        assert!(
            text(&output).contains(printed),
            "{files:?}: {}",
            text(&output)
        );
    }
    for (words, printed) in [
        (&["--shard", "4/3", "--results", "x"][..], "such as 2/3"),
        (&["--shard", "1/3"], "--results <FILE>"),
        (&["--shard", "1/9", "--results", "x"], "this one has 3"),
    ] {
        let said_all = check(words, 2);
        assert!(said_all.contains(printed), "{words:?}: {said_all}");
    }
}
