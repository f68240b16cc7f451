//! Tests that the documentation (the Markdown files) matches the code, that comments and pages keep their form, that every
//! field of a declaration or a message is used, and that cargo builds all packages with the same features.
#![allow(clippy::unwrap_used)]

#[path = "docs/arch.rs"]
mod arch;
#[path = "docs/environment.rs"]
mod environment;
#[path = "docs/errors.rs"]
mod errors;
#[path = "docs/words.rs"]
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const README: &str = include_str!("../../../README.md");
const MAP: &str = include_str!("../../../ARCHITECTURE.md");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns every file below these folders.
fn files_below(mut folders: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files
}

/// Returns the folder `src` of each package in `parent`.
fn source_folders(parent: &str) -> Vec<PathBuf> {
    fs::read_dir(root().join(parent))
        .unwrap()
        .map(|entry| entry.unwrap().path().join("src"))
        .filter(|folder| folder.is_dir())
        .collect()
}

/// Returns every `.rs` file under `crates/*/src`.
fn sources() -> Vec<PathBuf> {
    let mut files = files_below(source_folders("crates"));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files
}

#[test]
fn the_example_is_one_that_runs() {
    let (_, rest) = README.split_once("```rust\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    assert_eq!(example, include_str!("readme_example.rs"));
}

#[test]
fn every_crate_is_on_the_map() {
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            MAP.contains(&format!("`{name}`")),
            "ARCHITECTURE.md does not say what {name} is for"
        );
    }
}

#[test]
fn the_map_names_files_that_are_there() {
    let named: Vec<&str> = MAP
        .split('`')
        .filter(|word| word.ends_with(".rs") && word.contains('/'))
        .collect();
    assert!(!named.is_empty());
    for path in named {
        assert!(
            root().join(path).is_file() || root().join("crates").join(path).is_file(),
            "ARCHITECTURE.md names {path}, which is not there"
        );
    }
}

#[test]
fn the_page_of_metrics_is_what_the_command_prints() {
    let ktstr = |arguments: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_cargo-ktstr"))
            .args(arguments)
            .output()
            .unwrap()
            .stdout
    };
    let page = fs::read(root().join("docs/metrics.md")).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&ktstr(&["metrics"])),
        String::from_utf8_lossy(&page),
        "write it again: cargo ktstr metrics > docs/metrics.md"
    );
    let listed: Vec<serde_json::Value> =
        serde_json::from_slice(&ktstr(&["metrics", "--json"])).unwrap();
    assert_eq!(listed.len(), ktstr::assert::metric::REGISTRY.len());
    for metric in &listed {
        let name = metric["name"].as_str().unwrap();
        let measured = metric["measured"].as_bool().unwrap();
        assert_eq!(measured, metric["source"] != "not measured yet", "{name}");
        assert!(metric["gate_abs"].as_f64().unwrap() > 0.0, "{name}");
    }
}

