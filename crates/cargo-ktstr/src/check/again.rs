//! The two commands that a check prints for its findings. One reproduces a finding, because the same scenario, kernel, shape and
//! seed give the same run. The other compares the scheduler with EEVDF in one place (a scenario, a kernel and a shape).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::matrix::Place;
use crate::shell::quoted;

/// The options of a check that the commands for its findings repeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    /// The scheduler's binary, as it was named.
    pub binary: PathBuf,
    /// The scheduler's own arguments, as they were given.
    pub args: Vec<String>,
    /// The path of the configuration, if one was given.
    pub config: Option<PathBuf>,
    /// The least memory of the machines in MiB, if it was given.
    pub memory_mib: Option<u32>,
}

impl Again {
    /// Returns the command that checks one place with one seed.
    pub fn check(&self, place: &Place, seed: u64) -> String {
        let mut words = vec!["check".to_owned(), self.path()];
        words.extend(axes(place));
        words.extend([
            "--seeds".to_owned(),
            format!("{seed}..{}", seed.saturating_add(1)),
        ]);
        words.extend(self.memory());
        words.extend(self.config());
        if !self.args.is_empty() {
            words.push("--".to_owned());
            words.extend(self.args.iter().cloned());
        }
        line(&words)
    }

    /// Returns the command that compares the scheduler with EEVDF in one place. It names no seeds, so that `compare` takes as
    /// many as it needs.
    pub fn compare(&self, place: &Place) -> String {
        let mut words = vec!["compare".to_owned(), "eevdf".to_owned(), self.path()];
        words.extend(axes(place));
        words.extend(self.memory());
        words.extend(self.config());
        words.extend(self.args.iter().map(|arg| format!("--b-arg={arg}")));
        line(&words)
    }

    fn memory(&self) -> Vec<String> {
        let words = |mib: u32| ["--memory-mib".to_owned(), mib.to_string()];
        self.memory_mib.map(words).into_iter().flatten().collect()
    }

    fn config(&self) -> Vec<String> {
        let words = |config: &PathBuf| ["--config".to_owned(), config.display().to_string()];
        self.config
            .as_ref()
            .map(words)
            .into_iter()
            .flatten()
            .collect()
    }

    fn path(&self) -> String {
        self.binary.display().to_string()
    }
}

fn axes(place: &Place) -> Vec<String> {
    let mut words = vec!["--scenarios".to_owned(), place.scenario.clone()];
    if let Some(topology) = &place.topology {
        words.extend(["--topologies".to_owned(), topology.clone()]);
    }
    words.extend(["--kernels".to_owned(), place.kernel.id.clone()]);
    words
}

/// Returns the command line of `cargo ktstr` with these words, which are quoted for a shell where necessary.
pub fn line(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("cargo ktstr {}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{pair, passed};
    use super::*;

    #[test]
    fn a_command_names_everything_that_determines_the_run() {
        let again = Again {
            binary: "./my schedulers/scx_a".into(),
            args: vec!["--slice".to_owned(), "it's 5".to_owned()],
            config: Some("ci.toml".into()),
            memory_mib: Some(512),
        };
        let mut place = pair("steady", 1, passed(), passed()).place;
        place.topology = Some("1n2l2c1t".to_owned());
        insta::assert_snapshot!(again.check(&place, 7), @r"cargo ktstr check './my schedulers/scx_a' --scenarios steady --topologies 1n2l2c1t --kernels 7.3.4-ab --seeds 7..8 --memory-mib 512 --config ci.toml -- --slice 'it'\''s 5'");
        insta::assert_snapshot!(again.compare(&place), @r"cargo ktstr compare eevdf './my schedulers/scx_a' --scenarios steady --topologies 1n2l2c1t --kernels 7.3.4-ab --memory-mib 512 --config ci.toml --b-arg=--slice '--b-arg=it'\''s 5'");
    }
}
