//! `cargo ktstr merge FILE...`: merges the shards of a check into one check. Nothing is run. The report is made by the same
//! code as the report of a check, so it equals the report that a single machine would have made of these runs.
//!
//! Exit codes: those of `check`, and 2 if the files are not all shards of one check.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use ktstr_record::settings;

use super::results::{Asked, Results};
use super::shard::{self, Shard};
use super::walk::Walked;
use super::{Outputs, print_outcome};
use crate::exit::Exit;

/// The options of `cargo ktstr merge`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The results of every shard, as `cargo ktstr check --shard I/N --results FILE` wrote them; or of one whole check, to see
    /// it again.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The files to write.
    #[command(flatten)]
    outputs: Outputs,
}

/// Reads the files, merges them, and reports what a single check would have reported.
pub fn run(out: &mut dyn Write, options: &Options) -> Result<Exit> {
    let mut shards = Vec::new();
    for path in &options.files {
        shards.push((path.display().to_string(), Results::read(path)?));
    }
    print_outcome(out, &merged(shards)?, &options.outputs)
}

/// Merges the shards of one check, each with the name of its file. If the only file holds a whole check, its results are
/// returned unchanged.
///
/// # Errors
///
/// The files are not all shards of one check, or a shard is missing or given twice.
pub fn merged(mut shards: Vec<(String, Results)>) -> Result<Results> {
    let Some((name, first)) = shards.first().cloned() else {
        bail!("there is nothing to merge");
    };
    if let (1, None) = (shards.len(), first.shard) {
        return Ok(first);
    }
    let count = |results: &Results| results.shard.map(|shard| shard.of);
    for (other_name, other) in &shards {
        if let Some(difference) = difference([&name, other_name], &first.asked, &other.asked) {
            bail!("{name} and {other_name} are not of one check: {difference}");
        }
        match (count(&first), count(other)) {
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) => bail!(
                "{name} is one of {a} shards, and {other_name} is one of {b}: a check is merged from its own shards"
            ),
            (None, _) => bail!("{name} is a whole check, and not a shard"),
            (_, None) => bail!("{other_name} is a whole check, and not a shard"),
        }
    }
    let of = count(&first).unwrap_or_default();
    let index = |results: &Results| results.shard.map_or(0, |shard| shard.index);
    shards.sort_by_key(|(_, results)| index(results));
    for two in shards.windows(2) {
        let [(a, one), (b, other)] = two else {
            continue;
        };
        ensure!(
            index(one) != index(other),
            "{a} and {b} are both shard {}/{of}",
            index(one)
        );
    }
    let there = |wanted: &usize| shards.iter().any(|(_, results)| index(results) == *wanted);
    let missing: Vec<String> = (1..=of)
        .filter(|index| !there(index))
        .map(|index| Shard { index, of }.to_string())
        .collect();
    ensure!(
        missing.is_empty(),
        "the results of {} of {of} shards are missing: {}",
        missing.len(),
        missing.join(", ")
    );
    let owner = shard::division(&first.asked.matrix, of);
    let mut walked = Walked::default();
    let (mut wall_s, mut day) = (0.0_f64, first.day);
    for (name, results) in shards {
        let mine = index(&results);
        for pair in &results.walked.pairs {
            let place = first.asked.matrix.position(&pair.place);
            ensure!(
                place.and_then(|at| owner.get(at)) == Some(&mine),
                "{name} is shard {mine}/{of}, and has a run of {} that belongs to another shard",
                pair.place.scenario
            );
        }
        walked.pairs.extend(results.walked.pairs);
        walked.left_out += results.walked.left_out;
        walked.eevdf_runs += results.walked.eevdf_runs;
        wall_s = wall_s.max(results.wall_s);
        day = day.max(results.day);
    }
    walked.sort(&first.asked.matrix);
    Ok(Results::new(first.asked, None, day, walked, wall_s))
}

