//! The table of defects, which `scx-ktstr --list-defects` prints: one defect per line, in five fields separated by tabs.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

/// The argument, in seconds after attach, of the defects that start at a given time: the workload of 3 s has begun by then, and
/// most of it is left.
const SECONDS: &str = "1";

/// A defect as scx-ktstr declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Defect {
    /// The flag without `--`.
    pub name: String,
    /// Whether the flag takes an argument in seconds.
    pub timed: bool,
    /// The class of checks that should find the defect.
    pub seen_by: String,
    /// Whether the defect occurs so rarely that many runs do not show it.
    pub rare: bool,
    /// What the defect does, as a verb phrase without a subject.
    pub does: String,
}

impl Defect {
    /// Returns the arguments that enable the defect.
    pub fn args(&self) -> Vec<String> {
        let mut args = vec![format!("--{}", self.name)];
        args.extend(self.timed.then(|| SECONDS.to_owned()));
        args
    }
}

/// Returns all defects of the scheduler at `path`, which is run with `--list-defects`.
///
/// # Errors
///
/// The scheduler cannot be run, does not know the option, or prints something else.
pub fn read(path: &Path) -> Result<Vec<Defect>> {
    let output = Command::new(path)
        .arg("--list-defects")
        .output()
        .with_context(|| format!("asking {} for its defects", path.display()))?;
    ensure!(
        output.status.success(),
        "{} does not support --list-defects: it ended with {}",
        path.display(),
        output.status
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let defects = parse(&text).with_context(|| path.display().to_string())?;
    ensure!(!defects.is_empty(), "{} lists no defect", path.display());
    Ok(defects)
}

fn parse(text: &str) -> Result<Vec<Defect>> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, seconds, seen_by, rare, does] = fields[..] else {
            anyhow::bail!("expected five fields in a line of --list-defects, not {line:?}");
        };
        Ok(Defect {
            name: name.to_owned(),
            timed: seconds == "S",
            seen_by: seen_by.to_owned(),
            rare: rare == "rare",
            does: does.to_owned(),
        })
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read() {
        let text = "slow\t\tlatency\t\tleave out\nstall-after\tS\tstuck\trare\tstop";
        let defects = parse(text).expect("a list");
        assert_eq!(defects[0].args(), ["--slow"]);
        assert_eq!(defects[1].args(), ["--stall-after", "1"]);
        assert!(defects[1].rare && !defects[0].rare);
        assert!(parse("ktstr: attached").is_err());
    }
}
