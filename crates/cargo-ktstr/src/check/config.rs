//! `ktstr.toml`: a project's own matrix, promises, bounds, gates and known failures. `docs/check.md` describes it.
//!
//! An unknown key is an error, which names the line and the most similar key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::date::Date;
use crate::cell::{BOUNDS, Bound, GateWish, METRICS, PROMISES, promise_key};
use crate::suggest;

/// The file that is read where none is named.
pub const FILE: &str = "ktstr.toml";

/// The settings of a project for its checks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The kernels to test on, as on the command line; empty if the file names none.
    pub kernels: Vec<String>,
    /// The shapes, as on the command line.
    pub topologies: Vec<String>,
    /// The names of the scenarios to run; empty if the file names none.
    pub scenarios: Vec<String>,
    /// The seeds, as on the command line.
    pub seeds: Option<String>,
    /// The promises that the scheduler does not make, by their names in the file.
    pub without: Vec<String>,
    /// Bounds that differ from the harness's own, by their keys in the file.
    pub bounds: BTreeMap<String, Bound>,
    /// The gates that the file sets for `compare`, by the names of metrics. A gate is the size from which a difference counts.
    pub gates: BTreeMap<String, GateWish>,
    /// Failures that are known.
    pub known: Vec<Known>,
}

/// A known failure, and until when it is tolerated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// Name of the scenario.
    pub scenario: String,
    /// Name of the check; `None` for any.
    pub check: Option<String>,
    /// The kernel as `[debian:]VERSION[+FLAVOUR]`, such as `7.3` or `debian:7.3+rt`. The version is a release or its first
    /// numbers. `None` matches any kernel.
    pub kernel: Option<String>,
    /// The shape; `None` for any.
    pub topology: Option<String>,
    /// Why the failure is tolerated.
    pub reason: String,
    /// The last day on which the failure is tolerated.
    pub expires: Date,
    /// The line of the entry in the file.
    pub line: usize,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Root {
    matrix: Matrix,
    scheduler: Scheduler,
    bounds: BTreeMap<Spanned<String>, Spanned<toml::Value>>,
    gates: BTreeMap<Spanned<String>, Spanned<toml::Value>>,
    known: Vec<Spanned<OneKnown>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Matrix {
    kernels: Vec<String>,
    topologies: Vec<String>,
    scenarios: Vec<String>,
    seeds: Option<Spanned<toml::Value>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Scheduler {
    does_not_promise: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneKnown {
    scenario: String,
    check: Option<String>,
    kernel: Option<String>,
    topology: Option<String>,
    reason: String,
    expires: Spanned<toml::Value>,
}

/// Reads the file that was given, or else [`FILE`] in the current folder if it exists. Also returns the path of the file that was
/// read; `None` if there is none.
///
/// # Errors
///
/// The file cannot be read, or is not a configuration. In the second case the error names the line if it is known.
pub fn read(named: Option<&Path>) -> Result<(Config, Option<PathBuf>)> {
    let path = named.unwrap_or(Path::new(FILE));
    if named.is_none() && !path.exists() {
        return Ok((Config::default(), None));
    }
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("reading the configuration {}", path.display()))?;
    let config = parse(&text).map_err(|(line, why)| match line {
        Some(line) => anyhow!("{}:{line}: {why}", path.display()),
        None => anyhow!("{}: {why}", path.display()),
    })?;
    Ok((config, Some(path.to_owned())))
}

/// An error in the file: its line, if that is known, and a message.
type Wrong = (Option<usize>, String);

/// Parses the text of a configuration.
pub fn parse(text: &str) -> Result<Config, Wrong> {
    let line = |at: usize| {
        text.get(..at)
            .map(|before| before.matches('\n').count() + 1)
    };
    let root: Root = toml::from_str(text).map_err(|error| {
        let at = error.span().and_then(|span| line(span.start));
        (at, with_hint(error.message()))
    })?;
    let mut config = Config {
        kernels: root.matrix.kernels,
        topologies: root.matrix.topologies,
        scenarios: root.matrix.scenarios,
        ..Config::default()
    };
    if let Some(seeds) = root.matrix.seeds {
        config.seeds = match seeds.get_ref() {
            toml::Value::Integer(count) => Some(count.to_string()),
            toml::Value::String(range) => Some(range.clone()),
            _ => {
                let why = "`seeds` must be a number, or a range such as \"3..7\"".to_owned();
                return Err((line(seeds.span().start), why));
            }
        };
    }
    for word in root.scheduler.does_not_promise {
        let known = PROMISES.map(promise_key);
        if !known.contains(&word.get_ref().as_str()) {
            let hint = suggest::hint(word.get_ref(), known.into_iter());
            let all = known.join(", ");
            let why = format!("unknown promise `{}`{hint} (known: {all})", word.get_ref());
            return Err((line(word.span().start), why));
        }
        config.without.push(word.into_inner());
    }
    for (key, value) in root.bounds {
        let at = line(key.span().start);
        let bound =
            bound(key.get_ref(), value.get_ref()).map_err(|error| (at, error.to_string()))?;
        config.bounds.insert(key.into_inner(), bound);
    }
    for (key, value) in root.gates {
        let at = line(key.span().start);
        let gate = gate(key.get_ref(), value.get_ref()).map_err(|error| (at, error.to_string()))?;
        config.gates.insert(key.into_inner(), gate);
    }
    for known in root.known {
        let at = known.span().start;
        let known = known.into_inner();
        let expires = match known.expires.get_ref() {
            toml::Value::String(date) => date.parse::<Date>(),
            // A date of TOML, which has no quotes. One with a time is not a day.
            other => other.to_string().parse::<Date>(),
        };
        let expires = expires.map_err(|why| (line(known.expires.span().start), why))?;
        if known.reason.trim().is_empty() {
            return Err((line(at), "a known failure needs a `reason`".to_owned()));
        }
        config.known.push(Known {
            scenario: known.scenario,
            check: known.check,
            kernel: known.kernel,
            topology: known.topology,
            reason: known.reason,
            expires,
            line: line(at).unwrap_or_default(),
        });
    }
    Ok(config)
}

fn bound(key: &str, value: &toml::Value) -> Result<Bound> {
    let known = BOUNDS.map(|(key, _)| key);
    if !known.contains(&key) {
        let hint = suggest::hint(key, known.into_iter());
        bail!("unknown bound `{key}`{hint} (known: {})", known.join(", "));
    }
    let number = match value {
        toml::Value::String(word) if word == "off" => return Ok(Bound::Off),
        toml::Value::Integer(number) => *number as f64,
        toml::Value::Float(number) => *number,
        _ => f64::NAN,
    };
    if !(number.is_finite() && number >= 0.0) {
        bail!("`{key}` must be a number of at least 0, or \"off\"");
    }
    if key.ends_with("_share") && number > 1.0 {
        bail!(
            "`{key}` must be a share from 0 to 1, such as 0.7, or \"off\": a share is never {number}"
        );
    }
    Ok(Bound::At(number))
}

fn gate(key: &str, value: &toml::Value) -> Result<GateWish> {
    let known = || METRICS.iter().map(|metric| metric.name);
    if !known().any(|name| name == key) {
        let hint = suggest::hint(key, known());
        let all: Vec<&str> = known().collect();
        bail!("unknown metric `{key}`{hint} (known: {})", all.join(", "));
    }
    let wrong = || {
        anyhow!(
            "`{key}` must be \"off\", or {{ least = UNITS, share = PART }} with one or both of them, each at least 0"
        )
    };
    match value {
        toml::Value::String(word) if word == "off" => Ok(GateWish::Off),
        toml::Value::Table(table) if !table.is_empty() => {
            let (mut least, mut share) = (None, None);
            for (name, value) in table {
                let number = match value {
                    toml::Value::Integer(number) => *number as f64,
                    toml::Value::Float(number) => *number,
                    _ => f64::NAN,
                };
                if !(number.is_finite() && number >= 0.0) {
                    return Err(wrong());
                }
                match name.as_str() {
                    "least" => least = Some(number),
                    "share" => share = Some(number),
                    other => {
                        let hint = suggest::hint(other, ["least", "share"].into_iter());
                        bail!("unknown key `{other}`{hint} (known: least, share)");
                    }
                }
            }
            Ok(GateWish::At { least, share })
        }
        _ => Err(wrong()),
    }
}

/// Returns the message of the parser. If it is about an unknown key, the message names the most similar key and all known ones.
fn with_hint(message: &str) -> String {
    let words: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match (message.starts_with("unknown field"), &words[..]) {
        (true, [word, known @ ..]) => {
            let hint = suggest::hint(word, known.iter().copied());
            format!("unknown key `{word}`{hint} (known: {})", known.join(", "))
        }
        _ => message.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
[matrix]
kernels = ["7.0", "7.3"]
topologies = ["own", "8cpu-2llc-smt"]
scenarios = ["steady"]
seeds = "3..7"

[scheduler]
does_not_promise = ["cpu_weight"]

[bounds]
max_owed_ms = 80
min_task_share = "off"

[gates]
migrations = "off"
wake_p99 = { least = 200, share = 0.05 }

[[known]]
scenario = "steady"
check = "starvation"
reason = "issue 12"
expires = "2026-12-31"
"#;

    #[test]
    fn a_whole_file_is_read() {
        let config = parse(WHOLE).expect("a configuration");
        assert_eq!(config.kernels, ["7.0", "7.3"]);
        assert_eq!(config.topologies.len(), 2);
        assert_eq!(config.seeds.as_deref(), Some("3..7"));
        assert_eq!(config.without, ["cpu_weight"]);
        assert_eq!(config.bounds["max_owed_ms"], Bound::At(80.0));
        assert_eq!(config.bounds["min_task_share"], Bound::Off);
        assert_eq!(config.known[0].expires.to_string(), "2026-12-31");
        assert_eq!(config.gates["migrations"], GateWish::Off);
        let (least, share) = (Some(200.0), Some(0.05));
        assert_eq!(config.gates["wake_p99"], GateWish::At { least, share });
        assert_eq!(config.known[0].line, 19);
        assert_eq!(parse("").expect("nothing").known.len(), 0);
        let unquoted = WHOLE.replace("\"2026-12-31\"", "2026-12-31");
        assert_eq!(
            parse(&unquoted).expect("a configuration").known,
            config.known
        );
    }

    fn error(text: &str) -> String {
        let (line, why) = parse(text).expect_err("wrong");
        format!("{}: {why}", line.expect("a line"))
    }

    #[test]
    fn an_unknown_word_is_an_error_with_its_line_and_the_most_similar_word() {
        insta::assert_snapshot!(error("[matrix]\nseedz = 3\n"), @"2: unknown key `seedz`: did you mean `seeds`? (known: kernels, topologies, scenarios, seeds)");
        insta::assert_snapshot!(error("\n[matrx]\n"), @"2: unknown key `matrx`: did you mean `matrix`? (known: matrix, scheduler, bounds, gates, known)");
        insta::assert_snapshot!(error("[bounds]\nmax_owed = 3\n"), @"2: unknown bound `max_owed`: did you mean `max_owed_ms`? (known: max_owed_ms, min_entitled_share, min_task_share, max_wasted_share, max_wake_wait_ms, max_preemption_rate, min_driven_share)");
        insta::assert_snapshot!(error("[scheduler]\ndoes_not_promise = [\"nise\"]\n"), @"2: unknown promise `nise`: did you mean `nice`? (known: service, fairness, nice, cpu_weight, work_conservation, wake_ups, slices, all_tasks)");
    }

    #[test]
    fn an_invalid_gate_is_an_error_with_its_line() {
        insta::assert_snapshot!(error("[gates]\nwake_99 = \"off\"\n"), @"2: unknown metric `wake_99`: did you mean `wake_p99`? (known: run_delay, wake_p50, wake_p99, worst_share, wasted, migrations, slice, iterations)");
        insta::assert_snapshot!(error("[gates]\nslice = 3\n"), @r#"2: `slice` must be "off", or { least = UNITS, share = PART } with one or both of them, each at least 0"#);
        insta::assert_snapshot!(error("[gates]\nslice = { share = -1 }\n"), @r#"2: `slice` must be "off", or { least = UNITS, share = PART } with one or both of them, each at least 0"#);
        insta::assert_snapshot!(error("[gates]\nslice = { leest = 1 }\n"), @"2: unknown key `leest`: did you mean `least`? (known: least, share)");
    }

    #[test]
    fn an_impossible_value_is_an_error_with_its_line() {
        insta::assert_snapshot!(error("[bounds]\nmax_owed_ms = -3\n"), @r#"2: `max_owed_ms` must be a number of at least 0, or "off""#);
        insta::assert_snapshot!(error("[bounds]\nmax_owed_ms = nan\n"), @r#"2: `max_owed_ms` must be a number of at least 0, or "off""#);
        insta::assert_snapshot!(error("[bounds]\nmin_task_share = 1.5\n"), @r#"2: `min_task_share` must be a share from 0 to 1, such as 0.7, or "off": a share is never 1.5"#);
        insta::assert_snapshot!(error("[matrix]\nseeds = true\n"), @r#"2: `seeds` must be a number, or a range such as "3..7""#);
        let known = "[[known]]\nscenario = \"steady\"\nreason = \"x\"\nexpires = \"soon\"\n";
        insta::assert_snapshot!(error(known), @"4: expected a date that exists, in the form YYYY-MM-DD, not `soon`");
        let known = known.replace("\"soon\"", "2026-12-31T10:00:00");
        insta::assert_snapshot!(error(&known), @"4: expected a date that exists, in the form YYYY-MM-DD, not `2026-12-31T10:00:00`");
        let known = "[[known]]\nscenario = \"steady\"\nexpires = \"2026-12-31\"\n";
        insta::assert_snapshot!(error(known), @"1: missing field `reason`");
        assert!(error("[matrix\n").starts_with("1: "));
    }
}
