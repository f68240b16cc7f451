//! Relative links lead to files and to headings, and the table of contents has every page of the guide exactly once.

use std::fs;
use std::path::Path;

use super::pages::{guide, markdown, prose, root};

/// Returns the targets of the links in the prose, without those to other sites.
fn targets(markdown: &str) -> Vec<String> {
    let prose = prose(markdown);
    let after = prose.split("](").skip(1);
    let targets = after.filter_map(|rest| rest.split(')').next());
    targets
        .filter(|target| !target.contains("://"))
        .map(str::to_owned)
        .collect()
}

/// Returns the name by which a heading can be linked to.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}

fn has_heading(markdown: &str, wanted: &str) -> bool {
    let prose = prose(markdown);
    let mut headings = prose.lines().filter(|line| line.starts_with('#'));
    headings.any(|line| anchor(line.trim_start_matches('#')) == wanted)
}

/// Returns the links in `text`, the content of a page in `folder`, that lead nowhere.
fn dead(folder: &Path, text: &str) -> Vec<String> {
    let leads_nowhere = |target: &String| {
        let (file, heading) = target.split_once('#').unwrap_or((target, ""));
        let linked = match file {
            "" => Some(text.to_owned()),
            file => {
                let path = folder.join(file);
                if heading.is_empty() {
                    return !path.exists();
                }
                fs::read_to_string(path).ok()
            }
        };
        !linked.is_some_and(|linked| has_heading(&linked, heading))
    };
    targets(text).into_iter().filter(leads_nowhere).collect()
}

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() {
    let mut links = 0;
    for page in markdown() {
        links += targets(&page.text).len();
        let dead = dead(page.path.parent().unwrap(), &page.text);
        assert!(dead.is_empty(), "{}: {dead:?}", page.path.display());
    }
    assert!(links >= 40, "only {links} links were found");
}

#[test]
fn a_dead_link_is_found() {
    let text = "# A heading, here\n[a](check.md) [b](chekc.md) [c](#a-heading-here) [d](#none) [e](check.md#none) \
                [f](https://example.org/none)\n```sh\n[g](none)\n```\n";
    let found = dead(&root().join("docs"), text);
    assert_eq!(found, ["chekc.md", "#none", "check.md#none"]);
}

/// Returns what is wrong with this table of contents, for a guide that has these files.
fn misplaced(summary: &str, pages: &[String]) -> Vec<String> {
    let listed = targets(summary);
    let mut faults = Vec::new();
    for page in pages {
        let times = listed.iter().filter(|target| *target == page).count();
        if times != 1 {
            faults.push(format!("{page} is listed {times} times"));
        }
    }
    let unknown = listed.iter().filter(|target| !pages.contains(target));
    faults.extend(unknown.map(|target| format!("{target} is no page of the guide")));
    faults
}

#[test]
fn every_page_is_in_the_table_of_contents_once() {
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let pages: Vec<String> = guide().iter().map(|page| name(&page.path)).collect();
    assert!(pages.len() >= 10, "{pages:?}");
    let summary = fs::read_to_string(root().join("docs/guide/SUMMARY.md")).unwrap();
    assert_eq!(misplaced(&summary, &pages), Vec::<String>::new());
    let entries = summary
        .lines()
        .filter(|line| line.starts_with("- ["))
        .count();
    assert_eq!(
        entries,
        pages.len(),
        "a line of SUMMARY.md is no entry for mdBook"
    );
    let book = fs::read_to_string(root().join("docs/book.toml")).unwrap();
    assert!(book.contains("\nsrc = \"guide\"\n"), "{book}");
}

#[test]
fn a_missing_and_a_doubled_page_are_found() {
    let pages = ["a.md", "b.md", "c.md"].map(str::to_owned);
    let found = misplaced(
        "- [A](a.md)\n- [B](b.md)\n- [B](b.md)\n- [D](d.md)\n",
        &pages,
    );
    assert_eq!(
        found,
        [
            "b.md is listed 2 times",
            "c.md is listed 0 times",
            "d.md is no page of the guide"
        ]
    );
}
