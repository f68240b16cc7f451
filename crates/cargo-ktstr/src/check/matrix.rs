//! Builds the matrix of runs from the options, the configuration and the level of thoroughness: the places, which are scenarios
//! × kernels × shapes, and the seeds that are run in each place.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::Options;
use super::config::Config;
use super::known;
use crate::cell::axes::{self, Kernel};
use crate::explore::Seeds;

/// How thorough a check is, which decides the scenarios, seeds and shapes that the user does not choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A dozen scenarios with one seed each, which takes about two minutes.
    Quick,
    /// Every scenario with two seeds, on its own shape.
    Usual,
    /// Every scenario with five seeds, on its own shape and on one more.
    Thorough,
}

/// The scenarios of [`Level::Quick`]: those that catch most of the planted defects (`docs/power.md`), the most effective first.
const QUICK: [&str; 12] = [
    "custom_nice_mix",
    "custom_bursts",
    "steady",
    "custom_cgroup_cpuset_merge",
    "custom_fan_out_wake",
    "affinity_pinned",
    "custom_cgroup_4way_load_imbalance",
    "custom_bursts_spare",
    "custom_cgroup_rapid_churn",
    "custom_futex_ping_pong",
    "custom_cgroup_cpuset_swap_disjoint",
    "cpu_off_and_on",
];

/// The additional shape of [`Level::Thorough`]: two LLCs and cores with two threads, which no scenario's own shape has.
const MORE: &str = "8cpu-2llc-smt";

impl Level {
    /// Returns the level that the flags select.
    pub fn of(quick: bool, thorough: bool) -> Self {
        match (quick, thorough) {
            (true, _) => Self::Quick,
            (_, true) => Self::Thorough,
            _ => Self::Usual,
        }
    }

    /// Returns the name of the level.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Usual => "usual",
            Self::Thorough => "thorough",
        }
    }

    fn scenarios(self, all: &[String]) -> Vec<String> {
        match self {
            Self::Quick => QUICK.map(str::to_owned).into(),
            Self::Usual | Self::Thorough => all.to_vec(),
        }
    }

    fn topologies(self) -> Vec<String> {
        match self {
            Self::Quick | Self::Usual => Vec::new(),
            Self::Thorough => vec![axes::OWN.to_owned(), MORE.to_owned()],
        }
    }

    const fn seeds(self) -> u64 {
        match self {
            Self::Quick => 1,
            Self::Usual => 2,
            Self::Thorough => 5,
        }
    }

    /// Returns the time limit; `None` if the level has none. The limits are a little shorter than the two minutes and the
    /// quarter of an hour that the command's help states. A run is not started if it is expected to exceed the limit. It is
    /// expected to take as long as the last pair of runs, the scheduler's and EEVDF's. The number of runs that were left out is
    /// reported.
    pub const fn budget(self) -> Option<Duration> {
        match self {
            Self::Quick => Some(Duration::from_secs(115)),
            Self::Usual => Some(Duration::from_secs(14 * 60)),
            Self::Thorough => None,
        }
    }
}

/// The scenario, kernel and shape of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Name of the scenario.
    pub scenario: String,
    /// The kernel that the machine boots.
    pub kernel: Kernel,
    /// The shape; `None` for the scenario's own.
    pub topology: Option<String>,
}

/// All runs of a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// The places, in the order in which they are run.
    pub places: Vec<Place>,
    /// The seeds that are run in each place.
    pub seeds: Seeds,
    /// The scenarios in it.
    pub scenarios: Vec<String>,
    /// The kernels in it.
    pub kernels: Vec<Kernel>,
    /// Why some kernels are not in it.
    pub missing: Vec<String>,
    /// The shapes in it.
    pub topologies: Vec<Option<String>>,
}

impl Matrix {
    /// Builds the matrix. Each axis comes from the options, else from the configuration, else from the level. A level has no
    /// kernels, so without options and configuration the default kernel is used. All names of scenarios and shapes, the seeds
    /// and the known failures are checked before a kernel is looked for.
    ///
    /// # Errors
    ///
    /// A scenario, a shape or a range of seeds is not valid, a known failure can never match, the lock file cannot be used, or
    /// none of the kernels is available.
    pub fn of(options: &Options, config: &Config, level: Level, all: &[String]) -> Result<Self> {
        let first = |a: &[String], b: &[String], c: Vec<String>| match (a, b) {
            ([], []) => c,
            ([], b) => b.to_vec(),
            (a, _) => a.to_vec(),
        };
        let words = first(&options.scenarios, &config.scenarios, level.scenarios(all));
        let named = axes::scenarios(&words, all)?;
        // The most effective scenarios come first, since the time limit can cut off the last ones.
        let mut scenarios = named;
        scenarios.sort_by_key(|name| QUICK.iter().position(|q| q == name).unwrap_or(QUICK.len()));
        let topologies = axes::topologies(&first(
            &options.topologies,
            &config.topologies,
            level.topologies(),
        ))?;
        let seeds = match options.seeds.as_ref().or(config.seeds.as_ref()) {
            Some(text) => axes::seeds(text)?,
            None => Seeds {
                first: 1,
                end: 1 + level.seeds(),
            },
        };
        for entry in &config.known {
            known::can_match(entry, all).with_context(|| {
                format!("the known failure in line {} matches nothing", entry.line)
            })?;
        }
        let words = first(&options.kernels.kernels, &config.kernels, Vec::new());
        let (kernels, missing) = axes::kernels(&words, options.kernels.lock.as_deref())?;
        if kernels.is_empty() {
            bail!("there is no kernel to run: {}", missing.join("; "));
        }
        Ok(Self {
            places: places(&scenarios, &kernels, &topologies),
            seeds,
            scenarios,
            kernels,
            missing,
            topologies,
        })
    }

    /// Returns the index of a place in the matrix; `None` if the matrix does not have it.
    pub fn position(&self, place: &Place) -> Option<usize> {
        self.places.iter().position(|other| other == place)
    }
}

/// Returns all places, grouped by kernel and shape.
fn places(scenarios: &[String], kernels: &[Kernel], topologies: &[Option<String>]) -> Vec<Place> {
    let mut places = Vec::new();
    for kernel in kernels {
        for topology in topologies {
            places.extend(scenarios.iter().map(|scenario| Place {
                scenario: scenario.clone(),
                kernel: kernel.clone(),
                topology: topology.clone(),
            }));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_there_once() {
        let kernel = |id: &str| Kernel {
            id: id.to_owned(),
            release: id.to_owned(),
            asked: None,
        };
        let scenarios = ["a".to_owned(), "b".to_owned()];
        let shapes = [None, Some("1n2l2c1t".to_owned())];
        let all = places(&scenarios, &[kernel("7.0"), kernel("7.3")], &shapes);
        assert_eq!(all.len(), 8);
        for (at, place) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(place), "{place:?} twice");
        }
        assert_eq!(all[0].kernel, all[3].kernel, "grouped by kernel");
    }

    #[test]
    fn a_level_runs_less_than_the_next() {
        let all: Vec<String> = QUICK.iter().map(|name| (*name).to_owned()).collect();
        let levels = [Level::Quick, Level::Usual, Level::Thorough];
        let size = |level: Level| {
            let shapes = level.topologies().len().max(1) as u64;
            level.scenarios(&all).len() as u64 * shapes * level.seeds()
        };
        assert!(levels.map(size).is_sorted_by(|a, b| a < b));
        assert!(Level::Quick.budget() < Level::Usual.budget());
        assert_eq!(Level::of(true, false), Level::Quick);
        assert_eq!(Level::of(false, true), Level::Thorough);
    }
}
