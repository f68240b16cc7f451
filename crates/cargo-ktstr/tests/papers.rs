//! What the papers say of the code is true.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const README: &str = include_str!("../../../README.md");
const MAP: &str = include_str!("../../../ARCHITECTURE.md");

/// Set by ktstr or its build for itself, or only read by its own tests: not for users.
const INTERNAL: [&str; 5] = [
    "KTSTR_AGENT_HASH",
    "KTSTR_GUEST",
    "KTSTR_GUEST_TEST",
    "KTSTR_KERNEL_TEST_FULL",
    "KTSTR_KERNEL_TEST_IMPORT",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every `.rs` file under `crates/*/src`.
fn sources() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().path().join("src"))
        .collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// The names of environment variables, as string literals, in `text`.
fn variables(text: &str) -> BTreeSet<String> {
    text.split('"')
        .filter(|part| part.starts_with("KTSTR_") && !part.ends_with('_'))
        .filter(|part| {
            part.chars()
                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_example_is_one_that_runs() {
    let (_, rest) = README.split_once("```rust\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    assert_eq!(example, include_str!("readme_example.rs"));
}

#[test]
fn every_variable_is_in_the_readme_and_nothing_else_is() {
    let read: BTreeSet<String> = sources()
        .iter()
        .flat_map(|path| variables(&fs::read_to_string(path).unwrap()))
        .filter(|name| !INTERNAL.contains(&name.as_str()))
        .collect();
    assert!(read.contains("KTSTR_KERNEL"), "none was found: {read:?}");
    let told: BTreeSet<String> = README
        .split('`')
        .filter(|word| word.starts_with("KTSTR_") && !word.contains(['=', '/']))
        .map(str::to_owned)
        .collect();
    assert_eq!(read, told, "left: read by the code; right: in README.md");
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
        "write it anew: cargo ktstr metrics > docs/metrics.md"
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
