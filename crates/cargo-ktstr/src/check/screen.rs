//! The result of a check on one screen: what is broken, known, not promised, slower or without an answer, each with the
//! command that reproduces it.

use std::fmt::Write;

use ktstr_record::brief::counted;

use super::report::{NotLoaded, Report, Row};

/// The largest number of rows that are shown of the list of what is broken; the JSON has all rows.
const MOST_BROKEN: usize = 6;
/// The largest number of rows that are shown of each other list.
const MOST: usize = 4;
/// The largest number of lines that are shown of the reason why a scheduler does not load.
const REASON: usize = 6;

/// Returns the text of the screen.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = render_to(&mut text, report);
    text
}

fn render_to(text: &mut String, report: &Report) -> std::fmt::Result {
    let broken = &report.broken;
    for kernel in &report.not_loaded {
        not_loaded(text, kernel)?;
    }
    let loaded = report
        .not_loaded
        .iter()
        .map(|kernel| kernel.runs)
        .sum::<u64>()
        < report.runs;
    section(text, "BROKEN", "", broken, MOST_BROKEN)?;
    let known = "ktstr.toml tolerates these";
    section(text, "KNOWN", known, &report.known, MOST)?;
    let not = "this does not count against the scheduler";
    section(text, "NOT PROMISED", not, &report.not_promised, MOST)?;
    section(
        text,
        "SLOWER THAN EEVDF",
        "no promise is broken in these runs",
        &report.slower,
        MOST,
    )?;
    let nothing = "these runs are inconclusive";
    section(text, "NO ANSWER", nothing, &report.no_answer, MOST)?;
    if loaded && broken.is_empty() {
        writeln!(text, "Nothing is broken that these runs can show.\n")?;
    }
    if !broken.is_empty() {
        writeln!(
            text,
            "Promises that the scheduler does not make, and known failures, can be listed in ktstr.toml (docs/check.md).\n"
        )?;
    }
    for kernel in &report.missing_kernels {
        writeln!(text, "not run: {kernel}")?;
    }
    for unseen in &report.unseen {
        writeln!(text, "known failure, {unseen}")?;
    }
    if report.not_started > 0 {
        writeln!(
            text,
            "{} left out because the time was over. The next call is faster, since the machines are booted by now; \
             --thorough has no time limit.",
            match report.not_started {
                1 => "1 run was".to_owned(),
                more => format!("{more} runs were"),
            }
        )?;
    }
    if let Some(shard) = &report.shard {
        writeln!(
            text,
            "This is shard {shard}: `cargo ktstr merge` merges the results of all shards."
        )?;
    }
    let of = |count: u64, what: &str| match count {
        0 => String::new(),
        count => format!(", {count} {what}"),
    };
    let [made, kept] = report.eevdf_runs;
    writeln!(
        text,
        "{}: {} on {} (level {}), {} sound{}{}{}; EEVDF with the same seeds: {}, {kept} cached; {:.0} s",
        report.scheduler.path.display(),
        counted(report.runs, "run"),
        report.kernels.join(", "),
        report.level,
        report.sound,
        of(
            report.runs - report.judged - report.skipped,
            "without an answer"
        ),
        of(report.skipped, "not for this shape"),
        of(report.broken_runs() as u64, "broken"),
        counted(made, "run"),
        report.wall_s,
    )
}

fn not_loaded(text: &mut String, kernel: &NotLoaded) -> std::fmt::Result {
    let fault = match kernel.blamed {
        true => "",
        false => ", and that is not the scheduler's fault",
    };
    writeln!(text, "DOES NOT LOAD on {}{fault}", kernel.kernel)?;
    for line in kernel.reason.iter().take(REASON) {
        writeln!(text, "  {line}")?;
    }
    writeln!(text, "  again: {}\n", kernel.again)
}

