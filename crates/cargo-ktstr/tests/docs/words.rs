//! Tests the form of comments and pages: that lines are not too long, and that a doc comment is more than a name. The words
//! themselves are checked by the spell check of `make lint` and by readers.

use std::fs;
use std::path::{Path, PathBuf};

/// The greatest length of a line in characters. rustfmt breaks code at a smaller width, and does not break comments and literals.
const WIDTH: usize = 130;
/// The least number of words of a doc comment; a shorter one only repeats a name.
const FEWEST_WORDS: usize = 3;
/// Pages that a command writes. Their lines may be longer, because they contain messages of runs.
const WRITTEN_BY_COMMANDS: &[&str] =
    &["docs/power.md", "docs/power-plain.md", "docs/schedulers.md"];

/// Returns the Rust source `text` without the contents of its string literals; comments and line breaks stay.
fn without_literals(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let taken = if rest.starts_with("//") {
            let comment = rest.lines().next().unwrap_or_default();
            out.push_str(comment);
            comment.len()
        } else if c == '"' {
            let before = out.trim_end_matches('#');
            let end = match before.ends_with('r') {
                true => format!("\"{}", "#".repeat(out.len() - before.len())),
                false => "\"".to_owned(),
            };
            let length = literal(&rest[1..], &end, !before.ends_with('r'));
            let breaks = rest[..length].matches('\n').count();
            out.push_str(&"\n".repeat(breaks));
            length
        } else if c == '\'' {
            let length = character(rest);
            out.push_str(&rest[..length]);
            length
        } else {
            out.push(c);
            c.len_utf8()
        };
        rest = &rest[taken..];
    }
    out
}

/// Returns the length in bytes of a literal whose opening quote is followed by `rest`. The length includes both quotes.
fn literal(rest: &str, end: &str, escapes: bool) -> usize {
    let mut at = 0;
    while let Some(c) = rest[at..].chars().next() {
        if rest[at..].starts_with(end) {
            return 1 + at + end.len();
        }
        at += c.len_utf8();
        if escapes && c == '\\' {
            at += rest[at..].chars().next().map_or(0, char::len_utf8);
        }
    }
    1 + at
}

/// Returns the length in bytes of the character literal at the start of `rest`. For a lifetime, returns 1, to skip its quote.
fn character(rest: &str) -> usize {
    let inner = &rest[1..];
    let (first, escaped) = (inner.chars().next(), inner.starts_with('\\'));
    let length = match first {
        Some(_) if escaped => 1 + inner[1..].chars().next().map_or(0, char::len_utf8),
        Some(c) => c.len_utf8(),
        None => return 1,
    };
    match inner[length..].find('\'') {
        Some(more) if more == 0 || escaped => 1 + length + more + 1,
        _ => 1,
    }
}

/// Returns the numbers of the lines that are too long. A line with a URL may be longer. In Rust, string literals do not count:
/// a message that is broken over two lines cannot be found by a search for its words.
fn long_lines(name: &str, text: &str) -> Vec<usize> {
    let is_page = name.ends_with(".md");
    let text = match is_page {
        true => text.to_owned(),
        false => without_literals(text),
    };
    let mut is_block = false;
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let start = line.trim_start();
        is_block ^= is_page && start.starts_with("```");
        // What a program printed, and rows of tables, cannot be broken.
        let is_row = start.trim_start_matches(['/', '!', ' ']).starts_with('|');
        let whole = is_block || is_row;
        if line.chars().count() > WIDTH && !whole && !line.contains("://") {
            found.push(index + 1);
        }
    }
    found
}

/// Returns the numbers of the lines at which doc comments with fewer than [`FEWEST_WORDS`] words begin.
fn short_docs(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let (mut kind, mut words, mut start) = (None, 0, 0);
    let text = without_literals(text);
    for (index, line) in text.lines().chain([""]).enumerate() {
        let line = line.trim_start();
        let now = ["///", "//!"]
            .into_iter()
            .find(|mark| line.starts_with(mark) && !line.starts_with("////"));
        if now != kind {
            if kind.is_some() && words < FEWEST_WORDS {
                found.push(start);
            }
            (kind, words, start) = (now, 0, index + 1);
        }
        words += line.split_whitespace().count();
        words -= usize::from(now.is_some());
    }
    found
}

/// Returns the path in the project and the text of every file whose name ends with `.rs` or `.md`.
pub(super) fn files() -> Vec<(String, String)> {
    let root = super::root();
    let mut folders: Vec<PathBuf> = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".rs") || name.ends_with(".md") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((relative(&path, &root), text));
            }
        }
    }
    files
}

fn relative(path: &Path, root: &Path) -> String {
    let path = path.strip_prefix(root).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn no_line_is_too_long() {
    let files = files();
    assert!(files.iter().any(|(name, _)| name == "README.md"));
    let lines: Vec<String> = files
        .iter()
        .filter(|(name, _)| !WRITTEN_BY_COMMANDS.contains(&name.as_str()))
        .flat_map(|(name, text)| {
            let lines = long_lines(name, text);
            lines.into_iter().map(move |line| format!("{name}:{line}"))
        })
        .collect();
    assert!(
        lines.is_empty(),
        "these have more than {WIDTH} characters: {lines:#?}"
    );
}

#[test]
fn no_doc_comment_is_one_word_or_two() {
    let docs: Vec<String> = files()
        .iter()
        .filter(|(name, _)| name.ends_with(".rs"))
        .flat_map(|(name, text)| {
            let lines = short_docs(text);
            lines.into_iter().map(move |line| format!("{name}:{line}"))
        })
        .collect();
    assert!(
        docs.is_empty(),
        "these doc comments have fewer than {FEWEST_WORDS} words: {docs:#?}"
    );
}

#[test]
fn a_long_line_is_found() {
    let long = "a ".repeat(66);
    for (name, text, found) in [
        ("a.rs", format!("// short\n// {long}\n"), &[2][..]),
        ("a.rs", format!("f(\n{long})\n"), &[2]),
        ("a.rs", format!("f(\"{long}\")\n"), &[]),
        ("a.rs", format!("f(r#\"\"\n{long}\"#)\n// {long}\n"), &[3]),
        ("a.rs", format!("f('\"', '\\'', &'a x)\n// {long}\n"), &[2]),
        ("a.rs", format!("f(\"\\\"\\\n {long}\"); // {long}\n"), &[2]),
        ("a.rs", format!("/// | {long} |\n"), &[]),
        ("a.rs", format!("// https://example.org/ {long}\n"), &[]),
        ("a.md", format!("\"{long}\"\n"), &[1]),
        ("a.md", format!("| {long} |\n"), &[]),
        ("a.md", format!("```\n{long}\n```\n{long}\n"), &[4]),
    ] {
        assert_eq!(long_lines(name, &text), found, "{text}");
    }
}

#[test]
fn a_doc_comment_without_words_is_found() {
    for (text, found) in [
        ("/// The seed.\nfn a() {}\n", &[1][..]),
        ("//! Seeds.\n\n/// The seed of a run.\n", &[1]),
        ("/// The\n/// seed\n/// of a run.\n", &[]),
        ("    ///\n    fn a() {}\n", &[1]),
        ("// Short.\n//// Not one.\n", &[]),
        ("f(\"\n/// Short.\n\")\n/// Short, too.\n", &[4]),
        ("f()\n/// Last.", &[2]),
    ] {
        assert_eq!(short_docs(text), found, "{text}");
    }
}
