//! The page that `--html` writes: a check as one self-contained file without scripts. It has the content of the screen,
//! with longer lists: what is broken, known, slower than EEVDF, not promised or without an answer, each with its evidence and the
//! command that reproduces it.
//!
//! Texts come from guests, so they are escaped: a browser shows them and does not interpret them.

use std::fmt::Write;

use ktstr_record::brief::counted;

use super::report::{NotLoaded, Report, Row};
use crate::exit::Exit;
use crate::report::STYLE;
use crate::report::html::text;

/// The largest number of rows of a list on the page; the JSON has all rows.
const MOST: usize = 200;
/// The style rules of this page, which are added to those of the page of a run.
const MORE: &str = include_str!("assets/check.css");

/// A list of the page.
struct List<'a> {
    id: &'static str,
    title: &'static str,
    /// The explanation of the list.
    means: &'static str,
    /// The word for the list in the table of scenarios, and the CSS class of that word.
    state: (&'static str, &'static str),
    rows: &'a [Row],
}

/// Returns the lists, the most severe first.
fn lists(report: &Report) -> [List<'_>; 5] {
    [
        List {
            id: "broken",
            title: "Broken",
            means: "The kernel, the exact schedule or a worker proves it, and EEVDF passed with the same seed.",
            state: ("broken", "bad"),
            rows: &report.broken,
        },
        List {
            id: "known",
            title: "Known",
            means: "It is broken, but ktstr.toml lists it as a known failure until a date.",
            state: ("known", "doubt"),
            rows: &report.known,
        },
        List {
            id: "slower",
            title: "Slower than EEVDF",
            means: "A latency or a rate is worse than EEVDF's with every seed, or misses a bound that EEVDF keeps. No promise is broken.",
            state: ("slower", "doubt"),
            rows: &report.slower,
        },
        List {
            id: "not-promised",
            title: "Not promised",
            means: "This does not count against the scheduler; each finding says why.",
            state: ("not promised", ""),
            rows: &report.not_promised,
        },
        List {
            id: "no-answer",
            title: "No answer",
            means: "These runs are inconclusive about the scheduler.",
            state: ("no answer", "doubt"),
            rows: &report.no_answer,
        },
    ]
}

/// Renders the page of a check: one HTML file that needs no other.
pub fn render(report: &Report) -> String {
    let lists = lists(report);
    let mut body = top(report);
    let mut nav = String::new();
    let mut main = String::new();
    if !report.not_loaded.is_empty() {
        nav.push_str(&link(
            "not-loaded",
            "Does not load",
            report.not_loaded.len(),
        ));
        main.push_str("<section id=\"not-loaded\" class=\"not-loaded\"><h2>Does not load</h2>\n");
        for kernel in &report.not_loaded {
            not_loaded(&mut main, kernel);
        }
        main.push_str("</section>\n");
    }
    for list in lists.iter().filter(|list| !list.rows.is_empty()) {
        nav.push_str(&link(list.id, list.title, list.rows.len()));
        section(&mut main, list);
    }
    nav.push_str("<a href=\"#scenarios\">Scenarios</a>");
    main.push_str(&scenarios(report, &lists));
    let _ = write!(
        body,
        "<nav aria-label=\"Sections\">{nav}</nav></header><main>\n{main}</main>\n"
    );
    document(&report.scheduler.path.display().to_string(), &body)
}

fn link(id: &str, title: &str, count: usize) -> String {
    format!("<a href=\"#{id}\">{title} ({count})</a>")
}

/// Returns the page around `body`. Its content security policy allows no loading and no scripts, and only the style that
/// carries the nonce, which a guest cannot guess because it is a hash of the body.
fn document(title: &str, body: &str) -> String {
    let nonce = blake3::hash(body.as_bytes()).to_hex();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'nonce-{nonce}'; \
         base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{} - ktstr check</title>\n<style nonce=\"{nonce}\">\n{STYLE}{MORE}</style></head><body>\n{body}</body></html>\n",
        text(title)
    )
}

