//! These tests check that nothing reads the environment except the table of variables (`ktstr_state::env`) and the exceptions
//! in [`READERS`]. They also check that pages, messages and comments name only variables in the table or in [`WITHOUT_A_ROW`].

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ktstr_state::env::{LOG_PASSES, TABLE, recorded};

use super::{README, files_below, root, source_folders, sources};

/// Names that have no row in the table: variables of the guest, of builds and of tests, and static variables of Rust.
const WITHOUT_A_ROW: &[&str] = &[
    "KTSTR_GUEST",
    "KTSTR_GUEST_TEST",
    "KTSTR_INIT_HASH",
    "KTSTR_KERNEL_TEST_BUILD",
    "KTSTR_KERNEL_TEST_FULL",
    "KTSTR_KERNEL_TEST_IMPORT",
    "KTSTR_PAYLOAD",
    "KTSTR_SCHEDULERS",
    "KTSTR_TESTS",
];

/// The allowed reads of the environment in `crates/*/src` and `schedulers/*/src`: the file, what it reads, and in a comment the
/// reason. Build scripts are not covered: they read what cargo sets for them, and cannot depend on the table.
const READERS: &[(&str, &[&str])] = &[
    // This crate also runs in the guest, so it does not depend on `ktstr-state`, which has the table and belongs to the host.
    // A test of the crate runs itself again in a child process, in which it sets the second variable.
    (
        "crates/ktstr-assert/src/verdict/core.rs",
        &["LOG_PASSES", "\"VERDICT_OF_A_CHILD\""],
    ),
    // The host sets this variable in the guest.
    ("crates/ktstr-guest/src/init/mod.rs", &["GUEST_MARK_ENV"]),
    // The guest's PID 1 sets this variable.
    (
        "crates/ktstr-guest/src/init/test_process.rs",
        &["TEST_PROCESS_ENV"],
    ),
    // The test runs itself again in a child process, in which it sets this variable.
    (
        "crates/ktstr-kernel/src/build/tests.rs",
        &["\"KTSTR_KERNEL_TEST_BUILD\""],
    ),
    // The tests run themselves again in child processes, in which they set these variables.
    (
        "crates/ktstr-kernel/src/tests.rs",
        &["\"KTSTR_KERNEL_TEST_IMPORT\"", "\"KTSTR_KERNEL_TEST_FULL\""],
    ),
    // This is the code of the table.
    (
        "crates/ktstr-state/src/env/mod.rs",
        &["self.name", "self.row.name", "self.row.name"],
    ),
    // The test runs itself again in a child process, in which it sets this variable.
    (
        "crates/ktstr-state/src/queue_tests.rs",
        &["\"QUEUE_TEST_FOLDER\""],
    ),
];

/// Returns what the Rust source `text` reads from the environment: the argument of each call that reads a variable. If such
/// a function is named but not called, the whole line is returned.
fn reads(text: &str) -> Vec<&str> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut all = Vec::new();
    for line in code {
        let end_of = |name: &&str| {
            let mut ends = line.match_indices(*name).map(|(at, _)| at + name.len());
            ends.find(|end| !line[*end..].starts_with(is_word))
        };
        let reader = ["::var", "::vars", "var_os", "vars_os", "getenv"];
        let renamed = line.contains("use std::env::{") && line.contains("var");
        let called = reader.iter().filter_map(end_of).min();
        let Some(end) = called.or(renamed.then_some(line.len())) else {
            continue;
        };
        let argument = line[end..]
            .strip_prefix('(')
            .and_then(|rest| Some(rest.split_once(')')?.0));
        all.push(argument.unwrap_or(line));
    }
    all
}

#[test]
fn a_read_of_the_environment_is_recognised() {
    for (text, read) in [
        ("let a = std::env::var(\"A\");", vec!["\"A\""]),
        (
            "    env::var_os(NAME)\n    std::env::var(B)",
            vec!["NAME", "B"],
        ),
        ("use std::env::var;", vec!["use std::env::var;"]),
        (
            "use std::env::{self, var};",
            vec!["use std::env::{self, var};"],
        ),
        ("let a = var_os(\"A\")?;", vec!["\"A\""]),
        ("for (k, v) in std::env::vars() {", vec![""]),
        (
            "names.map(std::env::var_os)",
            vec!["names.map(std::env::var_os)"],
        ),
        ("// as env::var(\"A\") says", vec![]),
        ("use std::env as e; e::var(\"A\")", vec!["\"A\""]),
        ("use ktstr_state::env::Variable;", vec![]),
        ("for variant in Type::variants() {", vec![]),
        ("unsafe { std::env::set_var(A, b) };", vec![]),
        ("std::env::current_dir()", vec![]),
    ] {
        assert_eq!(reads(text), read, "{text}");
    }
}

