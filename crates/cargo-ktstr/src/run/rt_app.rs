//! Workload files of rt-app, as files with a scenario: what is run is their normal form, which `--print` shows.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use ktstr::scenario::Scenario;
use ktstr_record::terminal::eprint_line;

/// CPUs of the machine that a file is run on if it names none.
const USUAL_CPUS: usize = 2;

/// Whether a file is read as one for rt-app: if that is asked for, and if it is named as these files are.
pub(super) fn is_rt_app(path: &Path, asked: bool) -> bool {
    asked
        || path
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("json"))
}

/// The file as TOML. What it says without effect is told on standard error, a line for each.
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
