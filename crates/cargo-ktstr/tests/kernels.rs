//! Tests of `check` on several kernels, some of which are not available, of kernels that a lock file pins, and of the command
//! that cleans the cache of kernels.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;

use common::{ktstr, text};
use ktstr::test_support::{Scheduler, SchedulerSpec};
use ktstr_kernel::cache;
use serde_json::Value;

#[test]
fn missing_kernels_are_reported_and_the_others_are_run() {
    let root = tempfile::tempdir().unwrap();
    let declared = Scheduler::named("scx_ktstr")
        .binary(SchedulerSpec::Discover("scx-ktstr"))
        .manifest_dir(env!("CARGO_MANIFEST_DIR"));
    let found = ktstr::run::find_scheduler_binary(&declared).unwrap();
    let scheduler = found.unwrap().path;
    let there = ktstr_kernel::resolve(None, &mut |_| {}).unwrap().id;
    // The command must not use the network. A kernel that is named twice is run once.
    let run = |kernels: &[&str]| {
        let kernels = kernels.iter().flat_map(|kernel| ["--kernel", *kernel]);
        let words = [
            "check",
            scheduler.to_str().unwrap(),
            "--scenarios",
            "steady",
        ];
        let words: Vec<&str> = words.into_iter().chain(kernels).collect();
        let files = ["--seeds", "1", "--json", "out.json", "--junit", "out.xml"];
        ktstr(&root.path().join("ktstr"), &[&words[..], &files].concat())
            .current_dir(root.path())
            .env("KTSTR_OFFLINE", "1")
            .output()
            .unwrap()
    };
    let output = run(&[&there, "./no-such-image", "3.1..3.9", &there]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    for printed in [
        "Nothing is broken that these runs can show",
        "not run: kernel ./no-such-image: ",
        "not run: kernel 3.1..3.9: no kernel is in this range",
    ] {
        assert!(
            text(&output).contains(printed),
            "{printed}: {}",
            text(&output)
        );
    }
    let report = std::fs::read(root.path().join("out.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["runs"], 1, "{report}");
    assert_eq!(report["missing_kernels"].as_array().unwrap().len(), 2);
    assert_eq!(report["exit"], 2);
    let junit = std::fs::read_to_string(root.path().join("out.xml")).unwrap();
    assert_eq!(junit.matches("<error ").count(), 2, "{junit}");

    let output = run(&["./no-such-image"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("there is no kernel to run"));
}

#[test]
fn a_lock_file_pins_the_kernels_of_an_argument() {
    let root = tempfile::tempdir().unwrap();
    let there = ktstr_kernel::resolve(None, &mut |_| {}).unwrap();
    let file = root.path().join("ktstr.lock");
    // The seeds are too few to decide anything, so the command ends after it has resolved the kernels and before anything is
    // run.
    let run = |kernel: &str| {
        let words = [
            "compare",
            "eevdf",
            "eevdf",
            "--scenarios",
            "steady",
            "--seeds",
            "3",
        ];
        let words = [&words[..], &["--lock", "ktstr.lock", "--kernel", kernel]].concat();
        let output = ktstr(&root.path().join("ktstr"), &words)
            .current_dir(root.path())
            .env("KTSTR_OFFLINE", "1")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        text(&output)
    };
    let image = there.image.to_str().unwrap();
    let printed = run(image);
    assert!(printed.contains("3 seeds cannot decide"), "{printed}");
    let pins = std::fs::read_to_string(&file).unwrap();
    assert!(pins.contains(&format!("[\"{}\"]", there.id)), "{pins}");

    // If the lock file pins the value of --kernel, the pinned kernel is used, whatever the value stands for now. A pinned kernel
    // that is not available is reported.
    std::fs::write(&file, pins.replace(image, "./no-such-image")).unwrap();
    assert!(run("./no-such-image").contains("3 seeds cannot decide"));
    std::fs::write(
        &file,
        pins.replace(&format!("[\"{}\"]", there.id), "[\"7.3.4-00000000\"]"),
    )
    .unwrap();
    let printed = run(image);
    let wanted = format!(
        "pins it to 7.3.4-00000000, which is not in the cache; it resolves to {} now",
        there.id
    );
    assert!(
        printed.contains("there is no kernel to run") && printed.contains(&wanted),
        "{printed}"
    );
    std::fs::write(&file, "prose").unwrap();
    assert!(run(image).contains("is not a file of pinned kernels"));
}

/// Creates a cache with two entries whose files are links to those of the default kernel: one has that kernel's release, and the
/// other pretends to be kernel 1.0.0. The cache also has a damaged entry. Returns the two kernels' ids, the newer one first.
fn lend_kernel(cache: &Path) -> [String; 2] {
    let private = |path: &Path| {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(path).unwrap();
    };
    let kernel = ktstr_kernel::resolve(None, &mut |_| {}).unwrap();
    let ids = [kernel.id.clone(), "1.0.0-00000000".to_owned()];
    for (id, release) in ids.iter().zip([kernel.release.as_str(), "1.0.0"]) {
        let place = cache.join("kernels").join(id);
        private(&place);
        for file in std::fs::read_dir(kernel.image.parent().unwrap()).unwrap() {
            let file = file.unwrap();
            let name = file.file_name();
            if name != "kernel.json" {
                symlink(file.path(), place.join(name)).unwrap();
                continue;
            }
            let text = std::fs::read(file.path()).unwrap();
            let mut about: Value = serde_json::from_slice(&text).unwrap();
            about["id"] = id.as_str().into();
            about["release"] = release.into();
            std::fs::write(place.join(name), about.to_string()).unwrap();
        }
    }
    private(&cache.join("kernels/damaged"));
    ids
}

#[test]
fn a_cache_of_kernels_is_cleaned_only_after_a_confirmation() {
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("cache");
    let [kept, gone] = lend_kernel(&cache);
    let clean = |words: &[&str]| {
        let words = [&["kernel", "clean"][..], words].concat();
        let mut command = ktstr(&root.path().join("ktstr"), &words);
        command
            .env("KTSTR_CACHE_DIR", &cache)
            .stdin(std::process::Stdio::null());
        command.output().unwrap()
    };
    let there = |id: &str| cache.join("kernels").join(id).is_dir();

    // Without a terminal nobody can confirm, so nothing is removed. Exactly one of --keep and --corrupt-only is required.
    let output = clean(&["--keep", "1"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("--force"), "{}", text(&output));
    assert!(text(&output).contains(&format!("{gone}: not among the first 1 of `kernel list`")));
    assert!(there(&gone) && there("damaged"));
    for words in [&[][..], &["--keep", "1", "--corrupt-only"]] {
        assert_eq!(clean(words).status.code(), Some(1), "{words:?}");
    }

    let output = clean(&["--corrupt-only", "--force"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(there(&kept) && there(&gone) && !there("damaged"));
    let output = clean(&["--keep", "1", "--force"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(
        text(&output).contains("Removed 1 of 2 entries"),
        "{}",
        text(&output)
    );
    assert!(there(&kept) && !there(&gone));
    assert!(
        text(&clean(&["--keep", "5"]))
            .contains("Nothing to remove from the cache, which has 1 kernel")
    );
    // The kernel that the links led to still exists.
    let own = cache::list().unwrap();
    assert!(own.iter().any(|kernel| kernel.id == kept));
}