/// Returns every file below `schedulers/*/src`, including the sources of BPF programs.
pub(super) fn schedulers() -> Vec<PathBuf> {
    files_below(source_folders("schedulers"))
}

#[test]
fn only_the_table_reads_the_environment() {
    let mut found = Vec::new();
    for path in sources().into_iter().chain(schedulers()) {
        let text = fs::read_to_string(&path).unwrap();
        let reads: Vec<String> = reads(&text).into_iter().map(str::to_owned).collect();
        let path = path.strip_prefix(root()).unwrap().to_owned();
        if !reads.is_empty() {
            found.push((path, reads));
        }
    }
    found.sort();
    let allowed: Vec<(PathBuf, Vec<String>)> = READERS
        .iter()
        .map(|(path, reads)| {
            let reads = reads.iter().map(|read| (*read).to_owned());
            (Path::new(path).to_owned(), reads.collect())
        })
        .collect();
    assert_eq!(
        found, allowed,
        "left: the reads of the environment; right: those that are allowed. Add a row to ktstr-state/src/env/table.rs, and read \
         the variable through it"
    );
}

/// Returns the words in `text` that look like variables of ktstr. A word that ends with `_` is only the start of a name, and
/// is left out.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("KTSTR_") && !word.ends_with('_'))
        .filter(|word| !word.contains(|c: char| c.is_ascii_lowercase()))
}

/// Users set the variables that comments, error messages and `cargo ktstr doctor` name, so each of these must have an effect.
#[test]
fn every_variable_that_a_source_or_a_page_names_has_a_row() {
    let mut files = sources();
    files.push(root().join("README.md"));
    let folders = ["docs", "docs/guide"].map(|folder| fs::read_dir(root().join(folder)).unwrap());
    let pages = folders.into_iter().flatten();
    let pages = pages.map(|entry| entry.unwrap().path());
    files.extend(pages.filter(|path| path.extension().is_some_and(|end| end == "md")));
    let rows: BTreeSet<&str> = TABLE.iter().map(|row| row.name).collect();
    let mut named = BTreeSet::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        for name in names(&text) {
            // The constant that holds the name of a variable has the same name with `_ENV` appended.
            let variable = name.strip_suffix("_ENV").unwrap_or(name);
            let known = rows.contains(variable) || WITHOUT_A_ROW.contains(&name);
            assert!(known, "{} names {name}, which has no row", path.display());
            named.insert(name.to_owned());
        }
    }
    for name in WITHOUT_A_ROW {
        assert!(named.contains(*name), "{name} is named nowhere any more");
    }
}

#[test]
fn the_list_in_the_readme_is_the_table() {
    let (_, list) = README.split_once("\n## Environment\n").unwrap();
    let (list, _) = list.split_once("\n## ").unwrap();
    let shown: Vec<&str> = list
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let rows: Vec<String> = TABLE
        .iter()
        .filter(|row| row.is_in_readme())
        .map(|row| format!("| `{}` | {} |", row.name, row.effect))
        .collect();
    assert_eq!(shown, rows, "left: README.md; right: the table");
}

#[test]
fn the_page_of_the_record_lists_the_variables_that_it_notes() {
    let page = fs::read_to_string(root().join("docs/record.md")).unwrap();
    let row = page
        .lines()
        .find(|line| line.starts_with("| `environment` |"));
    let shown: Vec<&str> = row.unwrap().split('`').skip(3).step_by(2).collect();
    let noted: Vec<&str> = recorded().map(|row| row.name).collect();
    assert_eq!(shown, noted, "left: docs/record.md; right: the table");
}

#[test]
fn the_variable_that_the_guest_reads_too_has_one_name() {
    assert_eq!(ktstr::assert::LOG_PASSES, LOG_PASSES.name());
}
