//! The tests whose last recorded run failed or was inconclusive, with what is needed to repeat that run.

use std::collections::BTreeMap;
use std::path::Path;

use ktstr_record::{Listed, RunRecord, RunVerdict, TestName};
use ktstr_state::env;

use crate::cell;

/// A run that did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRun {
    /// The name of the test's binary, without the hash that cargo appends; `None` if it is not recorded.
    pub target: Option<String>,
    /// The name under which the binary runs it.
    pub name: TestName,
    /// The seed of the run.
    pub seed: Option<u64>,
    /// The other environment variables that the run had.
    pub env: BTreeMap<&'static str, String>,
}

/// Returns the newest run of each test, if that run failed or was inconclusive. Two runs are of the same test if they
/// have the same binary and the same name, and the user asked for the same shape and kernel. A run whose kernel was asked
/// for by its id replaces only runs on that kernel. The `records` are ordered from the newest to the oldest, and `cached`
/// are the ids of the kernels in the cache. Three kinds of runs do not count: repeats of failed runs, runs of `check` and
/// of the other commands that run canned scenarios, and runs of tests whose names start with `__`,
/// such as verifier cells.
pub fn failed(records: &[Listed], cached: &[String]) -> Vec<FailedRun> {
    let mut newest: BTreeMap<_, Vec<&RunRecord>> = BTreeMap::new();
    for Listed { record, .. } in records {
        let is_other = record.test.starts_with(cell::PREFIX) || record.test.starts_with("__");
        if record.repeats.is_some() || is_other {
            continue;
        }
        let key = (
            target_of(record),
            name_of(record).to_string(),
            asked_kernel(record),
            record.environment.get(env::TOPOLOGY.name()),
        );
        let newer = newest.entry(key).or_default();
        if !newer.iter().any(|newer| replaces(newer, record)) {
            newer.push(record);
        }
    }
    let not_passed = |verdict| matches!(verdict, RunVerdict::Fail | RunVerdict::Inconclusive);
    let failed = newest
        .into_values()
        .flatten()
        .filter(|record| not_passed(record.verdict));
    failed.map(|record| run(record, cached)).collect()
}

fn target_of(record: &RunRecord) -> Option<String> {
    target(&record.program.as_ref()?.path)
}

fn name_of(record: &RunRecord) -> TestName {
    let variant = record.variant.as_deref();
    let variant = variant.and_then(|name| TestName::parse(name)?.ok());
    variant.unwrap_or_else(|| TestName::declared(&record.test))
}

/// Returns the kernel that the user asked for; `None` for the default kernel, and for a kernel that was asked for by its id. The
/// id does not count, because a repeat of a run on the default kernel asks for its kernel by the id, and is still a run of the
/// same test.
fn asked_kernel(record: &RunRecord) -> Option<&String> {
    let asked = record.environment.get(env::KERNEL.name())?;
    id_asked_for(record).is_none().then_some(asked)
}

/// Returns the id by which a run asked for its kernel; `None` if it asked otherwise, or not at all. If the run ended before
/// its kernel was looked for, what it asked for is an id if it has the form of one: a release and eight digits of a hash.
fn id_asked_for(record: &RunRecord) -> Option<&String> {
    let asked = record.environment.get(env::KERNEL.name())?;
    let is_hash = |hash: &str| hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    let is_id = match &record.kernel_id {
        Some(id) => asked == id,
        None => {
            asked.starts_with(|first: char| first.is_ascii_digit())
                && asked
                    .rsplit_once('-')
                    .is_some_and(|(_, hash)| is_hash(hash))
        }
    };
    is_id.then_some(asked)
}

/// Returns whether `newer` shows what has become of `older`, a run of the same test. A run that asked for its kernel by the id
/// shows nothing about another kernel.
fn replaces(newer: &RunRecord, older: &RunRecord) -> bool {
    let on = older.kernel_id.as_ref().or_else(|| id_asked_for(older));
    match (id_asked_for(newer), on) {
        (Some(id), Some(on)) => id == on,
        _ => true,
    }
}

