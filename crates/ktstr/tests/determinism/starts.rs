//! Tests that machines are deterministic, booted or forked, and that templates are too.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use ktstr_record::Start;

use crate::common::{Case, lend_kernels, private_tempdir};
use crate::runs::{assert_one, of_child, twice};

#[test]
fn a_machine_that_boots_is_deterministic() {
    let runs = twice("contended", |case| case.env("KTSTR_COLD", "1"));
    assert_eq!(runs[0].record.start, Some(Start::Cold));
    assert_one("cold", &runs);
}

#[test]
fn a_machine_that_is_forked_is_deterministic_across_processes() {
    // A value of 0 means the same as no value.
    let runs = twice("contended", |case| case.env("KTSTR_COLD", "0"));
    assert_ne!(runs[0].record.start, Some(Start::Cold));
    assert_one("warm", &runs);
}

/// Templates that are created twice from scratch hold the same RAM, and lead to the same run.
#[test]
fn templates_are_deterministic() {
    let made: Vec<_> = (0..2)
        .map(|_| {
            let cache = private_tempdir();
            lend_kernels(cache.path());
            let case = Case::new("contended").env("KTSTR_CACHE_DIR", cache.path());
            let run = of_child(&case.run());
            (digests(&cache.path().join("templates")), run)
        })
        .collect();
    assert!(!made[0].0.is_empty());
    assert_eq!(made[0].0, made[1].0, "RAM of templates");
    println!("templates: {} made twice, same RAM", made[0].0.len());
    let runs: Vec<_> = made.into_iter().map(|(_, run)| run).collect();
    assert_one("from new templates", &runs);
}

/// A text that no code reads. A copy of this binary with another text is another file, but runs the same code in the guest.
#[used]
static UNREAD: [u8; 33] = *b"which text stands here: the first";

/// The run of a binary is the same, whether this binary or another one filled the cache of templates. The other one has a text
/// that differs and a symbol more, as a build after a small edit has: its memory differs, and its schedule is the same.
#[test]
fn a_template_of_another_binary_changes_nothing() {
    let own = std::fs::read(std::env::current_exe().expect("a path")).expect("this binary");
    let folder = private_tempdir();
    let other = folder.path().join("other");
    std::fs::write(&other, with_another_text(own)).expect("a writable folder");
    std::fs::set_permissions(&other, PermissionsExt::from_mode(0o755)).expect("own file");
    let mut add = Command::new("objcopy");
    let added = add.args(["--add-symbol", "a_function_of_the_next_build=0"]);
    let status = added.arg(&other).status().expect("binutils");
    assert!(status.success(), "objcopy: {status}");
    let mut of_other = None;
    let runs: Vec<_> = [false, true]
        .into_iter()
        .map(|other_first| {
            let cache = private_tempdir();
            lend_kernels(cache.path());
            let run = |case: Case| of_child(&case.env("KTSTR_CACHE_DIR", cache.path()).run());
            if other_first {
                let mut command = Command::new(&other);
                command.args(["--exact", "ktstr/__unit_test_contended__", "--nocapture"]);
                of_other = Some(run(Case::of(command)));
            }
            let last = run(Case::new("contended"));
            let builds = 1 + usize::from(other_first);
            // Both binaries share the machine that has booted, and the one in which the scheduler has attached.
            assert_eq!(levels(&cache.path().join("templates")), [1, 1, builds]);
            last
        })
        .collect();
    assert_one("after another binary", &runs);
    let of_other = of_other.expect("the second round ran it");
    assert_ne!(of_other.record.digest, runs[0].record.digest);
    assert_eq!(
        of_other.record.switches, runs[0].record.switches,
        "one in about a thousand builds has other schedules: if the symbol makes the program pass a multiple of 64 KiB"
    );
}

/// Returns the numbers of templates of the levels booted, attached and loaded.
fn levels(templates: &Path) -> [usize; 3] {
    let all = digests(templates);
    ["\"booted ", "\"attached ", "\"loaded "]
        .map(|level| all.keys().filter(|what| what.starts_with(level)).count())
}

/// Replaces [`UNREAD`] in the bytes of this binary.
fn with_another_text(mut binary: Vec<u8>) -> Vec<u8> {
    let places: Vec<usize> = binary
        .windows(UNREAD.len())
        .enumerate()
        .filter(|(_, bytes)| *bytes == UNREAD)
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty(), "the text is not in the binary");
    for at in places {
        binary[at..at + UNREAD.len()].reverse();
    }
    binary
}

/// Returns the digest of each template's RAM, by the template's description. The template's key cannot be used, since it
/// contains the path of the kernel, which differs from cache to cache.
fn digests(templates: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(templates).expect("templates were made");
    entries
        .flatten()
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|entry| {
            let read = |name| std::fs::read(entry.path().join(name)).expect("a whole template");
            let description: serde_json::Value =
                serde_json::from_slice(&read("template.json")).expect("JSON");
            let digest = blake3::hash(&read("ram0")).to_hex().to_string();
            (description["what"].to_string(), digest)
        })
        .collect()
}
