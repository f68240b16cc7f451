//! Decides which runs are made. For each defect this is one run of every scenario, then more seeds of the scenarios that catch it
//! best. For each scheduler without defects it is a given number of runs, spread over all scenarios.

use std::collections::BTreeMap;

use super::case::{Baseline, Case, Scheduler};
use super::stats::Count;
use super::table::Defect;
use crate::cell::Outcome;

/// The largest number of runs that are made to find a rare defect after the first run of every scenario, and the largest seed of
/// such a run.
pub const RARE_SEEDS: u64 = 200;
/// The share of a scenario's seeds with which a defect has to be caught to count as caught.
pub const CAUGHT: f64 = 0.9;
/// The largest number of scenarios that are tried with all seeds, while none of them catches the defect often enough.
const TRIES: usize = 3;

/// A source of results by case.
pub trait Known {
    /// Returns the outcome of a case; `None` if it has not been run.
    fn outcome(&self, case: &Case) -> Option<&Outcome>;
}

impl Known for super::Store {
    fn outcome(&self, case: &Case) -> Option<&Outcome> {
        self.get(case)
    }
}

/// Returns the cases of a scheduler under a scenario, one for each seed.
pub fn cell(
    scheduler: &Scheduler,
    scenario: &str,
    seeds: std::ops::RangeInclusive<u64>,
) -> Vec<Case> {
    seeds
        .map(|seed| Case {
            scheduler: scheduler.clone(),
            scenario: scenario.to_owned(),
            seed,
        })
        .collect()
}

/// Returns whether a run failed. An inconclusive run does not count as a failure.
pub fn is_caught(outcome: &Outcome) -> bool {
    outcome.verdict == ktstr_record::RunVerdict::Fail
}

/// Counts the hits among the conclusive runs of these cases, and the inconclusive runs.
pub fn count<'a>(known: &impl Known, cases: impl IntoIterator<Item = &'a Case>) -> (Count, u64) {
    let (mut count, mut unanswered) = (Count::default(), 0);
    for outcome in cases.into_iter().filter_map(|case| known.outcome(case)) {
        if outcome.verdict == ktstr_record::RunVerdict::Inconclusive {
            unanswered += 1;
        } else {
            count.add(is_caught(outcome));
        }
    }
    (count, unanswered)
}

/// The search for one defect.
#[derive(Debug)]
pub struct Row<'a> {
    pub defect: &'a Defect,
    pub scenarios: &'a [String],
    pub seeds: u64,
    /// Whether scenarios are tried only until one catches the defect often enough, the most promising ones first.
    pub quick: bool,
}

/// Returns the most promising scenarios for a defect that the class of checks `seen_by` is expected to find.
fn likely(seen_by: &str) -> &'static [&'static str] {
    match seen_by {
        "stuck" => &[
            "custom_nice_mix",
            "custom_futex_ping_pong",
            "custom_cgroup_rapid_churn",
        ],
        "unfair" => &[
            "custom_nice_mix",
            "custom_cgroup_cpuset_merge",
            "cpuset_resize",
        ],
        "idle" => &[
            "steady",
            "custom_fan_out_wake",
            "custom_bursts_spare",
            "custom_cgroup_4way_load_imbalance",
            "custom_cgroup_cpuset_widen",
        ],
        "latency" => &["custom_bursts", "custom_bursts_spare"],
        "switches" => &["steady"],
        "exit" => &[
            "affinity_pinned",
            "custom_cgroup_cpuset_swap_disjoint",
            "cpu_off_and_on",
        ],
        _ => &[],
    }
}