/// Returns the top of the page: the verdict, the scheduler, and what was run.
fn top(report: &Report) -> String {
    let (class, word) = match report.code() {
        Exit::Done => ("pass", "nothing broken"),
        Exit::Failed => ("fail", "broken"),
        Exit::Host => ("inconclusive", "no answer"),
    };
    let scheduler = std::iter::once(report.scheduler.path.display().to_string())
        .chain(report.scheduler.args.iter().cloned())
        .collect::<Vec<_>>()
        .join(" ");
    let mut out = format!(
        "<a class=\"skip\" href=\"#scenarios\">Skip to the scenarios</a><header>\n\
         <p class=\"verdict {class}\">{word}</p><h1>{}</h1>\n<dl>",
        text(&scheduler)
    );
    let [first, end] = report.seeds;
    let [made, kept] = report.eevdf_runs;
    let mut facts = vec![
        ("level", report.level.to_owned()),
        ("kernels", report.kernels.join(", ")),
        ("shapes", report.topologies.join(", ")),
        ("seeds", format!("{first} to {}", end.saturating_sub(1))),
        (
            "runs",
            format!(
                "{}: {} judged, {} of them sound; {} not for this shape, {} left out because the time was over",
                report.runs, report.judged, report.sound, report.skipped, report.not_started
            ),
        ),
        (
            "EEVDF",
            format!(
                "{} with the same seeds, {kept} cached",
                counted(made, "run")
            ),
        ),
        ("wall time", format!("{:.0} s", report.wall_s)),
        ("BLAKE3", report.scheduler.hash.clone()),
    ];
    facts.extend(report.shard.clone().map(|shard| ("shard", shard)));
    for (name, value) in facts {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", text(&value));
    }
    out.push_str("</dl>\n");
    for kernel in &report.missing_kernels {
        let _ = writeln!(out, "<p class=\"note\">Not run: {}</p>", text(kernel));
    }
    for unseen in &report.unseen {
        let _ = writeln!(out, "<p class=\"note\">Known failure, {}</p>", text(unseen));
    }
    out
}

fn not_loaded(out: &mut String, kernel: &NotLoaded) {
    let fault = match kernel.blamed {
        true => "",
        false => ", and that is not the scheduler's fault",
    };
    let _ = writeln!(
        out,
        "<article><h3>On {}{fault}</h3><pre>{}</pre>",
        text(&kernel.kernel),
        text(&kernel.reason.join("\n"))
    );
    command(out, &kernel.again);
    record(out, kernel.record.as_deref());
    out.push_str("</article>\n");
}

fn section(out: &mut String, list: &List<'_>) {
    let List {
        id,
        title,
        means,
        rows,
        ..
    } = list;
    let _ = writeln!(
        out,
        "<section id=\"{id}\" class=\"{id}\"><h2>{title}</h2>\n<p class=\"kind\">{means}</p>"
    );
    for row in rows.iter().take(MOST) {
        let _ = writeln!(
            out,
            "<article><h3>{}: {}</h3><p><small>{} {}, {} of {}</small></p>\n<p>{}</p><p><small>{}</small></p>",
            text(&row.scenario),
            text(&row.check),
            text(&row.kernel),
            text(&row.topology),
            row.seeds.len(),
            counted(row.of, "seed"),
            text(&row.message),
            text(&reason(row))
        );
        command(out, &row.again);
        record(out, row.record.as_deref());
        out.push_str("</article>\n");
    }
    if rows.len() > MOST {
        let _ = writeln!(
            out,
            "<p class=\"note\">{} more: the file of --json has all.</p>",
            rows.len() - MOST
        );
    }
    out.push_str("</section>\n");
}

/// Returns why a row is in its list.
fn reason(row: &Row) -> String {
    match &row.known {
        Some(known) if known.expired => format!(
            "It was known until {} ({}). That day is over, so it counts again.",
            known.expires, known.reason
        ),
        Some(known) => format!("Until {}: {}", known.expires, known.reason),
        None => row.why.clone(),
    }
}

fn command(out: &mut String, again: &str) {
    let _ = writeln!(out, "<pre>{}</pre>", text(again));
}

fn record(out: &mut String, record: Option<&std::path::Path>) {
    if let Some(record) = record {
        let shown = text(&record.display().to_string());
        let _ = writeln!(out, "<p><small>Record: {shown}</small></p>");
    }
}

