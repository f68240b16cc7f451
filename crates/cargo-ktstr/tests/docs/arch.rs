//! Tests that the head of `ktstr_state::arch`, which is the recipe for a port to another architecture, lists all files with code
//! that depends on the architecture: no other file names the architecture in its code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::environment::schedulers;
use super::{root, sources};

const HOME: &str = "crates/ktstr-state/src/arch.rs";
/// Words that only code for one architecture has, in lower case: names of the architecture, of its devices and of its files,
/// inline assembly, and the start of kernel addresses.
const WORDS: &[&str] = &[
    "x86",
    "amd64",
    "target_arch",
    "std::arch",
    "asm!",
    "genuineintel",
    "authenticamd",
    "q35",
    "isa-serial",
    "ttys0",
    "bzimage",
    "0xffff_8",
    "0xffff_ffff_8",
];
/// Files that may name the architecture although they have no code for it, and why.
const ALLOWED: &[(&str, &str)] = &[
    (HOME, "The names are here."),
    (
        "crates/ktstr-state/src/env/table.rs",
        "The table has the texts of README.md and of doc comments, which have to be literals, so they cannot use the names.",
    ),
];

/// Returns the files that the recipe lists: the paths in its items.
fn recipe() -> BTreeSet<PathBuf> {
    let text = fs::read_to_string(root().join(HOME)).unwrap();
    let head = text.lines().map_while(|line| line.strip_prefix("//!"));
    let paths = head.flat_map(|line| line.split('`').skip(1).step_by(2).map(str::to_owned));
    paths
        .filter(|path| path.starts_with("crates/"))
        .map(PathBuf::from)
        .collect()
}

/// Returns whether a file has only tests, or values for tests.
fn is_test(path: &Path) -> bool {
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let folder = path.parent().unwrap();
    matches!(stem, "tests" | "testing")
        || stem.starts_with("tests_")
        || stem.ends_with("_tests")
        || folder.iter().any(|name| name == "tests")
}

/// Returns the lines of the Rust source `text` that have one of [`WORDS`] outside of comments and of items for tests.
fn naming(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            let indent = &line[..line.len() - line.trim_start().len()];
            // An item ends at the first line that is indented like the attribute and ends with `;` or `}`.
            let is_end = |line: &&str| {
                let own = line.strip_prefix(indent);
                let is_own = own.is_some_and(|own| !own.starts_with(' '));
                is_own && line.ends_with([';', '}'])
            };
            lines.find(is_end);
            continue;
        }
        let is_comment = line.trim_start().starts_with("//");
        let code = line.split(" // ").next().unwrap_or_default();
        let code = code.to_lowercase();
        if !is_comment && WORDS.iter().any(|word| code.contains(word)) {
            found.push(line.trim());
        }
    }
    found
}

#[test]
fn code_that_names_the_architecture_is_recognised() {
    for (text, found) in [
        ("let a = \"qemu-system-x86_64\";", 1),
        ("#[cfg(not(target_arch = \"x86_64\"))]", 1),
        ("    core::arch::asm!(", 1),
        ("let a = b; // as on x86", 0),
        ("    // as on x86\n/// and amd64\n//! and q35", 0),
        ("#[cfg(test)]\nmod tests {\n    \"amd64\"\n}\n\"amd64\"", 1),
        (
            "#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;\n\"amd64\"",
            1,
        ),
        (
            "impl A {\n    #[cfg(test)]\n    fn f() {\n        \"q35\"\n    }\n    \"q35\"\n}",
            1,
        ),
        ("const A: u64 = 0xFFFF_8880_0000_0000;", 1),
        ("use ktstr_state::arch;", 0),
    ] {
        assert_eq!(naming(text).len(), found, "{text}");
    }
}

#[test]
fn every_file_of_the_recipe_is_there() {
    let recipe = recipe();
    assert!(!recipe.is_empty(), "{HOME} lists no file");
    for path in recipe {
        let is_file = root().join(&path).is_file();
        assert!(
            is_file,
            "{HOME} lists {}, which is not there",
            path.display()
        );
    }
}

#[test]
fn only_the_files_of_the_recipe_name_the_architecture() {
    let mut files = sources();
    files.extend(schedulers());
    let plugin = fs::read_dir(root().join("crates/ktstr-machine/plugin")).unwrap();
    files.extend(plugin.map(|entry| entry.unwrap().path()));
    let recipe = recipe();
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in files {
        let path = file.strip_prefix(root()).unwrap();
        if is_test(path) || recipe.contains(path) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let lines = naming(&text);
        match ALLOWED
            .iter()
            .find(|(allowed, _)| path == Path::new(allowed))
        {
            Some((allowed, _)) if !lines.is_empty() => {
                used.insert(*allowed);
            }
            _ => wrong.extend(
                lines
                    .iter()
                    .map(|line| format!("{}: {line}", path.display())),
            ),
        }
    }
    assert!(
        wrong.is_empty(),
        "these lines name the architecture: {wrong:#?}\nTake the name from {HOME}; if the file has code of its own for the \
         architecture, add its path to the recipe at the head of {HOME}"
    );
    for (allowed, _) in ALLOWED {
        assert!(
            used.contains(allowed),
            "{allowed} no longer names the architecture: remove it from `ALLOWED`"
        );
    }
}
