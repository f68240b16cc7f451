//! The axes of a matrix as people write them: scenarios, shapes, kernels, seeds. Each word is checked before anything runs.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use ktstr::test_support::Topology;
use ktstr_kernel::progress;
use ktstr_record::terminal::eprint_line;
use serde::{Deserialize, Serialize};

use super::lock::Lock;
use crate::explore::Seeds;
use crate::suggest;

/// The least and the most memory that a machine can be given, in MiB.
pub const MEMORY_MIB: RangeInclusive<i64> = 128..=1 << 20;

/// The largest number of seeds that a command accepts.
pub const MOST_SEEDS: u64 = 1000;

/// The name of the shape that the scenario itself declares.
pub const OWN: &str = "own";

/// A kernel of the matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// The kernel's id in the cache.
    pub id: String,
    /// The kernel's release, as `uname -r` prints it, or the kernel's id if another kernel of the matrix has the same release.
    pub release: String,
    /// The word on the command line or in the configuration that selected it; `None` for the default kernel.
    pub asked: Option<String>,
}

/// The options that select kernels.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct KernelOptions {
    /// The kernels to run on: releases such as 7.3, packages such as debian:7.0+rt, paths of images, or ranges such as 6.12..7.3,
    /// which include both ends. `cargo ktstr kernel path --help` names all forms except ranges. Kernels that are not cached are
    /// fetched. May be given more than once. Without this option: the kernel that tests use, which `KTSTR_KERNEL` selects.
    #[arg(
        long,
        visible_alias = "kernel",
        value_name = "SPEC,...",
        value_delimiter = ','
    )]
    pub kernels: Vec<String>,
    /// A lock file for CI, which pins each SPEC of --kernels to exact kernels. A SPEC that is not in it yet is added.
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
}

/// Resolves words to kernels, each kernel once, and fetches those that are not cached; without a word, resolves the default
/// kernel. Returns the kernels, and why others are not available. If the file `lock` pins a word, the word's kernels are taken
/// from the file; any other word is added to the file if all of its kernels are available.
///
/// # Errors
///
/// The file cannot be read or written, or is not a lock file.
pub fn kernels(words: &[String], lock: Option<&Path>) -> Result<(Vec<Kernel>, Vec<String>)> {
    let mut lock = lock.map(Lock::open).transpose()?;
    let (mut kernels, mut problems) = (Vec::<Kernel>::new(), Vec::new());
    let asked: Vec<Option<&str>> = match words {
        [] => vec![None],
        words => words.iter().map(|word| Some(word.trim())).collect(),
    };
    for word in asked {
        let pins = lock.as_ref().and_then(|lock| lock.pinned(word));
        let found = match (pins, &lock) {
            (Some(ids), Some(lock)) => pinned(word, ids, lock.path(), &mut problems),
            _ => {
                let before = problems.len();
                let (found, complete) = meant(word, &mut problems);
                let certain = complete && problems.len() == before;
                if let Some(lock) = lock.as_mut().filter(|_| certain) {
                    lock.pin(word, found.iter().map(|kernel| kernel.id.clone()).collect());
                } else if let (Some(lock), false) = (&lock, complete) {
                    let (word, lock) = (word.unwrap_or_default(), lock.path().display());
                    eprint_line(&format!(
                        "kernel {word}: {lock} does not pin it, because the list of kernels is not complete"
                    ));
                }
                found
            }
        };
        for kernel in found {
            if !kernels.iter().any(|known| known.id == kernel.id) {
                kernels.push(kernel);
            }
        }
    }
    if let Some(lock) = &lock {
        lock.write()?;
    }
    // Two builds of one release are distinguished by their ids.
    let releases: Vec<String> = kernels.iter().map(|k| k.release.clone()).collect();
    for kernel in &mut kernels {
        if releases.iter().filter(|r| **r == kernel.release).count() > 1 {
            kernel.release.clone_from(&kernel.id);
        }
    }
    Ok((kernels, problems))
}

/// Resolves a word to the kernels that it stands for now. Also returns whether these are all: `false` for a range if Debian's
/// list of kernels is incomplete or not available. The reasons why kernels are not available are added to `problems`.
fn meant(word: Option<&str>, problems: &mut Vec<String>) -> (Vec<Kernel>, bool) {
    let Some(range) = word.and_then(Range::parse) else {
        return (one(word, word, problems).into_iter().collect(), true);
    };
    let word = word.unwrap_or_default();
    let (releases, unknown) = releases();
    let series = range.among(releases);
    if series.is_empty() {
        problems.push(format!("kernel {word}: no kernel is in this range"));
    }
    let complete = unknown.is_none();
    if let Some(why) = unknown {
        eprint_line(&format!(
            "kernel {word}: {why}, so the range covers only kernels that are cached or known already"
        ));
    }
    let found = |series: &String| one(Some(series), Some(word), problems);
    (series.iter().filter_map(found).collect(), complete)
}

