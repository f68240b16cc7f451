//! Renders the result as text: the tables on the screen, `docs/power.md`, and a page on third-party schedulers.

use std::collections::BTreeMap;
use std::fmt::Write;

use ktstr_record::brief::counted;
use serde::Serialize;

use super::stats::Count;
use crate::table;

/// The result for one defect.
#[derive(Clone, Debug, Serialize)]
pub struct DefectRow {
    pub name: String,
    pub does: String,
    pub rare: bool,
    /// The class of checks that was expected to find the defect.
    pub seen_by: String,
    /// The scenario that catches the defect best; `None` if no scenario does.
    pub scenario: Option<String>,
    /// The checks that failed in this scenario, each with its number of runs, the most frequent first.
    pub checks: Vec<(String, u64)>,
    /// The message of one of these checks in one run; `None` if no run failed.
    pub example: Option<String>,
    /// The number of conclusive runs of that scenario, and the number of these runs that caught the defect.
    pub count: Count,
    /// The number of inconclusive runs of that scenario.
    pub unanswered: u64,
    /// The number of scenarios with a conclusive run with the first seed, and the number of these that caught the defect.
    pub breadth: Count,
    /// For a rare defect, the number of runs of all scenarios until the first catch; `None` for other defects or without a catch.
    pub runs_to_first: Option<u64>,
    pub verdict: Caught,
}

/// Whether a defect counts as caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Caught {
    /// Caught with at least 90 % of the seeds of one scenario, or with any seed for a rare defect.
    Yes,
    /// Caught with some seeds, but with fewer than 90 %.
    Seldom,
    No,
    /// No run was made, or none with the first seed was conclusive.
    Unknown,
}

impl Caught {
    fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Seldom => "seldom",
            Self::No => "no",
            Self::Unknown => "not run",
        }
    }
}

/// The result for one scheduler without defects: its runs and its alarms.
#[derive(Clone, Debug, Serialize)]
pub struct CleanRow {
    pub scheduler: String,
    pub count: Count,
    pub unanswered: u64,
    pub alarms: Vec<Alarm>,
}

/// A run that failed or was inconclusive.
#[derive(Clone, Debug, Serialize)]
pub struct Alarm {
    pub scenario: String,
    pub seed: u64,
    /// Whether the run was inconclusive.
    pub undetermined: bool,
    /// The most significant check that failed.
    pub check: String,
    /// The message of the check.
    pub message: String,
}

impl CleanRow {
    /// Returns a line for each alarm.
    fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.alarms.iter().map(|alarm| {
            let Alarm {
                scenario,
                seed,
                check,
                message,
                ..
            } = alarm;
            format!(
                "{}, {scenario}, seed {seed}: {check}: {message}",
                self.scheduler
            )
        })
    }
}

/// The whole result of `power`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether the scenarios set no check.
    pub plain: bool,
    /// The command line that made the result.
    pub command: String,
    pub kernel: Option<String>,
    pub scenarios: Vec<String>,
    pub seeds: u64,
    /// Whether a defect was tried only until the first scenario caught it.
    pub quick: bool,
    /// The number of runs that are known to be missing, if the matrix was interrupted or is only reported. Their outcomes decide
    /// whether further runs are needed, so this is a lower bound.
    pub missing: u64,
    pub defects: Vec<DefectRow>,
    pub clean: Vec<CleanRow>,
}

impl Report {
    fn caught(&self) -> Count {
        let mut count = Count::default();
        for row in self
            .defects
            .iter()
            .filter(|row| row.verdict != Caught::Unknown)
        {
            count.add(row.verdict == Caught::Yes);
        }
        count
    }

    fn alarms(&self) -> Count {
        self.clean.iter().fold(Count::default(), |sum, row| Count {
            hits: sum.hits + row.count.hits,
            runs: sum.runs + row.count.runs,
        })
    }
}