/// Returns a table with a row per scenario: the most severe finding on each kernel, over all shapes and seeds.
fn scenarios(report: &Report, lists: &[List<'_>]) -> String {
    let mut out = String::from(
        "<section id=\"scenarios\"><h2>Scenarios</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" \
         aria-label=\"Scenarios\"><table><thead><tr><th scope=\"col\">scenario</th>",
    );
    for kernel in &report.kernels {
        let _ = write!(out, "<th scope=\"col\">{}</th>", text(kernel));
    }
    out.push_str("</tr></thead><tbody>");
    for scenario in &report.scenarios {
        let _ = write!(out, "<tr><td>{}</td>", text(scenario));
        for kernel in &report.kernels {
            let here = |row: &Row| (&row.scenario, &row.kernel) == (scenario, kernel);
            let cell = (scenario.clone(), kernel.clone());
            let of_kernel = report.not_loaded.iter().any(|one| one.kernel == *kernel);
            let refused =
                report.refused.contains(&cell) || of_kernel && !report.ran.contains(&cell);
            let found = lists.iter().find(|list| list.rows.iter().any(here));
            let (word, class) = match (found, refused) {
                (Some(list), _) => list.state,
                (None, true) => ("does not load", "bad"),
                (None, false) if !report.ran.contains(&cell) => ("not run", ""),
                (None, false) => ("nothing found", "good"),
            };
            let _ = write!(out, "<td class=\"state {class}\">{word}</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div></section>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::super::config::Config;
    use super::super::report::tests::{mixed, report};
    use super::super::testing::{failed, pair, passed};
    use super::*;
    use crate::cell::Proof;

    #[test]
    fn a_page_has_every_list_with_evidence_and_command_and_loads_nothing() {
        let page = render(&report(mixed(), &Config::default()));
        for part in [
            "<p class=\"verdict fail\">broken</p>",
            "<section id=\"broken\" class=\"broken\">",
            "<h3>steady: starvation</h3>",
            "the exact schedule is the evidence",
            "<pre>cargo ktstr check ./scx_mine --scenarios steady --kernels 7.3.4-ab --seeds 1..2 -- --fast</pre>",
            "<section id=\"not-promised\"",
            "<section id=\"no-answer\"",
            "<td class=\"state bad\">broken</td>",
            "<td class=\"state good\">nothing found</td>",
            "prefers-color-scheme: dark",
            "width=device-width",
        ] {
            assert!(page.contains(part), "there is no {part:?} in {page}");
        }
        for loads in [
            "http:",
            "https:",
            "src=",
            "@import",
            "url(",
            "<script",
            "id=\"slower\"",
        ] {
            assert!(!page.contains(loads), "the page has {loads}");
        }
    }

    #[test]
    fn text_of_a_guest_is_not_markup() {
        let mut ours = failed("</style><script>alert(1)</script>", Proof::Schedule);
        ours.findings[0].message = "<img onerror=x>\u{1b}[2J\u{202e}&".to_owned();
        let mut refused = failed("scheduler not attached", Proof::Kernel);
        refused.details = vec!["R1 <b> \"invalid\"".to_owned()];
        let pairs = vec![
            pair("steady", 1, ours, passed()),
            pair("sweep", 1, refused, passed()),
        ];
        let page = render(&report(pairs, &Config::default()));
        assert!(page.contains("&lt;img onerror=x&gt;"), "{page}");
        assert!(page.contains("R1 &lt;b&gt; &quot;invalid&quot;"), "{page}");
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<b>"));
        assert!(!page.contains(['\u{1b}', '\u{202e}']));
        assert_eq!(page.matches("</style>").count(), 1);
    }

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let broken = || failed("starvation", Proof::Schedule);
        let pairs = (0..MOST + 5).map(|n| pair(&format!("s{n}"), 1, broken(), passed()));
        let page = render(&report(pairs.collect(), &Config::default()));
        assert!(page.contains("5 more: the file of --json has all."));
        assert_eq!(page.matches("<article>").count(), MOST);
    }

    #[test]
    fn a_load_that_failed_once_does_not_mark_the_other_scenarios() {
        let refused = failed("scheduler not attached", Proof::Kernel);
        let pairs = vec![
            pair("sound", 1, passed(), passed()),
            pair("heavy", 1, refused, passed()),
        ];
        let rows = scenarios(&report(pairs, &Config::default()), &[]);
        let row = |name: &str| {
            rows.lines()
                .find(|line| line.contains(name))
                .expect("a row")
        };
        assert!(row("<td>sound").contains("nothing found"), "{rows}");
        assert!(row("<td>heavy").contains("does not load"), "{rows}");
    }

    #[test]
    fn a_scenario_without_a_run_is_not_good() {
        let mut report = report(mixed(), &Config::default());
        let ran = scenarios(&report, &[]);
        assert!(
            ran.contains("nothing found") && !ran.contains("not run"),
            "{ran}"
        );
        report.scenarios.push("left_out".to_owned());
        let left_out = scenarios(&report, &[]);
        let row = left_out.lines().find(|line| line.contains("left_out"));
        assert!(row.is_some_and(|row| row.contains("not run")), "{left_out}");
    }
}
