//! Turns a workload file of rt-app into a scenario file in TOML, which is what `cargo ktstr run` runs, and what `--print` shows.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use ktstr::scenario::Scenario;
use ktstr_record::terminal::eprint_line;

/// The number of CPUs of the machine if the file does not need more; a test compares it with the default topology.
const USUAL_CPUS: usize = 2;

/// Returns whether a file is read as one of rt-app: the user asks for that, or the name of the file ends with `.json`.
pub(super) fn is_rt_app(path: &Path, asked: bool) -> bool {
    asked
        || path
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("json"))
}

/// Returns the file as TOML. Notes on keys that have no effect are printed on standard error, one per line.
pub(super) fn as_toml(path: &Path, text: &str) -> Result<String> {
    let file = Scenario::from_rt_app(text)?;
    for note in &file.notes {
        eprint_line(&format!("note: {}: {note}", path.display()));
    }
    let mut toml = String::new();
    if let Some(duration) = file.duration {
        writeln!(toml, "duration_s = {}", duration.as_secs())?;
    }
    if file.cpus > USUAL_CPUS {
        writeln!(toml, "cores = {}", file.cpus)?;
    }
    toml.push_str(&file.scenario.to_text()?);
    Ok(toml)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ktstr::scenario::file::{ScenarioFile, SettingValue};
    use ktstr::topology::Topology;

    #[test]
    fn a_file_has_the_machine_that_it_names() {
        assert_eq!(Topology::DEFAULT.total_cpus() as usize, USUAL_CPUS);
        let of = |keys: &str, global: &str| {
            let text =
                format!("{{ \"tasks\" : {{ \"t\" : {{ \"run\" : 1, {keys} }} }}, {global} }}");
            let toml = as_toml(Path::new("x.json"), &text).unwrap();
            ScenarioFile::from_text(&toml).unwrap().settings
        };
        assert!(of("\"cpus\" : [ 0, 1 ]", "").is_empty());
        let settings = of("\"cpus\" : [ 4 ]", "\"global\" : { \"duration\" : 3 }");
        let settings = settings.iter().map(|one| (one.key.as_str(), &one.value));
        let expected = [
            ("duration_s", &SettingValue::Integer(3)),
            ("cores", &SettingValue::Integer(5)),
        ];
        assert_eq!(settings.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn files_are_told_apart_by_their_names() {
        let named = |name: &str| is_rt_app(Path::new(name), false);
        assert!(named("a.json") && named("a.JSON"));
        assert!(!named("a.toml") && !named("json"));
        assert!(is_rt_app(Path::new("a.conf"), true));
    }
}
