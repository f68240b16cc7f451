//! Tests of the whole page, with hand-written schedules.
#![allow(clippy::unwrap_used)]

use ktstr_record::FindingRecord;

use super::*;
use crate::story::testing;

fn record() -> RunRecord {
    RunRecord {
        verdict: RunVerdict::Fail,
        findings: vec![FindingRecord {
            outcome: "fail".to_owned(),
            check: "starved".to_owned(),
            message: "</script>[7] waited <b>\nfor long".to_owned(),
            phase: Some("Step[1]".to_owned()),
            data: serde_json::json!({ "starved": { "task": "</script>[7]", "from_ms": 51, "waited_ms": 29 } }),
            ..FindingRecord::default()
        }],
        ..RunRecord::new("two</title>steps")
    }
}

fn made(story: Option<&Story>) -> String {
    let folder = tempfile::tempdir().unwrap();
    page(&record(), story, folder.path())
}

#[test]
fn a_page_has_its_parts_and_loads_nothing() {
    let page = made(Some(&testing::story()));
    for part in [
        "<!doctype html>",
        "<p class=\"verdict fail\">fail</p>",
        "two&lt;/title&gt;steps failed",
        "data-mark=\"0\">Show 1</button>",
        "id=\"timeline\"",
        "<canvas",
        "Cgroups, Step[0]",
        "Waits, all tasks",
        "Tasks, the whole run",
        "id=\"logs\"",
        "prefers-color-scheme: dark",
    ] {
        assert!(page.contains(part), "there is no {part:?} in the page");
    }
    for loads in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(loads), "the page loads something: {loads}");
    }
}

#[test]
fn each_part_of_a_page_says_what_an_incomplete_schedule_covers() {
    let page = made(Some(&Story::read(&testing::thinned()).unwrap()));
    let covers = "it is complete only from 0.040000 s to 0.080000 s";
    for id in ["timeline", "cgroups", "waits", "tasks"] {
        let (_, section) = page.split_once(&format!("<section id=\"{id}\">")).unwrap();
        let (section, _) = section.split_once("</section>").unwrap();
        assert!(section.contains(covers), "{section}");
    }
    assert!(!made(Some(&testing::story())).contains("size limit"));
}

#[test]
fn what_a_guest_says_cannot_leave_its_place() {
    let page = made(Some(&testing::story()));
    // Only the page's own two scripts have an end tag, although the name of the task is `</script>`.
    assert_eq!(page.matches("</script>").count(), 2);
    assert_eq!(page.matches("<script").count(), 2);
    assert!(page.contains("<title>two&lt;/title&gt;steps - ktstr</title>"));
    assert!(!page.contains("<b>") && !page.contains('\u{202e}'));
    let (_, data) = page.split_once("id=\"data\">").unwrap();
    let (data, _) = data.split_once("</script>").unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["tasks"][0][0], "</script>[7]");
    assert_eq!(data["marks"][0]["from"], 60_000_000);
    assert_eq!(data["phases"][1]["name"], "Step[1]");
}

#[test]
fn a_run_without_a_schedule_has_a_page_too() {
    let page = made(None);
    assert!(page.contains("This run left no schedule"), "{page}");
    assert!(page.contains("id=\"data\">null</script>"), "{page}");
}

#[test]
fn a_long_run_stays_under_two_mebibytes_and_says_what_is_not_drawn() {
    let story = Story::read(&testing::long(1_000_000)).unwrap();
    let page = made(Some(&story));
    assert!(page.len() < 2 << 20, "{} bytes", page.len());
    assert!(page.contains("The schedule is larger than a page: "));
    // The space of the page is used: no more stretches are left out than necessary.
    assert!(page.len() > 200_000, "{} bytes", page.len());
}