fn run(record: &RunRecord, cached: &[String]) -> FailedRun {
    let name = name_of(record);
    let recorded = |name: &str| record.environment.get(name).cloned();
    // A kernel that is not in the cache any more cannot be asked for by its id.
    let kernel = record.kernel_id.clone().filter(|id| cached.contains(id));
    let mut env = BTreeMap::new();
    match &name.kernel {
        // The test ran on several kernels. The name has the label of the kernel of this run, and the repeat needs a list of
        // kernels with that label.
        Some(label) => {
            // A run that ended before its kernel was found has no id, but it has the list of kernels that it was given.
            let list = kernel.map(|kernel| format!("{label}={kernel}"));
            let list = list.or_else(|| recorded(env::KERNEL_LIST.name()));
            env.extend(list.map(|list| (env::KERNEL_LIST.name(), list)));
        }
        // The kernel is requested by what the user asked for, such as a source tree, and not by its id. The tree may have been
        // built anew since then, and the repeat is to run on the new kernel.
        None => {
            let kernel = asked_kernel(record).cloned().or(kernel);
            env.extend(kernel.map(|kernel| (env::KERNEL.name(), kernel)));
        }
    }
    // The name of a variant contains its shape, so the variable is not needed for it.
    if let (None, Some(shape)) = (&name.shape, recorded(env::TOPOLOGY.name())) {
        env.insert(env::TOPOLOGY.name(), shape);
    }
    FailedRun {
        target: target_of(record),
        name,
        seed: record.seed,
        env,
    }
}