/// Returns the first difference between two checks, which are in these files; `None` if they are the same check.
fn difference(files: [&str; 2], a: &Asked, b: &Asked) -> Option<String> {
    let differ = |what: &str, a: &str, b: &str| Some(format!("{what} {a}, and {what} {b}"));
    if a == b {
        return None;
    }
    if a.version != b.version {
        return differ("they were run by version", &a.version, &b.version);
    }
    if a.scheduler.hash != b.scheduler.hash {
        return Some(format!(
            "their schedulers are different files (BLAKE3 {} and {}): build it once, and give it to every shard",
            a.scheduler.hash, b.scheduler.hash
        ));
    }
    if a.scheduler.args != b.scheduler.args {
        let args = |asked: &Asked| format!("`{}`", asked.scheduler.args.join(" "));
        return differ("the scheduler's arguments were", &args(a), &args(b));
    }
    if a.level != b.level {
        return differ("the level was", a.level.name(), b.level.name());
    }
    if a.matrix.seeds != b.matrix.seeds {
        let seeds = |asked: &Asked| {
            let seeds = asked.matrix.seeds;
            format!("{}..{}", seeds.first, seeds.end)
        };
        return differ("the seeds were", &seeds(a), &seeds(b));
    }
    let kernels = |asked: &Asked| {
        let ids = asked.matrix.kernels.iter().map(|kernel| kernel.id.clone());
        ids.collect::<Vec<_>>().join(", ")
    };
    if kernels(a) != kernels(b) {
        return differ("the kernels were", &kernels(a), &kernels(b));
    }
    if a.matrix.scenarios != b.matrix.scenarios {
        let scenarios = |asked: &Asked| asked.matrix.scenarios.join(", ");
        return differ("the scenarios were", &scenarios(a), &scenarios(b));
    }
    if a.matrix != b.matrix {
        return Some("the shapes, or the words for the kernels, differ".to_owned());
    }
    if let Some(difference) = settings::difference(files, &a.machine(), &b.machine()) {
        return Some(difference);
    }
    if a.config != b.config {
        return Some("their configurations (ktstr.toml) differ".to_owned());
    }
    Some(
        "the scheduler or its configuration was named differently: use the same path everywhere"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::results;
    use super::*;

    /// Divides results into `of` shards, as that many machines would have run them.
    fn divided(whole: &Results, of: usize) -> Vec<(String, Results)> {
        let owner = shard::division(&whole.asked.matrix, of);
        let part = |index: usize| {
            let mut part = whole.clone();
            part.shard = Some(Shard { index, of });
            part.walked.pairs.retain(|pair| {
                let at = whole.asked.matrix.position(&pair.place);
                at.is_some_and(|at| owner[at] == index)
            });
            part.walked.eevdf_runs = u64::from(index == 1);
            (format!("{index}.json"), part)
        };
        (1..=of).map(part).collect()
    }

    fn error(shards: Vec<(String, Results)>) -> String {
        merged(shards).expect_err("not merged").to_string()
    }

    #[test]
    fn shards_in_any_order_merge_into_the_whole_check() {
        let whole = results();
        for of in 1..=4 {
            let mut shards = divided(&whole, of);
            assert!(shards.iter().all(|(_, part)| !part.walked.pairs.is_empty()));
            shards.reverse();
            let merged = merged(shards).expect("merged");
            assert_eq!(merged, whole, "of {of}");
            let json = |of: &Results| serde_json::to_string(&of.report()).expect("JSON");
            assert_eq!(json(&merged), json(&whole));
        }
        let again = merged(vec![("whole.json".to_owned(), whole.clone())]);
        assert_eq!(again.expect("the whole"), whole);
    }

    #[test]
    fn files_that_are_not_all_shards_of_one_check_are_refused_by_name() {
        let whole = results();
        let shards = divided(&whole, 3);
        insta::assert_snapshot!(error(shards[..2].to_vec()), @"the results of 1 of 3 shards are missing: 3/3");
        insta::assert_snapshot!(error(vec![shards[0].clone(), shards[1].clone(), shards[1].clone()]), @"2.json and 2.json are both shard 2/3");
        insta::assert_snapshot!(error(vec![shards[0].clone(), divided(&whole, 2)[1].clone()]), @"1.json is one of 3 shards, and 2.json is one of 2: a check is merged from its own shards");
        insta::assert_snapshot!(error(vec![("w.json".to_owned(), whole), shards[0].clone()]), @"w.json is a whole check, and not a shard");
        let mut foreign = shards.clone();
        foreign[1].1.walked.pairs = shards[0].1.walked.pairs.clone();
        assert!(error(foreign).contains("2.json is shard 2/3, and has a run of"));
    }

    /// A change of one setting of a check.
    type Change = fn(&mut Asked);

    #[test]
    fn the_first_difference_between_two_checks_is_named() {
        let changes: [(&str, Change); 9] = [
            ("they were run by version", |asked| asked.version.push('x')),
            ("different files", |asked| asked.scheduler.hash.push('x')),
            ("arguments were `--fast`, and", |asked| {
                asked.scheduler.args.clear()
            }),
            ("the seeds were 1..3", |asked| asked.matrix.seeds.end += 1),
            ("the kernels were 7.3.4-ab", |asked| {
                asked.matrix.kernels[0].id.push('x')
            }),
            ("the scenarios were", |asked| asked.matrix.scenarios.clear()),
            (
                "--memory-mib was not set in 1.json, and 512 in 2.json",
                |asked| asked.again.memory_mib = Some(512),
            ),
            (
                "KTSTR_TURN_US was not set in 1.json, and 50 in 2.json",
                |asked| {
                    let turn = ("KTSTR_TURN_US".to_owned(), "50".to_owned());
                    asked.settings.extend([turn]);
                },
            ),
            ("ktstr.toml", |asked| {
                asked.config.without.push("nice".to_owned())
            }),
        ];
        for (printed, change) in changes {
            let mut shards = divided(&results(), 2);
            change(&mut shards[1].1.asked);
            let error = error(shards);
            assert!(
                error.starts_with("1.json and 2.json are not of one check: "),
                "{error}"
            );
            assert!(error.contains(printed), "{printed}: {error}");
        }
    }
}