impl Row<'_> {
    pub fn scheduler(&self) -> Scheduler {
        Scheduler::Defect(self.defect.args())
    }

    /// Returns one run of every scenario, the most promising ones first.
    pub fn first(&self) -> Vec<Case> {
        let scheduler = self.scheduler();
        let likely = likely(&self.defect.seen_by);
        let mut scenarios: Vec<&String> = self.scenarios.iter().collect();
        scenarios.sort_by_key(|scenario| {
            let place = likely.iter().position(|name| name == scenario);
            place.unwrap_or(likely.len())
        });
        let cells = scenarios.into_iter();
        cells
            .flat_map(|scenario| cell(&scheduler, scenario, 1..=1))
            .collect()
    }

    /// Returns the scenarios that caught the defect, the best first.
    pub fn candidates(&self, known: &impl Known) -> Vec<String> {
        let scheduler = self.scheduler();
        let mut all: Vec<(Count, f64, &String)> = Vec::new();
        for scenario in self.scenarios {
            let cases = cell(&scheduler, scenario, 1..=RARE_SEEDS.max(self.seeds));
            let (count, _) = count(known, &cases);
            let wall = known
                .outcome(&cases[0])
                .map_or(0.0, |outcome| outcome.wall_s);
            if count.hits > 0 {
                all.push((count, wall, scenario));
            }
        }
        // Sort by rate, then by the number of runs, then by cost.
        all.sort_by(|(a, a_wall, _), (b, b_wall, _)| {
            let rate = |count: &Count| count.rate().unwrap_or(0.0);
            rate(b)
                .total_cmp(&rate(a))
                .then(b.runs.cmp(&a.runs))
                .then(a_wall.total_cmp(b_wall))
        });
        all.into_iter()
            .map(|(_, _, scenario)| scenario.clone())
            .collect()
    }

    /// Returns the share of the seeds with which a scenario catches the defect; `None` while some seeds have not been run, if no
    /// run was conclusive, and for a rare defect, for which one catch is enough.
    fn rate(&self, known: &impl Known, scenario: &str) -> Option<f64> {
        if self.defect.rare {
            return None;
        }
        let cases = cell(&self.scheduler(), scenario, 1..=self.seeds);
        if cases.iter().any(|case| known.outcome(case).is_none()) {
            return None;
        }
        count(known, &cases).0.rate()
    }

    /// Returns the next runs to make; none when the search is finished. A search for a rare defect that no run has caught yet
    /// goes on in steps of at most `at_once` runs.
    pub fn next(&self, known: &impl Known, at_once: usize) -> Vec<Case> {
        let missing = |cases: Vec<Case>| -> Vec<Case> {
            cases
                .into_iter()
                .filter(|case| known.outcome(case).is_none())
                .collect()
        };
        let candidates = self.candidates(known);
        let mut first = missing(self.first());
        if self.quick {
            // Go on to the next scenario only after each scenario that caught the defect has run with all seeds, and has caught
            // it too seldom.
            let undecided = candidates
                .iter()
                .any(|scenario| self.rate(known, scenario).is_none_or(|rate| rate >= CAUGHT));
            first.truncate(usize::from(!undecided));
        }
        if !first.is_empty() {
            return first;
        }
        let scheduler = self.scheduler();
        if self.defect.rare {
            return if candidates.is_empty() {
                let likely = likely(&self.defect.seen_by);
                let worth = |scenario: &&String| likely.contains(&scenario.as_str());
                let any = !self.scenarios.iter().any(|scenario| worth(&scenario));
                let mut rest: Vec<Case> = self
                    .scenarios
                    .iter()
                    .filter(|scenario| any || worth(scenario))
                    .flat_map(|scenario| cell(&scheduler, scenario, 2..=RARE_SEEDS))
                    .collect();
                rest.sort_by_key(|case| case.seed);
                rest.truncate(RARE_SEEDS as usize);
                let mut rest = missing(rest);
                rest.truncate(at_once);
                rest
            } else {
                missing(cell(&scheduler, &candidates[0], 1..=self.seeds))
            };
        }
        let mut tried = 0;
        for scenario in &candidates {
            let cases = cell(&scheduler, scenario, 1..=self.seeds);
            let todo = missing(cases.clone());
            if !todo.is_empty() {
                return todo;
            }
            let (count, _) = count(known, &cases);
            tried += 1;
            if count.rate().is_some_and(|rate| rate >= CAUGHT) || tried == TRIES {
                break;
            }
        }
        Vec::new()
    }
}

/// Returns the cases of a scheduler without defects: `runs` of them, but at least one per scenario.
pub fn clean(baseline: &Baseline, scenarios: &[String], runs: u64) -> Vec<Case> {
    let scheduler = Scheduler::Baseline(baseline.clone());
    let seeds = runs.div_ceil(scenarios.len().max(1) as u64);
    let cells = scenarios.iter();
    let mut cases: Vec<Case> = cells
        .flat_map(|scenario| cell(&scheduler, scenario, 1..=seeds))
        .collect();
    cases.sort_by_key(|case| case.seed);
    cases.truncate((runs as usize).max(scenarios.len()));
    cases
}

