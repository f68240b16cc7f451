//! The result as JUnit XML, as CI systems read it: a suite for each kernel and shape, a case for each scenario and seed.
//!
//! A kernel that is not available is an error. A case fails if the scheduler is broken or does not load. A known failure, an
//! inconclusive run, and a scenario that does not apply to the shape are skipped cases with their reasons. Texts come from
//! guests: characters that XML cannot hold are replaced by U+FFFD, and markup is escaped.

use std::collections::BTreeMap;
use std::fmt::Write;

use ktstr_record::RunVerdict;

use super::report::{Report, Row, actual_shape};
use super::sort::{Class, Finding, judge};
use super::walk::Pair;

/// Returns the text of the XML file: the suites of all kernels and shapes, with the pairs as their cases.
pub fn render(report: &Report, pairs: &[Pair]) -> String {
    let mut suites: BTreeMap<(String, String), Vec<&Pair>> = BTreeMap::new();
    for pair in pairs {
        let key = (pair.place.kernel.release.clone(), actual_shape(pair));
        suites.entry(key).or_default().push(pair);
    }
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for ((kernel, shape), pairs) in suites {
        let cases: Vec<(&Pair, End)> = pairs
            .into_iter()
            .map(|pair| (pair, End::of(report, pair)))
            .collect();
        let count = |wanted: fn(&End) -> bool| cases.iter().filter(|(_, end)| wanted(end)).count();
        let _ = writeln!(
            text,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\">",
            escaped(&format!("ktstr check {kernel} {shape}")),
            cases.len(),
            count(|end| matches!(end, End::Failed(..))),
            count(|end| matches!(end, End::Skipped(_))),
        );
        for (pair, end) in &cases {
            let _ = write!(
                text,
                "    <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"",
                escaped(&pair.place.scenario),
                escaped(&format!("{} seed {}", pair.place.scenario, pair.seed)),
                pair.ours.wall_s
            );
            let _ = match end {
                End::Passed => writeln!(text, "/>"),
                End::Skipped(why) => {
                    writeln!(text, "><skipped message=\"{}\"/></testcase>", escaped(why))
                }
                End::Failed(check, body) => writeln!(
                    text,
                    "><failure type=\"{}\" message=\"{}\">{}</failure></testcase>",
                    escaped(check),
                    escaped(body.lines().next().unwrap_or_default()),
                    escaped(body)
                ),
            };
        }
        text.push_str("  </testsuite>\n");
    }
    if !report.missing_kernels.is_empty() {
        let count = report.missing_kernels.len();
        let _ = writeln!(
            text,
            "  <testsuite name=\"ktstr check kernels\" tests=\"{count}\" failures=\"0\" errors=\"{count}\" skipped=\"0\">"
        );
        for (nth, why) in report.missing_kernels.iter().enumerate() {
            let _ = writeln!(
                text,
                "    <testcase classname=\"kernels\" name=\"missing kernel {}\"><error message=\"{}\"/></testcase>",
                nth + 1,
                escaped(why)
            );
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

/// How a case ended, in the terms of CI systems.
enum End {
    Passed,
    Skipped(String),
    Failed(String, String),
}

impl End {
    fn of(report: &Report, pair: &Pair) -> Self {
        if pair.ours.verdict == RunVerdict::Skip {
            let why = pair.ours.details.first().cloned();
            return Self::Skipped(why.unwrap_or_else(|| "not for this shape".to_owned()));
        }
        let findings = judge(pair);
        let of = |class: Class| findings.iter().find(|finding| finding.class == class);
        let broken = findings.iter().filter(|f| f.class == Class::Broken);
        let broken: Vec<&Finding> = broken.collect();
        if !broken.is_empty() {
            return Self::broken(report, pair, &broken);
        }
        if let Some(refused) = of(Class::NotLoaded) {
            let body = pair.ours.details.join("\n");
            return match pair.ours.verdict {
                RunVerdict::Fail => Self::Failed(refused.check.clone(), body),
                _ => Self::Skipped(format!("no answer: {}", refused.message)),
            };
        }
        match of(Class::NoAnswer) {
            Some(none) => Self::Skipped(format!("no answer: {}: {}", none.why, none.message)),
            None => Self::Passed,
        }
    }

    /// Returns the end of a case with these findings, of which there is at least one. The case is skipped only if all of them are
    /// known failures. Otherwise it fails, with the text of each finding that is not a known failure.
    fn broken(report: &Report, pair: &Pair, findings: &[&Finding]) -> Self {
        let shape = actual_shape(pair);
        let row_of = |rows: &'_ [Row], finding: &Finding| {
            let rows = rows.iter();
            let mut rows = rows.filter(|row| {
                (&row.scenario, &row.kernel, &row.topology)
                    == (&pair.place.scenario, &pair.place.kernel.release, &shape)
                    && row.check == finding.check
            });
            rows.next().cloned()
        };
        let known_as = |finding: &Finding| row_of(&report.known, finding)?.known;
        let (mut checks, mut lines, mut again) = (Vec::new(), Vec::new(), String::new());
        for finding in findings
            .iter()
            .filter(|finding| known_as(finding).is_none())
        {
            checks.push(finding.check.clone());
            lines.extend([finding.message.clone(), finding.why.clone()]);
            if let Some(row) = row_of(&report.broken, finding) {
                again = row.again;
            }
        }
        if checks.is_empty() {
            let known = findings.iter().filter_map(|finding| known_as(finding));
            let mut reasons: Vec<String> = known
                .map(|known| format!("known until {}: {}", known.expires, known.reason))
                .collect();
            reasons.dedup();
            return Self::Skipped(reasons.join("; "));
        }
        lines.push(again);
        Self::Failed(checks.join(", "), lines.join("\n"))
    }
}

/// Escapes `text` for XML, and replaces characters that XML cannot hold by U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' | '\t' => out.push(c),
            // XML 1.0 excludes most control characters, and these two code points. The few other control characters that it
            // allows are of no use here.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::config::{Config, parse};
    use super::super::report::tests::{broken_twice, mixed, report};
    use super::*;

    #[test]
    fn the_file() {
        let pairs = mixed();
        let text = render(&report(pairs.clone(), &Config::default()), &pairs);
        insta::assert_snapshot!(text, @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites>
          <testsuite name="ktstr check 7.3.4 1n1l2c1t" tests="4" failures="1" errors="0" skipped="0">
            <testcase classname="steady" name="steady seed 1" time="0.000"><failure type="starvation" message="starvation of &lt;worker&gt;">starvation of &lt;worker&gt;
        the exact schedule is the evidence
        cargo ktstr check ./scx_mine --scenarios steady --kernels 7.3.4-ab --seeds 1..2 -- --fast</failure></testcase>
            <testcase classname="bursts" name="bursts seed 1" time="0.000"/>
            <testcase classname="sound" name="sound seed 1" time="0.000"/>
            <testcase classname="steady" name="steady seed 2" time="0.000"/>
          </testsuite>
          <testsuite name="ktstr check 7.3.4 own" tests="1" failures="0" errors="0" skipped="1">
            <testcase classname="sweep" name="sweep seed 1" time="0.000"><skipped message="no answer: the run was inconclusive: the disk is full"/></testcase>
          </testsuite>
        </testsuites>
        "#);
    }

    #[test]
    fn a_kernel_that_is_not_available_is_an_error() {
        let pairs = mixed();
        let mut report = report(pairs.clone(), &Config::default());
        report.missing_kernels.push("kernel <9.9>: none".to_owned());
        let text = render(&report, &pairs);
        assert!(
            text.contains("<error message=\"kernel &lt;9.9&gt;: none\"/>"),
            "{text}"
        );
        assert_eq!(text.matches("errors=\"1\"").count(), 1, "{text}");
    }

    #[test]
    fn a_known_failure_is_skipped() {
        let known =
            "[[known]]\nscenario = \"steady\"\nreason = \"a & b\"\nexpires = \"2027-01-01\"\n";
        let config = parse(known).expect("a configuration");
        let pairs = mixed();
        let text = render(&report(pairs.clone(), &config), &pairs);
        assert!(text.contains("known until 2027-01-01: a &amp; b"), "{text}");
        assert!(!text.contains("<failure"), "{text}");
    }

    #[test]
    fn a_known_failure_hides_no_other_failure_of_the_same_run() {
        let entry = |check: &str| {
            format!(
                "[[known]]\nscenario = \"steady\"\ncheck = \"{check}\"\nreason = \"{check} 12\"\nexpires = \"2027-01-01\"\n"
            )
        };
        let pairs = vec![broken_twice()];
        let config = parse(&entry("starvation")).expect("a configuration");
        let judged = report(pairs.clone(), &config);
        assert_eq!((judged.broken.len(), judged.known.len()), (1, 1));
        assert_eq!(judged.broken[0].check, "isolation");
        assert_eq!(judged.exit, 1);
        let text = render(&judged, &pairs);
        assert!(text.contains("failures=\"1\""), "{text}");
        assert!(text.contains("<failure type=\"isolation\""), "{text}");
        assert!(!text.contains("starvation of"), "{text}");

        let both = entry("starvation") + &entry("isolation");
        let judged = report(pairs.clone(), &parse(&both).expect("a configuration"));
        assert_eq!((judged.broken.len(), judged.exit), (0, 0));
        let text = render(&judged, &pairs);
        let skipped = "known until 2027-01-01: starvation 12; known until 2027-01-01: isolation 12";
        assert!(text.contains(skipped), "{text}");

        let text = render(&report(pairs.clone(), &Config::default()), &pairs);
        assert!(
            text.contains("<failure type=\"starvation, isolation\""),
            "{text}"
        );
        assert_eq!(text.matches("cargo ktstr check").count(), 1, "{text}");
    }

    #[test]
    fn characters_that_xml_cannot_hold_are_replaced() {
        assert_eq!(
            escaped("a\u{1b}[0m\0<&\"'>\t\u{ffff}"),
            "a\u{fffd}[0m\u{fffd}&lt;&amp;&quot;&apos;&gt;\t\u{fffd}"
        );
    }
}