/// Resolves a word to the kernels that it is pinned to. A pinned kernel that is not in the cache is requested by its release, and
/// is fetched if Debian still offers it. If Debian does not, the word is resolved again (for a range, the kernel's series), so
/// that `problems` can say which kernel it stands for now. If the result is not the pinned kernel, the reason is added to
/// `problems`.
fn pinned(
    word: Option<&str>,
    ids: &[String],
    lock: &Path,
    problems: &mut Vec<String>,
) -> Vec<Kernel> {
    let mut found = Vec::new();
    for id in ids {
        let mut trouble = Vec::new();
        let series = || numbers(id).map(|(major, minor)| format!("{major}.{minor}"));
        let asked = match word.and_then(Range::parse) {
            None => word.map(str::to_owned),
            Some(_) => series(),
        };
        let cached = one(Some(id), word, &mut Vec::new());
        let offered = || {
            let found = one(Some(&of_debian(id)?), word, &mut Vec::new());
            found.filter(|kernel| kernel.id == *id)
        };
        let kernel = cached
            .or_else(offered)
            .or_else(|| one(asked.as_deref(), word, &mut trouble));
        match kernel {
            Some(kernel) if kernel.id == *id => found.push(kernel),
            Some(other) => problems.push(format!(
                "kernel {0}: {1} pins it to {id}, which is not in the cache; it resolves to {2} now. Remove the line of {0} from {1} \
                 to pin it again",
                word.unwrap_or("(none asked for)"),
                lock.display(),
                other.id
            )),
            None => problems.append(&mut trouble),
        }
    }
    found
}

/// Returns the request for the release of the kernel with this id. An id is the release and eight digits of the image's
/// hash. `None` if the id has another form, or if the release is not one of Debian's: a kernel that was built elsewhere can
/// have the same version as a Debian kernel, but is a different kernel.
fn of_debian(id: &str) -> Option<String> {
    let (release, hash) = id.rsplit_once('-')?;
    let is_hash = hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    let of_debian = ["+deb", "+bpo"];
    let is_of_debian = of_debian.iter().any(|part| release.contains(part));
    (is_hash && is_of_debian).then(|| format!("debian:{release}"))
}

/// Resolves a request to one kernel, and fetches it if it is not cached. `word` is the user's word that led to the request.
/// Returns `None`, and adds the reason to `problems`, if the kernel is not available or lacks `sched_ext` or BTF.
fn one(request: Option<&str>, word: Option<&str>, problems: &mut Vec<String>) -> Option<Kernel> {
    let found = ktstr_kernel::resolve(request, &mut progress::on_stderr()).and_then(|kernel| {
        kernel.require_sched_ext()?.require_btf()?;
        Ok(Kernel {
            id: kernel.id.clone(),
            release: kernel.release.clone(),
            asked: word.map(str::to_owned),
        })
    });
    match found {
        Ok(kernel) => Some(kernel),
        Err(error) => {
            problems.push(match request {
                Some(word) => format!("kernel {word}: {error}"),
                None => error.to_string(),
            });
            None
        }
    }
}

/// Returns every release that is in the cache or that Debian offers; also the reason if Debian's list is incomplete or missing.
fn releases() -> (Vec<String>, Option<String>) {
    let cached = ktstr_kernel::cache::list().unwrap_or_default();
    let cached = cached.into_iter().map(|kernel| kernel.release);
    match ktstr_kernel::offered(&mut progress::on_stderr()) {
        Ok(offers) => {
            let offered = offers.kernels.into_iter().map(|kernel| kernel.release);
            let unknown = offers.incomplete.map(|why| why.to_string());
            (cached.chain(offered).collect(), unknown)
        }
        Err(error) => (cached.collect(), Some(error.to_string())),
    }
}

/// A range of series, such as `6.12..7.3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: (u32, u32),
    last: (u32, u32),
}

impl Range {
    /// Parses a range; `None` if the word is not a range but, for example, a path.
    fn parse(word: &str) -> Option<Self> {
        let (first, last) = word.split_once("..")?;
        let whole = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let (first, last) = (
            numbers(first).filter(|_| whole(first))?,
            numbers(last).filter(|_| whole(last))?,
        );
        Some(Self { first, last })
    }

    /// Returns the series of these releases that are in the range, oldest first, each once.
    fn among(self, releases: Vec<String>) -> Vec<String> {
        let numbers = releases.iter().filter_map(|release| numbers(release));
        let mut all: Vec<(u32, u32)> = numbers
            .filter(|series| (self.first..=self.last).contains(series))
            .collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter()
            .map(|(major, minor)| format!("{major}.{minor}"))
            .collect()
    }
}