/// Takes the most significant check of each failed run, and returns the names of these checks, each with its number of runs, the
/// most frequent first.
pub fn checks<'a>(
    known: &impl Known,
    cases: impl IntoIterator<Item = &'a Case>,
) -> Vec<(String, u64)> {
    let mut names: BTreeMap<String, u64> = BTreeMap::new();
    for outcome in cases.into_iter().filter_map(|case| known.outcome(case)) {
        if let (true, Some(check)) = (is_caught(outcome), outcome.check()) {
            *names.entry(check.to_owned()).or_default() += 1;
        }
    }
    let mut names: Vec<(String, u64)> = names.into_iter().collect();
    names.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_record::RunVerdict;

    impl Known for BTreeMap<Case, Outcome> {
        fn outcome(&self, case: &Case) -> Option<&Outcome> {
            self.get(case)
        }
    }

    fn outcome(caught: bool) -> Outcome {
        let mut outcome = Outcome::without_answer("stuck".to_owned());
        outcome.verdict = match caught {
            true => RunVerdict::Fail,
            false => RunVerdict::Pass,
        };
        outcome.findings[0].check = "gap".to_owned();
        outcome.wall_s = 1.0;
        outcome
    }

    fn defect(rare: bool) -> Defect {
        Defect {
            name: "slow".to_owned(),
            timed: false,
            seen_by: "latency".to_owned(),
            rare,
            does: "be slow".to_owned(),
        }
    }

    /// Runs a search to its end; `catches` decides which runs catch the defect.
    fn walk(rare: bool, quick: bool, catches: impl Fn(&Case) -> bool) -> Vec<Case> {
        let scenarios = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let defect = defect(rare);
        let row = Row {
            defect: &defect,
            scenarios: &scenarios,
            seeds: 5,
            quick,
        };
        let (mut known, mut made) = (BTreeMap::new(), Vec::new());
        loop {
            let next = row.next(&known, 2);
            if next.is_empty() {
                return made;
            }
            for case in next {
                known.insert(case.clone(), outcome(catches(&case)));
                made.push(case);
            }
        }
    }

    #[test]
    fn every_scenario_runs_once_before_the_seeds_of_the_one_that_caught_it() {
        let made = walk(false, false, |case| case.scenario == "b");
        assert_eq!(made.len(), 3 + 4);
        assert!(made[3..].iter().all(|case| case.scenario == "b"));
    }

    #[test]
    fn a_quick_row_ends_with_the_first_catch() {
        let made = walk(false, true, |case| case.scenario != "a");
        let scenarios: Vec<&str> = made.iter().map(|case| case.scenario.as_str()).collect();
        assert_eq!(scenarios, ["a", "b", "b", "b", "b", "b"]);
    }

    #[test]
    fn a_quick_row_goes_on_when_the_first_catch_was_luck() {
        let made = walk(false, true, |case| case.scenario == "b" || case.seed == 1);
        let scenarios: Vec<&str> = made.iter().map(|case| case.scenario.as_str()).collect();
        assert_eq!(
            scenarios,
            ["a", "a", "a", "a", "a", "b", "b", "b", "b", "b"]
        );
    }

    #[test]
    fn likely_scenarios_come_first() {
        let scenarios = ["steady".to_owned(), "custom_bursts".to_owned()];
        let defect = defect(false);
        let row = Row {
            defect: &defect,
            scenarios: &scenarios,
            seeds: 1,
            quick: false,
        };
        assert_eq!(row.first()[0].scenario, "custom_bursts");
    }

    #[test]
    fn a_scenario_that_catches_too_little_gives_way_to_the_next() {
        let made = walk(false, false, |case| case.scenario == "c" || case.seed == 1);
        assert!(
            made.iter().filter(|case| case.scenario == "c").count() == 5,
            "{made:?}"
        );
    }

    #[test]
    fn the_search_for_an_uncaught_defect_ends_after_one_run_per_scenario() {
        assert_eq!(walk(false, false, |_| false).len(), 3);
    }

    #[test]
    fn a_rare_defect_is_searched_for_until_it_is_caught() {
        let made = walk(true, false, |case| case.seed == 7 && case.scenario == "a");
        // The runs are made in the order of their seeds, two at once; seed 7 of `a` is in the last pair, with seed 6 of `c`.
        assert_eq!(made.iter().filter(|case| case.seed == 7).count(), 1);
        let never = walk(true, false, |_| false);
        assert_eq!(never.len(), 3 + 200);
    }

    #[test]
    fn unanswered_runs_are_counted_apart() {
        let cases = clean(&Baseline::Eevdf, &["a".to_owned(), "b".to_owned()], 3);
        assert_eq!(cases.len(), 3);
        let mut known = BTreeMap::from([
            (cases[0].clone(), outcome(true)),
            (cases[1].clone(), outcome(false)),
        ]);
        let mut nothing = outcome(false);
        nothing.verdict = RunVerdict::Inconclusive;
        known.insert(cases[2].clone(), nothing);
        assert_eq!(count(&known, &cases), (Count { hits: 1, runs: 2 }, 1));
        assert_eq!(checks(&known, &cases), [("gap".to_owned(), 1)]);
    }
}