/// Renders the report for the screen.
pub fn screen(report: &Report) -> String {
    let mut table = table::numbers(&["DEFECT", "CAUGHT", "SEEDS", "95 %", "BY", "CHECK"], 6);
    for row in &report.defects {
        table.add_row([
            name(row),
            row.verdict.word().to_owned(),
            seeds(row),
            interval(row.count),
            row.scenario.clone().unwrap_or_else(|| "-".to_owned()),
            checks(row),
        ]);
    }
    let mut text = format!("{}\n\n", table.trim_fmt());
    let mut clean = table::numbers(
        &[
            "WITHOUT DEFECT",
            "ALARMS",
            "RUNS",
            "RATE BELOW",
            "NO ANSWER",
        ],
        1,
    );
    for row in &report.clean {
        clean.add_row([
            row.scheduler.clone(),
            row.count.hits.to_string(),
            row.count.runs.to_string(),
            percent(row.count.upper_bound()),
            row.unanswered.to_string(),
        ]);
    }
    if !report.clean.is_empty() {
        let _ = writeln!(text, "{}\n", clean.trim_fmt());
    }
    for alarm in report.clean.iter().flat_map(CleanRow::lines) {
        let _ = writeln!(text, "  alarm: {alarm}");
    }
    text.push_str(&summary(report));
    text.push('\n');
    text
}

fn summary(report: &Report) -> String {
    let (caught, alarms) = (report.caught(), report.alarms());
    let mut text = format!(
        "{} of {} caught; {} in {} without a defect{}.",
        caught.hits,
        counted(caught.runs, "defect"),
        counted(alarms.hits, "false alarm"),
        counted(alarms.runs, "run"),
        if alarms.runs == 0 {
            String::new()
        } else {
            format!(
                " (rate below {} with 95 % confidence)",
                percent(alarms.upper_bound())
            )
        }
    );
    if report.missing > 0 {
        let _ = write!(
            text,
            " The matrix is not finished. Missing: at least {}.",
            counted(report.missing, "run")
        );
    }
    text
}

/// Renders the report for docs/power.md.
pub fn markdown(report: &Report) -> String {
    let mut text = format!(
        "# What the checks catch\n\n\
         Made by `{}` on kernel {}. Do not edit: run it again.\n\n\
         {}\n\n\
         `scx-ktstr` has defects that can be switched on (`--help` lists them). Each runs under every scenario once{},\n\
         {}; then under the scenario that caught it, with up\n\
         to {} seeds. Runs are on the virtual clock: scenario and seed determine a run to the last bit. Intervals are Wilson's,\n\
         at 95 %. A defect is caught if one scenario fails in 90 % of its seeds; a rare one if it is found within {} runs. A run\n\
         without an answer is not counted, nor is a run in which a defect that should not do so keeps the scheduler from loading.\n\n\
         ## Defects\n\n\
         | Defect | What it does | Caught | Seeds | 95 % | By scenario | By check | Scenarios that caught it |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        report.command,
        report.kernel.as_deref().unwrap_or("unknown"),
        summary(report),
        if report.quick {
            ", until one catches it"
        } else {
            ""
        },
        if report.plain {
            "without a check of its own: the harness's alone judge it, by the exact schedule\n\
             (`crates/cargo-ktstr/src/power/plain.rs`)"
        } else {
            "with the checks `not_stuck`, isolation and the monitor's usual bounds, and what the scenario itself expects, since\n\
             it knows what it asked for (`crates/ktstr/src/canned/expect.rs`)"
        },
        report.seeds,
        super::search::RARE_SEEDS,
    );
    for row in &report.defects {
        let _ = writeln!(
            text,
            "| `--{}`{} | {} | {} | {} | {} | {} | {} | {} of {} |",
            row.name,
            if row.rare { " (rare)" } else { "" },
            row.does,
            row.verdict.word(),
            seeds(row),
            interval(row.count),
            row.scenario.as_deref().unwrap_or("-"),
            checks(row),
            row.breadth.hits,
            row.breadth.runs,
        );
    }
    let missed = |row: &&DefectRow| matches!(row.verdict, Caught::No | Caught::Seldom);
    if report.defects.iter().any(|row| missed(&row)) {
        text.push_str("\n## Not caught\n\n");
        for row in report.defects.iter().filter(missed) {
            let _ = writeln!(
                text,
                "- `--{}`: {}. Expected of the checks on: {}.",
                row.name,
                match row.verdict {
                    Caught::Seldom => "seen in too few seeds",
                    _ => "no scenario shows it",
                },
                row.seen_by,
            );
        }
    }
    text.push_str("\n## What they say\n\n");
    for row in &report.defects {
        if let Some(example) = &row.example {
            let _ = writeln!(text, "- `--{}`: {example}", row.name);
        }
    }
    text.push_str(
        "\n## False alarms\n\nThe same scenarios under schedulers without a known defect.\n\n\
         | Scheduler | Runs | Alarms | Rate below (95 %) | No answer |\n| --- | --- | --- | --- | --- |\n",
    );
    for row in &report.clean {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            row.scheduler,
            row.count.runs,
            row.count.hits,
            percent(row.count.upper_bound()),
            row.unanswered
        );
    }
    text.push('\n');
    for alarm in report.clean.iter().flat_map(CleanRow::lines) {
        let _ = writeln!(text, "- {alarm}");
    }
    let _ = writeln!(text, "\nScenarios: {}.", report.scenarios.join(", "));
    text
}