fn section(
    text: &mut String,
    name: &str,
    means: &str,
    rows: &[Row],
    most: usize,
) -> std::fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    match means {
        "" => writeln!(text, "{name}  {}", rows.len())?,
        means => writeln!(text, "{name}  {}  ({means})", rows.len())?,
    }
    for row in rows.iter().take(most) {
        writeln!(
            text,
            "  {}  {} {}  {}  {}",
            row.scenario,
            row.kernel,
            row.topology,
            seeds(row),
            row.check
        )?;
        writeln!(text, "    {}", row.message)?;
        match &row.known {
            Some(known) if known.expired => writeln!(
                text,
                "    was known until {} ({}): that day is over, so it counts again",
                known.expires, known.reason
            )?,
            Some(known) => writeln!(text, "    until {}: {}", known.expires, known.reason)?,
            None => writeln!(text, "    {}", row.why)?,
        }
        writeln!(text, "    again: {}", row.again)?;
        if let Some(record) = &row.record {
            writeln!(text, "    record: {}", record.display())?;
        }
    }
    if rows.len() > most {
        writeln!(
            text,
            "  and {} more: --json FILE has all",
            rows.len() - most
        )?;
    }
    writeln!(text)
}

fn seeds(row: &Row) -> String {
    format!("{} of {}", row.seeds.len(), counted(row.of, "seed"))
}

#[cfg(test)]
mod tests {
    use super::super::config::Config;
    use super::super::report::tests::{broken_twice, mixed, report};
    use super::super::testing::{failed, pair, passed};
    use super::*;
    use crate::cell::Proof;

    #[test]
    fn a_run_that_breaks_two_checks_is_counted_once() {
        let text = render(&report(vec![broken_twice()], &Config::default()));
        assert!(text.starts_with("BROKEN  2\n"), "{text}");
        assert!(text.contains("0 sound, 1 broken;"), "{text}");
    }

    #[test]
    fn the_screen() {
        let mut report = report(mixed(), &Config::default());
        report.level = "quick";
        report.scheduler.path = "./scx_mine".into();
        report.wall_s = 41.3;
        insta::assert_snapshot!(render(&report), @r"
        BROKEN  1
          steady  7.3.4 1n1l2c1t  1 of 2 seeds  starvation
            starvation of <worker>
            the exact schedule is the evidence
            again: cargo ktstr check ./scx_mine --scenarios steady --kernels 7.3.4-ab --seeds 1..2 -- --fast
            record: /runs/run-1/record.json

        NOT PROMISED  1  (this does not count against the scheduler)
          bursts  7.3.4 1n1l2c1t  1 of 1 seed  spread
            spread of <worker>
            it is only an expectation, and the exact schedule does not confirm it
            again: cargo ktstr check ./scx_mine --scenarios bursts --kernels 7.3.4-ab --seeds 1..2 -- --fast
            record: /runs/run-1/record.json

        NO ANSWER  1  (these runs are inconclusive)
          sweep  7.3.4 own  1 of 1 seed  no answer
            the disk is full
            the run was inconclusive
            again: cargo ktstr check ./scx_mine --scenarios sweep --kernels 7.3.4-ab --seeds 1..2 -- --fast

        Promises that the scheduler does not make, and known failures, can be listed in ktstr.toml (docs/check.md).

        ./scx_mine: 5 runs on 7.3.4 (level quick), 2 sound, 1 without an answer, 1 broken; EEVDF with the same seeds: 1 run, 4 cached; 41 s
        ");
    }

    #[test]
    fn a_scheduler_that_does_not_load_is_told_once() {
        let refused = failed("scheduler not attached", Proof::Kernel);
        let pairs = vec![
            pair("a", 1, refused.clone(), passed()),
            pair("b", 1, refused, passed()),
        ];
        let text = render(&report(pairs, &Config::default()));
        assert_eq!(
            text.matches("DOES NOT LOAD on 7.3.4\n").count(),
            1,
            "{text}"
        );
        assert!(text.contains("  R1 invalid\n"), "{text}");
        assert!(!text.contains("Nothing is broken"), "{text}");
    }

    #[test]
    fn a_long_list_stays_on_the_screen() {
        let broken = || failed("starvation", Proof::Schedule);
        let pairs = (0..20).map(|n| pair(&format!("s{n}"), 1, broken(), passed()));
        let text = render(&report(pairs.collect(), &Config::default()));
        assert!(text.contains("and 14 more: --json FILE has all"), "{text}");
        assert!(text.lines().count() < 40, "{text}");
    }
}