/// Returns the fields of `pub struct name { … }` in `text`. The fields of `Assert` are generated, so they come from their macro.
fn fields<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    if name == "Assert" {
        macro_rules! names {
            ($( $part:ident { $( $(#[$doc:meta])* $switch:ident $name:ident: $type:ty; )* } )*) => {
                vec![$($( stringify!($name), )*)* "report_monitor_only"]
            };
        }
        return ktstr_macros::__checks!(names);
    }
    let (_, body) = text.split_once(&format!("struct {name} {{")).unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let lines = body.lines().filter_map(|line| {
        let line = line.trim();
        line.strip_prefix("pub ")
            .or_else(|| line.strip_prefix("pub(super) "))
    });
    lines
        .filter_map(|line| Some(line.split_once(':')?.0))
        .collect()
}

/// Returns whether the code of `text`, without its tests, reads `.field` of some value. An assignment to the field does not
/// count.
fn reads(text: &str, field: &str) -> bool {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let wanted = format!(".{field}");
    code.match_indices(&wanted).any(|(at, _)| {
        let rest = &code[at + wanted.len()..];
        let ends = !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '(');
        let line = code[..at].rsplit('\n').next().unwrap_or_default();
        let is_comment = line.trim_start().starts_with("//");
        let rest = rest.trim_start();
        let compared = rest.starts_with("==") || rest.starts_with("=>");
        let assigned = rest.starts_with('=') && !compared;
        ends && !is_comment && !assigned
    })
}

#[test]
fn a_reader_is_distinguished_from_a_writer() {
    for (text, read) in [
        ("run(entry.seed)", true),
        ("if a.seed == b {", true),
        ("Some(_) if a.seed => 1,", true),
        ("self.seed = seed;", false),
        ("a.seeds", false),
        ("a.seed(1)", false),
        ("/// as x.seed says", false),
        ("fn f() {}\n#[cfg(test)]\nmod t { a.seed }", false),
    ] {
        assert_eq!(reads(text, "seed"), read, "{text}");
    }
}

/// Every field of a declaration is read somewhere: a field that only its builder writes would have no effect. Private fields and
/// the flags of the command line need no test, because the compiler warns if one of them is unused.
#[test]
fn every_field_of_a_declaration_has_a_reader() {
    let sources: Vec<(PathBuf, String)> = sources()
        .into_iter()
        .filter(|path| !path.to_string_lossy().ends_with("tests.rs"))
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    for (file, name) in [
        ("ktstr/src/entry.rs", "KtstrTestEntry"),
        ("ktstr-scenario/src/scheduler/mod.rs", "Scheduler"),
        ("ktstr-scenario/src/topology/declared.rs", "Topology"),
        ("ktstr-scenario/src/topology/node.rs", "NumaNode"),
        (
            "ktstr-scenario/src/topology/constraints.rs",
            "TopologyConstraints",
        ),
        ("ktstr-scenario/src/ops/cgroup_def.rs", "CgroupDef"),
        ("ktstr-scenario/src/ops/step.rs", "Step"),
        ("ktstr-scenario/src/payload.rs", "Payload"),
        ("ktstr-scenario/src/workload/spec.rs", "WorkSpec"),
        ("ktstr-assert/src/check/assert.rs", "Assert"),
        // These store the messages of the guest: a field that nobody reads was sent for nothing.
        ("ktstr/src/run/guest_state.rs", "GuestState"),
        ("ktstr/src/run/guest_state.rs", "Hello"),
        ("ktstr/src/run/guest_state.rs", "Attached"),
    ] {
        let declared = root().join("crates").join(file);
        let text = fs::read_to_string(&declared).unwrap();
        let fields = fields(&text, name);
        assert!(!fields.is_empty(), "{file} has no {name}");
        // These fields accept only `false`: `true` is an error (`KtstrTestEntry::validate`), so no test can request
        // something that has no effect. They exist for declarations that spell them out.
        let refused = ["kaslr", "pci"];
        for field in fields {
            if name == "KtstrTestEntry" && refused.contains(&field) {
                continue;
            }
            // A field of an entry must be read by the code that runs the entry; it is not enough that the field is
            // validated.
            let elsewhere = name == "KtstrTestEntry";
            // The field names in `guest_state.rs` are common words. Only the code of the run uses its types and is searched.
            let here = file
                .ends_with("guest_state.rs")
                .then(|| root().join("crates/ktstr/src/run"));
            let read = sources
                .iter()
                .filter(|(path, _)| !elsewhere || !path.ends_with("ktstr/src/entry.rs"))
                .filter(|(path, _)| here.as_ref().is_none_or(|here| path.starts_with(here)))
                .any(|(_, text)| reads(text, field));
            assert!(
                read,
                "{name}.{field} is declared in {file}, and nobody reads it"
            );
        }
    }
}

/// Returns the variants of `pub enum name { … }` in `text`, each with its named fields.
fn variants<'a>(text: &'a str, name: &str) -> Vec<(&'a str, Vec<&'a str>)> {
    let (_, body) = text.split_once(&format!("pub enum {name} {{")).unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in body.lines() {
        let word = line.trim();
        let is_item = word.starts_with(|c: char| c.is_ascii_alphabetic());
        if let (true, Some(field)) = (line.starts_with("        "), word.split_once(": ")) {
            let (_, fields) = all.last_mut().unwrap();
            fields.extend(is_item.then_some(field.0));
        } else if is_item {
            let end = word
                .find(|c: char| !c.is_alphanumeric())
                .unwrap_or(word.len());
            all.push((&word[..end], Vec::new()));
        }
    }
    all
}

/// Returns whether a pattern for `variant` in `text` binds its field `field`.
fn takes(text: &str, variant: &str, field: &str) -> bool {
    text.match_indices(&format!("{variant} {{"))
        .any(|(at, start)| {
            let rest = &text[at + start.len()..];
            let pattern = rest.split('}').next().unwrap_or_default();
            let is_pattern = rest[pattern.len()..].starts_with('}');
            let taken = pattern
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|word| word == field);
            is_pattern && taken && !pattern.contains(&format!("{field}: _"))
        })
}

#[test]
fn a_field_that_is_taken_is_distinguished_from_one_that_is_skipped() {
    for (text, taken) in [
        ("ToHost::Hello { cpus } => {", true),
        ("ToHost::Hello {\n    cpus: n,\n    ..\n} => {", true),
        ("ToHost::Hello { .. } => {", false),
        ("ToHost::Hello { cpus: _ } => {", false),
        ("ToHost::Hello { all_cpus } => {", false),
        ("ToHost::Bye { cpus } => {", false),
    ] {
        assert_eq!(takes(text, "ToHost::Hello", "cpus"), taken, "{text}");
    }
}