/// Renders the page on third-party schedulers: each alarm under them, by check and scenario.
pub fn schedulers(report: &Report) -> String {
    let mut text = format!(
        "# What the checks say of other schedulers\n\n\
         Made by `{}` on kernel {}. Do not edit: run it again.\n\n\
         Each ran on the virtual clock under {} scenarios, with {}.\n\
         An alarm is a run that failed; an undetermined run blames nobody.\n\n\
         | Scheduler | Runs | Alarms | Undetermined |\n| --- | --- | --- | --- |\n",
        report.command,
        report.kernel.as_deref().unwrap_or("unknown"),
        report.scenarios.len(),
        match report.plain {
            true => "the harness's own checks alone",
            false => {
                "the harness's own checks, `not_stuck`, isolation, the monitor's usual\n\
                 bounds, and what the scenario itself expects"
            }
        },
    );
    for row in &report.clean {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            row.scheduler, row.count.runs, row.count.hits, row.unanswered
        );
    }
    if report.missing > 0 {
        let _ = writeln!(
            text,
            "\nNot finished. Missing: at least {}.",
            counted(report.missing, "run")
        );
    }
    for row in &report.clean {
        let _ = writeln!(text, "\n## {}\n", row.scheduler);
        let mut kinds: BTreeMap<(&str, &str, bool), Vec<&Alarm>> = BTreeMap::new();
        for alarm in &row.alarms {
            let kind = (&*alarm.scenario, &*alarm.check, alarm.undetermined);
            kinds.entry(kind).or_default().push(alarm);
        }
        if kinds.is_empty() {
            text.push_str("No alarm.\n");
        }
        for ((scenario, check, undetermined), alarms) in kinds {
            let seeds: Vec<String> = alarms.iter().map(|alarm| alarm.seed.to_string()).collect();
            let word = if undetermined { "undetermined, " } else { "" };
            let message = alarms.first().map_or("", |alarm| &alarm.message);
            let _ = writeln!(
                text,
                "- `{scenario}`, {word}seeds {}: {check}: {message}",
                seeds.join(", ")
            );
        }
    }
    text
}

fn name(row: &DefectRow) -> String {
    format!("{}{}", row.name, if row.rare { " (rare)" } else { "" })
}

