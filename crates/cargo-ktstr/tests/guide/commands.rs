//! Every call of `cargo ktstr` on the pages names a subcommand and options that the built command has.

use std::collections::BTreeMap;
use std::process::Command;

use super::pages::{examples, fenced, markdown};

/// The text with which every call of the command begins.
const CALL: &str = "cargo ktstr ";

/// A cache of help texts. A key is the words of a subcommand, and its value is the help text, or `None` if there
/// is no such subcommand.
#[derive(Default)]
struct Helps(BTreeMap<String, Option<String>>);

impl Helps {
    fn of(&mut self, words: &[&str]) -> Option<&str> {
        let asked = self.0.entry(words.join(" ")).or_insert_with(|| {
            let output = Command::new(env!("CARGO_BIN_EXE_cargo-ktstr"))
                .arg("ktstr")
                .args(words)
                .arg("--help")
                .output()
                .unwrap();
            let help = String::from_utf8(output.stdout).unwrap();
            output.status.success().then_some(help)
        });
        asked.as_deref()
    }
}

/// Returns the options that a help text defines, with their aliases. Options that it merely mentions are not among them.
fn options(help: &str) -> Vec<&str> {
    let mut all = Vec::new();
    for line in help.lines().filter(|line| line.starts_with(' ')) {
        let words = line.split_whitespace();
        all.extend(
            words
                .take_while(|word| word.starts_with('-'))
                .map(|word| word.trim_end_matches(',')),
        );
        if let Some((_, rest)) = line.split_once("[alias: ") {
            all.extend(rest.split([']', ',']).next());
        }
    }
    all
}

/// Returns the words of a call up to the end of the command or to `--`, after which the scheduler's own arguments follow.
fn words(call: &str) -> Vec<&str> {
    let ends = ["&&", "||", "|", "&", ";", "--", ">", "2>&1"];
    call.split_whitespace()
        .take_while(|word| !ends.contains(word) && !word.starts_with('#'))
        .map(|word| word.trim_matches(['"', '\'', ';']))
        .collect()
}

/// Returns what is wrong with the calls in these lines.
fn faults(lines: &[&str], helps: &mut Helps) -> Vec<String> {
    let mut faults = Vec::new();
    for line in lines
        .iter()
        .filter(|line| !line.trim_start().starts_with('#'))
    {
        for call in line.split(CALL).skip(1) {
            let words = words(call);
            let nested = matches!(words.first(), Some(&"kernel" | &"cache"));
            let named = words.len().min(if nested { 2 } else { 1 });
            let Some(help) = helps.of(&words[..named]) else {
                faults.push(format!("no such subcommand: {line}"));
                continue;
            };
            let known = options(help);
            for word in words[named..].iter().filter(|word| word.starts_with('-')) {
                let option = word.split('=').next().unwrap();
                if !known.contains(&option) {
                    faults.push(format!("no option {option}: {line}"));
                }
            }
        }
    }
    faults
}

#[test]
fn every_call_names_a_subcommand_and_options_that_exist() {
    let mut helps = Helps::default();
    let mut wrong = Vec::new();
    let mut calls = 0;
    let pages = markdown();
    let examples = examples();
    let of_pages = pages.iter().map(|page| (page, fenced(&page.text, "sh")));
    let of_examples = examples
        .iter()
        .map(|page| (page, page.text.lines().collect()));
    for (page, lines) in of_pages.chain(of_examples) {
        let here = lines.iter().filter(|line| line.contains(CALL)).count();
        assert!(here > 0 || !page.path.components().any(|part| part.as_os_str() == "ci"));
        calls += here;
        for fault in faults(&lines, &mut helps) {
            wrong.push(format!("{}: {fault}", page.path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(calls >= 40, "only {calls} calls were found");
}

#[test]
fn a_wrong_call_is_found() {
    let mut helps = Helps::default();
    for (line, fault) in [
        ("cargo ktstr chekc ./a", "no such subcommand"),
        ("cargo ktstr kernel drop 7.3", "no such subcommand"),
        ("cargo ktstr kernel list --all", "no option --all"),
        // The help of `compare` mentions `--results`, as an option of `check`.
        ("cargo ktstr compare a b --results c", "no option --results"),
        (
            "A=1 cargo ktstr check ./a --seed=3 || true",
            "no option --seed",
        ),
        ("cargo ktstr runs -n 5", "no option -n"),
    ] {
        let found = faults(&[line], &mut helps);
        assert!(
            found.len() == 1 && found[0].starts_with(fault),
            "{line}: {found:?}"
        );
    }
    for right in [
        "cargo ktstr check ./a --kernel 7.3 --seeds=3 -- --own  # a comment --wrong",
        "cargo ktstr explore fair -j 2 --seeds 0..5 && cargo ktstr kernel clean --keep 3",
        "# cargo ktstr nothing",
    ] {
        assert_eq!(
            faults(&[right], &mut helps),
            Vec::<String>::new(),
            "{right}"
        );
    }
}