/// Every field of a mailbox message is used by its receiver: a field that a pattern skips with `..` costs space in the mailbox
/// and time in each guest.
#[test]
fn every_field_of_a_message_is_taken() {
    let crates = root().join("crates");
    let text = fs::read_to_string(crates.join("ktstr-guest/src/protocol.rs")).unwrap();
    for (name, reader) in [
        ("ToHost", "ktstr/src/run/guest_state.rs"),
        ("ToGuest", "ktstr-guest/src/init/mod.rs"),
    ] {
        let reader = fs::read_to_string(crates.join(reader)).unwrap();
        let reader = reader.split("#[cfg(test)]").next().unwrap();
        let variants = variants(&text, name);
        let fields: usize = variants.iter().map(|(_, fields)| fields.len()).sum();
        assert!(fields > 8, "{name} was not understood: {variants:?}");
        for (variant, fields) in variants {
            for field in fields {
                let what = format!("{name}::{variant}");
                assert!(takes(reader, &what, field), "nobody takes {what}.{field}");
            }
        }
    }
}

#[test]
fn the_defaults_of_the_attributes_are_those_of_an_entry() {
    use ktstr::test_support::{ClockMode, KtstrTestEntry, TopologyConstraints};

    macro_rules! defaults {
        ($( $name:ident $kind:ident($least:literal, $most:literal) $group:ident $default:literal $doc:literal; )*) => {
            [$( (stringify!($name), $default) ),*]
        };
    }
    let defaults = ktstr_macros::__keys!(defaults);
    let shown = |key: &str| {
        let row = defaults.iter().find(|(name, _)| *name == key);
        let (_, default) = row.unwrap_or_else(|| panic!("{key} is not in the table of keys"));
        (*default).to_owned()
    };
    let entry = KtstrTestEntry::DEFAULT;
    let constraints = TopologyConstraints::DEFAULT;
    for (key, default) in [
        ("memory_mib", entry.memory_mib.to_string()),
        ("duration_s", entry.duration.as_secs().to_string()),
        (
            "watchdog_timeout_s",
            entry.watchdog_timeout.as_secs().to_string(),
        ),
        ("num_snapshots", entry.num_snapshots.to_string()),
        ("min_llcs", constraints.min_llcs.to_string()),
        ("max_llcs", constraints.max_llcs.unwrap().to_string()),
        ("min_numa_nodes", constraints.min_numa_nodes.to_string()),
        (
            "max_numa_nodes",
            constraints.max_numa_nodes.unwrap().to_string(),
        ),
        ("min_cpus", constraints.min_cpus.to_string()),
        ("max_cpus", constraints.max_cpus.unwrap().to_string()),
        ("requires_smt", constraints.requires_smt.to_string()),
        ("expect_err", entry.expect_err.to_string()),
        ("allow_inconclusive", entry.allow_inconclusive.to_string()),
        ("host_only", entry.host_only.to_string()),
        ("ignore", entry.ignored.to_string()),
        ("fresh_attach", entry.fresh_attach.to_string()),
        ("seed", entry.seed.unwrap_or(0).to_string()),
    ] {
        assert_eq!(shown(key), default, "{key}");
    }
    assert_eq!(entry.clock, ClockMode::Auto);
    assert_eq!(shown("clock"), "`\"auto\"`");
    assert!(entry.cleanup_budget.is_none() && entry.post_vm.is_none());
    assert!(entry.extra_sched_args.is_empty() && entry.extra_include_files.is_empty());
}

/// Returns the packages that `cargo tree` prints for these arguments, each with its version and its features.
fn features(arguments: &[&str]) -> BTreeSet<String> {
    let output = std::process::Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["tree", "--locked", "--offline", "--prefix", "none"])
        .args(["-f", "{p} with features {f}"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| line.trim_end_matches(" (*)").to_owned())
        .collect()
}

/// Cargo unifies the features of packages that it builds together: if the rest of the workspace enabled a feature in a
/// dependency of scx-ktstr, the binary would differ, and would need its own templates.
#[test]
fn scx_ktstr_is_the_same_binary_alone_and_with_the_workspace() {
    let alone = features(&["-e", "normal,build", "-p", "scx-ktstr"]);
    let together = features(&["-e", "normal,build", "--workspace"]);
    assert!(
        alone.iter().any(|line| line.starts_with("libbpf-rs ")),
        "{alone:?}"
    );
    let differing: Vec<_> = alone.difference(&together).collect();
    assert!(
        differing.is_empty(),
        "with the workspace other features are on; turn them on in schedulers/scx-ktstr/Cargo.toml too: {differing:?}"
    );
}

/// A feature that only the dependencies of tests enable would make cargo compile the workspace twice: for its programs, and for
/// its tests.
#[test]
fn programs_and_tests_are_built_on_the_same_dependencies() {
    let programs = features(&["-e", "normal,build", "--workspace"]);
    let tests = features(&["-e", "normal,build,dev", "--workspace"]);
    assert!(tests.iter().any(|line| line.starts_with("proptest ")));
    let differing: Vec<_> = programs.difference(&tests).collect();
    assert!(
        differing.is_empty(),
        "tests turn on more features of these packages; turn them on in crates/cargo-ktstr/Cargo.toml too: {differing:?}"
    );
}
