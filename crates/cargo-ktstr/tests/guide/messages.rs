//! Every message that the page on troubleshooting quotes is one that the code prints.

use std::fs;
use std::path::Path;

use ktstr_state::arch;

use super::pages::{fenced, root};

/// The number of bytes of source text within which all parts of a message must be.
const NEAR: usize = 600;

/// Adds the sources below `folder` to `all`, without their tests. Strings that continue on the next line are joined, and the
/// names that depend on the architecture are filled in.
fn sources(folder: &Path, all: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            sources(&path, all);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let mut parts = code.split("\\\n");
            let mut joined = parts.next().unwrap().to_owned();
            parts.for_each(|part| joined.push_str(part.trim_start()));
            let joined = joined.replace("{QEMU}", arch::QEMU);
            all.push(joined.replace("{IMAGE}", arch::IMAGE));
        }
    }
}

/// Returns whether the parts of `message`, which `…` separates, lie near each other in `source` and in this order.
fn is_in(source: &str, message: &str) -> bool {
    let parts: Vec<&str> = message
        .split('…')
        .map(str::trim)
        .filter(|p| !p.is_empty())
        .collect();
    let first = parts.first().expect("a message with words");
    source.match_indices(first).any(|(start, _)| {
        let mut end = start + NEAR.min(source.len() - start);
        while !source.is_char_boundary(end) {
            end -= 1;
        }
        let mut rest = &source[start..end];
        parts.iter().all(|part| match rest.split_once(part) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    })
}

#[test]
fn every_message_of_the_page_on_troubleshooting_is_printed_by_the_code() {
    let mut all = Vec::new();
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        sources(&entry.unwrap().path().join("src"), &mut all);
    }
    let page = fs::read_to_string(root().join("docs/guide/troubleshooting.md")).unwrap();
    let messages = fenced(&page, "text");
    assert!(messages.len() >= 15, "only {} messages", messages.len());
    let unknown: Vec<_> = messages
        .iter()
        .filter(|message| !all.iter().any(|source| is_in(source, message)))
        .collect();
    assert!(unknown.is_empty(), "no code prints these: {unknown:#?}");
}

#[test]
fn a_message_with_another_word_is_not_found() {
    let source = "f(\"no kernel{}, and it is cold\")";
    assert!(is_in(source, "no kernel…, and it is cold"));
    assert!(!is_in(source, "no kernel…, and it is warm"));
    assert!(!is_in(source, ", and it is cold… no kernel"));
}