/// Returns the first two numbers of a release; `None` if it does not start with two numbers and a dot between them.
fn numbers(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    Some((major.parse().ok()?, rest.get(..digits)?.parse().ok()?))
}

/// Returns the scenarios with these names, in the order of `all`; all scenarios if no name is given.
///
/// # Errors
///
/// There is no scenario with such a name; the error suggests the most similar one.
pub fn scenarios(words: &[String], all: &[String]) -> Result<Vec<String>> {
    for word in words {
        if !all.contains(word) {
            let hint = suggest::hint(word, all.iter().map(String::as_str));
            bail!(
                "there is no scenario `{word}`{hint}; there are {}",
                all.join(", ")
            );
        }
    }
    let chosen = |name: &&String| words.is_empty() || words.contains(name);
    Ok(all.iter().filter(chosen).cloned().collect())
}

/// Returns the shapes with these names, each once. `None` is the scenario's own shape, which is the default.
///
/// # Errors
///
/// A word is neither a preset nor a shape.
pub fn topologies(words: &[String]) -> Result<Vec<Option<String>>> {
    let mut shapes = Vec::new();
    for word in words {
        let shape = match word.trim() {
            OWN => None,
            word => Some(Topology::from_name(word)?.to_string()),
        };
        if !shapes.contains(&shape) {
            shapes.push(shape);
        }
    }
    if shapes.is_empty() {
        shapes.push(None);
    }
    Ok(shapes)
}

/// Parses seeds: `5` stands for the seeds 1 to 5, `3..7` for 3 to 6.
///
/// # Errors
///
/// The text is neither a number nor a range, or it stands for no seed or for more than [`MOST_SEEDS`] seeds.
pub fn seeds(text: &str) -> Result<Seeds> {
    let wrong = || {
        anyhow!(
            "expected a number of seeds (1 to {MOST_SEEDS}), or a range A..B that excludes B and has at most {MOST_SEEDS} seeds, not `{text}`"
        )
    };
    let seeds = match text.trim().parse::<u64>() {
        Ok(count) => Seeds {
            first: 1,
            end: count.saturating_add(1),
        },
        Err(_) => text.parse().map_err(|_| wrong())?,
    };
    match seeds.end.saturating_sub(seeds.first) {
        1..=MOST_SEEDS => Ok(seeds),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(all: &[&str]) -> Vec<String> {
        all.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_pinned_kernel_is_looked_for_by_its_release() {
        let request = of_debian("7.3.4+deb13-cloud-amd64-7435b917");
        assert_eq!(request.as_deref(), Some("debian:7.3.4+deb13-cloud-amd64"));
        assert_eq!(of_debian("7.3.4-rc1"), None);
    }

    #[test]
    fn seeds_are_a_number_or_a_range() {
        let range = |text| seeds(text).map(|s| (s.first, s.end)).ok();
        assert_eq!(range("5"), Some((1, 6)));
        assert_eq!(range("3..7"), Some((3, 7)));
        for wrong in ["0", "", "7..3", "-1", "1001", "18446744073709551615", "x"] {
            let error = seeds(wrong).expect_err("no seeds").to_string();
            assert!(error.contains("A..B"), "{error}");
        }
    }

    #[test]
    fn a_range_of_kernels_has_each_series_once() {
        let range = Range::parse("6.12..7.3").expect("a range");
        let releases = words(&[
            "7.3.4+deb13-cloud-amd64",
            "7.3.2",
            "6.12.9-rt",
            "6.11.1",
            "7.10.1",
            "none",
        ]);
        assert_eq!(range.among(releases), ["6.12", "7.3"]);
        for word in ["7.3", "../linux", "7..8", "6.12../x", "", "debian:7.3"] {
            assert_eq!(Range::parse(word), None, "{word}");
        }
    }

    #[test]
    fn a_shape_is_a_preset_or_spelt_out_or_the_scenario_s_own() {
        let shapes = topologies(&words(&["own", "1n2l2c1t", "4cpu-2llc-nosmt"]));
        assert_eq!(shapes.expect("shapes"), [None, Some("1n2l2c1t".to_owned())]);
        assert_eq!(topologies(&[]).expect("one"), [None]);
        let error = topologies(&words(&["4cpu-9llc"])).expect_err("no shape");
        assert!(error.to_string().contains("4cpu-2llc-nosmt"), "{error}");
    }

    #[test]
    fn an_unknown_scenario_is_refused_with_the_nearest_name() {
        let all = words(&["custom_bursts", "steady"]);
        assert_eq!(scenarios(&[], &all).expect("all"), all);
        let some = scenarios(&words(&["steady"]), &all).expect("some");
        assert_eq!(some, ["steady"]);
        let error = scenarios(&words(&["stedy"]), &all).expect_err("none");
        assert_eq!(
            error.to_string(),
            "there is no scenario `stedy`: did you mean `steady`?; there are custom_bursts, steady"
        );
    }
}