fn seeds(row: &DefectRow) -> String {
    let mut text = format!("{}/{}", row.count.hits, row.count.runs);
    if row.unanswered > 0 {
        let _ = write!(text, " +{} no answer", row.unanswered);
    }
    if let Some(runs) = row.runs_to_first {
        let _ = write!(text, ", first in run {runs}");
    }
    text
}

fn checks(row: &DefectRow) -> String {
    let names: Vec<&str> = row
        .checks
        .iter()
        .take(2)
        .map(|(name, _)| name.as_str())
        .collect();
    if names.is_empty() {
        "-".to_owned()
    } else {
        names.join("; ")
    }
}

fn interval(count: Count) -> String {
    if count.runs == 0 {
        return "-".to_owned();
    }
    let (low, high) = count.wilson();
    format!("{:.0}–{:.0} %", low * 100.0, high * 100.0)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(seed: u64, undetermined: bool) -> Alarm {
        Alarm {
            scenario: "nice_mix".to_owned(),
            seed,
            undetermined,
            check: "spread".to_owned(),
            message: "unfair cgroup".to_owned(),
        }
    }

    fn report() -> Report {
        let row = DefectRow {
            name: "slice-long".to_owned(),
            does: "give slices of 10 s".to_owned(),
            rare: false,
            seen_by: "stuck".to_owned(),
            scenario: Some("steady".to_owned()),
            checks: vec![("gap".to_owned(), 19), ("spread".to_owned(), 1)],
            example: Some("tid 7 stuck 2990ms on cpu0".to_owned()),
            count: Count { hits: 20, runs: 20 },
            unanswered: 0,
            breadth: Count { hits: 9, runs: 13 },
            runs_to_first: None,
            verdict: Caught::Yes,
        };
        Report {
            plain: false,
            command: "cargo ktstr power --seeds 20".to_owned(),
            kernel: Some("7.3.4".to_owned()),
            scenarios: vec!["steady".to_owned(), "nice_mix".to_owned()],
            seeds: 20,
            quick: false,
            missing: 0,
            defects: vec![
                row.clone(),
                DefectRow {
                    name: "lost-wakeup".to_owned(),
                    does: "lose one of 10,000 wakeups".to_owned(),
                    rare: true,
                    count: Count { hits: 2, runs: 20 },
                    unanswered: 1,
                    runs_to_first: Some(17),
                    ..row.clone()
                },
                DefectRow {
                    name: "subtle".to_owned(),
                    does: "be subtle".to_owned(),
                    scenario: None,
                    checks: vec![],
                    example: None,
                    count: Count::default(),
                    breadth: Count { hits: 0, runs: 13 },
                    verdict: Caught::No,
                    ..row
                },
            ],
            clean: vec![CleanRow {
                scheduler: "EEVDF".to_owned(),
                count: Count { hits: 1, runs: 100 },
                unanswered: 0,
                alarms: vec![alarm(4, false)],
            }],
        }
    }

    #[test]
    fn the_screen() {
        insta::assert_snapshot!(screen(&report()), @r"
         DEFECT              CAUGHT  SEEDS                               95 %      BY      CHECK
         slice-long          yes     20/20                               84–100 %  steady  gap; spread
         lost-wakeup (rare)  yes     2/20 +1 no answer, first in run 17  3–30 %    steady  gap; spread
         subtle              no      0/0                                 -         -       -

         WITHOUT DEFECT  ALARMS  RUNS  RATE BELOW  NO ANSWER
         EEVDF                1   100       5.4 %          0

          alarm: EEVDF, nice_mix, seed 4: spread: unfair cgroup
        2 of 3 defects caught; 1 false alarm in 100 runs without a defect (rate below 5.4 % with 95 % confidence).
        ");
    }

    #[test]
    fn alarms_of_other_schedulers_are_grouped() {
        let row = |name: &str, alarms: Vec<Alarm>| CleanRow {
            scheduler: name.to_owned(),
            count: Count {
                hits: alarms.iter().filter(|alarm| !alarm.undetermined).count() as u64,
                runs: 70,
            },
            unanswered: alarms.iter().filter(|alarm| alarm.undetermined).count() as u64,
            alarms,
        };
        let clean = vec![
            row(
                "scx_a",
                vec![alarm(1, false), alarm(2, true), alarm(9, false)],
            ),
            row("scx_b", vec![]),
        ];
        let report = Report {
            defects: vec![],
            clean,
            ..report()
        };
        insta::assert_snapshot!(schedulers(&report), @r"
        # What the checks say of other schedulers

        Made by `cargo ktstr power --seeds 20` on kernel 7.3.4. Do not edit: run it again.

        Each ran on the virtual clock under 2 scenarios, with the harness's own checks, `not_stuck`, isolation, the monitor's usual
        bounds, and what the scenario itself expects.
        An alarm is a run that failed; an undetermined run blames nobody.

        | Scheduler | Runs | Alarms | Undetermined |
        | --- | --- | --- | --- |
        | scx_a | 70 | 2 | 1 |
        | scx_b | 70 | 0 | 0 |

        ## scx_a

        - `nice_mix`, seeds 1, 9: spread: unfair cgroup
        - `nice_mix`, undetermined, seeds 2: spread: unfair cgroup

        ## scx_b

        No alarm.
        ");
    }

    #[test]
    fn an_unfinished_matrix_says_so() {
        let unfinished = Report {
            missing: 7,
            ..report()
        };
        let text = markdown(&unfinished);
        assert!(text.contains("not finished. Missing: at least 7 runs."));
    }

    #[test]
    fn the_page() {
        insta::assert_snapshot!(markdown(&report()), @r"
        # What the checks catch

        Made by `cargo ktstr power --seeds 20` on kernel 7.3.4. Do not edit: run it again.

        2 of 3 defects caught; 1 false alarm in 100 runs without a defect (rate below 5.4 % with 95 % confidence).

        `scx-ktstr` has defects that can be switched on (`--help` lists them). Each runs under every scenario once,
        with the checks `not_stuck`, isolation and the monitor's usual bounds, and what the scenario itself expects, since
        it knows what it asked for (`crates/ktstr/src/canned/expect.rs`); then under the scenario that caught it, with up
        to 20 seeds. Runs are on the virtual clock: scenario and seed determine a run to the last bit. Intervals are Wilson's,
        at 95 %. A defect is caught if one scenario fails in 90 % of its seeds; a rare one if it is found within 200 runs. A run
        without an answer is not counted, nor is a run in which a defect that should not do so keeps the scheduler from loading.

        ## Defects

        | Defect | What it does | Caught | Seeds | 95 % | By scenario | By check | Scenarios that caught it |
        | --- | --- | --- | --- | --- | --- | --- | --- |
        | `--slice-long` | give slices of 10 s | yes | 20/20 | 84–100 % | steady | gap; spread | 9 of 13 |
        | `--lost-wakeup` (rare) | lose one of 10,000 wakeups | yes | 2/20 +1 no answer, first in run 17 | 3–30 % | steady | gap; spread | 9 of 13 |
        | `--subtle` | be subtle | no | 0/0 | - | - | - | 0 of 13 |

        ## Not caught

        - `--subtle`: no scenario shows it. Expected of the checks on: stuck.

        ## What they say

        - `--slice-long`: tid 7 stuck 2990ms on cpu0
        - `--lost-wakeup`: tid 7 stuck 2990ms on cpu0

        ## False alarms

        The same scenarios under schedulers without a known defect.

        | Scheduler | Runs | Alarms | Rate below (95 %) | No answer |
        | --- | --- | --- | --- | --- |
        | EEVDF | 100 | 1 | 5.4 % | 0 |

        - EEVDF, nice_mix, seed 4: spread: unfair cgroup

        Scenarios: steady, nice_mix.
        ");
    }
}