/// Returns the name of the binary at `path` without the hash that cargo appends.
pub fn target(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let is_hash = |text: &str| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    Some(match name.rsplit_once('-') {
        Some((target, hash)) if is_hash(hash) => target.to_owned(),
        _ => name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ktstr_record::{ProgramRecord, RepeatRecord};
    use std::path::PathBuf;

    fn listed(test: &str, verdict: RunVerdict, change: impl Fn(&mut RunRecord)) -> Listed {
        let mut record = RunRecord::new(test);
        record.verdict = verdict;
        change(&mut record);
        Listed {
            record,
            path: PathBuf::new(),
        }
    }

    fn names(records: &[Listed]) -> Vec<String> {
        failed(records, &[])
            .into_iter()
            .map(|run| run.name.to_string())
            .collect()
    }

    #[test]
    fn the_newest_run_of_a_test_decides() {
        let plain = |_: &mut RunRecord| {};
        let wide = |record: &mut RunRecord| {
            record.variant = Some("gauntlet/mended/4cpu-2llc-nosmt".to_owned());
        };
        let records = [
            listed("mended", RunVerdict::Pass, plain),
            listed("mended", RunVerdict::Fail, wide),
            listed("broken", RunVerdict::Fail, plain),
            listed("mended", RunVerdict::Fail, plain),
            listed("broken", RunVerdict::Pass, plain),
            listed("unknown", RunVerdict::Inconclusive, plain),
            listed("skipped", RunVerdict::Skip, plain),
            listed("__unit_test_verifier_cell__", RunVerdict::Fail, plain),
        ];
        let wanted = [
            "gauntlet/mended/4cpu-2llc-nosmt",
            "ktstr/broken",
            "ktstr/unknown",
        ];
        assert_eq!(names(&records), wanted);
        assert!(names(&[]).is_empty());
    }

    #[test]
    fn a_pass_elsewhere_or_of_a_repeat_hides_no_failure() {
        let of = |binary: &str| {
            let path = PathBuf::from(format!("/t/{binary}-0123456789abcdef"));
            move |record: &mut RunRecord| {
                record.program = Some(ProgramRecord {
                    path: path.clone(),
                    ..ProgramRecord::default()
                });
            }
        };
        let kernel = |record: &mut RunRecord| {
            record
                .environment
                .insert("KTSTR_KERNEL".to_owned(), "7.0".to_owned());
        };
        let repeat = |record: &mut RunRecord| record.repeats = Some(RepeatRecord::default());
        let records = [
            listed("fair", RunVerdict::Pass, of("other")),
            listed("fair", RunVerdict::Pass, repeat),
            listed("fair", RunVerdict::Fail, of("mine")),
            listed("idle", RunVerdict::Pass, |_| {}),
            listed("idle", RunVerdict::Fail, kernel),
        ];
        let found = failed(&records, &[]);
        let found: Vec<_> = (found.iter())
            .map(|run| (run.target.as_deref(), &*run.name.test, run.env.len()))
            .collect();
        assert_eq!(found, [(None, "idle", 1), (Some("mine"), "fair", 0)]);
    }

    #[test]
    fn a_pass_with_what_was_asked_for_hides_a_failure() {
        let of = |kernel: &'static str, asked: Option<&'static str>| {
            move |record: &mut RunRecord| {
                record.kernel_id = Some(kernel.to_owned()).filter(|id| !id.is_empty());
                let asked = asked.map(|word| ("KTSTR_KERNEL".to_owned(), word.to_owned()));
                record.environment.extend(asked);
            }
        };
        let then = |first, second| {
            let records = [
                listed("fair", RunVerdict::Pass, second),
                listed("fair", RunVerdict::Fail, first),
            ];
            names(&records)
        };
        // The scheduler did not compile, so no kernel was looked for.
        assert!(then(of("", None), of("7.3.4-ab", None)).is_empty());
        // A tree was mended and built again.
        let tree = Some("/home/u/linux");
        assert!(then(of("7.3.4-ab", tree), of("7.3.4-cd", tree)).is_empty());
        // A repeat of a run on the default kernel failed, because its scheduler did not compile; the next repeat passed.
        let repeat = of("7.3.4-0123abcd", Some("7.3.4-0123abcd"));
        assert!(then(of("", Some("7.3.4-0123abcd")), repeat).is_empty());
        // Another kernel was asked for by its id.
        let other = of("7.0.13-0123abcd", Some("7.0.13-0123abcd"));
        assert_eq!(then(of("7.3.4-ab", None), other), ["ktstr/fair"]);
        assert!(then(of("7.3.4-ab", None), of("7.3.4-ab", Some("7.3.4-ab"))).is_empty());
        assert_eq!(
            then(of("7.3.4-ab", tree), of("7.3.4-cd", None)),
            ["ktstr/fair"]
        );
    }

    #[test]
    fn a_variant_is_repeated_with_its_kernel_and_seed() {
        let variant = |name: &'static str| {
            let listed = listed("t", RunVerdict::Fail, |record| {
                record.variant = Some(name.to_owned());
                record.kernel_id = Some("7.0.13-ab".to_owned());
                record.seed = Some(3);
            });
            failed(&[listed], &["7.0.13-ab".to_owned()]).remove(0)
        };
        let list = |run: &FailedRun| run.env.get("KTSTR_KERNEL_LIST").cloned();
        let both = variant("gauntlet/t/8cpu-2llc-smt/k70/seed_3");
        assert_eq!(list(&both).as_deref(), Some("k70=7.0.13-ab"));
        assert_eq!(both.seed, Some(3));
        assert_eq!(both.env.len(), 1);
        // The default kernel may be another one by now, so the kernel of the run is asked for by its id.
        let by_default = variant("gauntlet/t/8cpu-2llc-smt/seed_3");
        assert_eq!(list(&by_default), None);
        let kernel = by_default.env.get("KTSTR_KERNEL");
        assert_eq!(kernel.map(String::as_str), Some("7.0.13-ab"));
        assert_eq!(
            list(&variant("ktstr/t/k70")).as_deref(),
            Some("k70=7.0.13-ab")
        );
    }
}
