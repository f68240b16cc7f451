//! The files that users read, and the parts of them that the other modules check.

use std::fs;
use std::path::{Path, PathBuf};

/// A file that users read.
pub struct Page {
    /// The absolute path of the file.
    pub path: PathBuf,
    /// The whole content of the file.
    pub text: String,
}

/// Returns the root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn files(folder: &str, extensions: &[&str]) -> Vec<Page> {
    let folder = root().join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        let extension = path.extension().and_then(|e| e.to_str());
        extension.is_some_and(|e| extensions.contains(&e))
    });
    paths.sort();
    let page = |path: PathBuf| Page {
        text: fs::read_to_string(&path).unwrap(),
        path,
    };
    paths.into_iter().map(page).collect()
}

/// Returns the pages of the guide, without its table of contents.
pub fn guide() -> Vec<Page> {
    let mut pages = files("docs/guide", &["md"]);
    pages.retain(|page| !page.path.ends_with("SUMMARY.md"));
    pages
}

/// Returns the README and all pages in `docs` and `docs/guide`.
pub fn markdown() -> Vec<Page> {
    let path = root().join("README.md");
    let text = fs::read_to_string(&path).unwrap();
    let mut all = vec![Page { path, text }];
    all.extend(files("docs", &["md"]));
    all.extend(files("docs/guide", &["md"]));
    all
}

/// Returns the CI examples.
pub fn examples() -> Vec<Page> {
    files("docs/guide/ci", &["yml", "sh"])
}

/// Returns the lines in the fenced blocks of this language.
pub fn fenced<'a>(markdown: &'a str, language: &str) -> Vec<&'a str> {
    let mut inside = None;
    let mut lines = Vec::new();
    for line in markdown.lines() {
        match (line.trim_start().strip_prefix("```"), inside) {
            (Some(_), Some(_)) => inside = None,
            (Some(name), None) => inside = Some(name == language),
            (None, Some(true)) => lines.push(line),
            (None, _) => {}
        }
    }
    lines
}

/// Returns the text without its fenced blocks.
pub fn prose(markdown: &str) -> String {
    let mut inside = false;
    let mut text = String::new();
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[test]
fn blocks_are_distinguished_from_prose_and_from_each_other() {
    let text = "a\n```sh\nb\n```\nc\n```toml\nd\n```\n```sh\ne\n```\n";
    assert_eq!(fenced(text, "sh"), ["b", "e"]);
    assert_eq!(prose(text), "a\nc\n");
}
