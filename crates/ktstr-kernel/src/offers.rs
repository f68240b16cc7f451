//! The kernels in Debian's package lists: which are available, and which one a spec selects.

use crate::KernelError;
use crate::kernel::Source;
use crate::version::{self, Spec};

/// The minimum size, in bytes, of a package that contains an image. Smaller packages only depend on others.
const SMALLEST_IMAGE: u64 = 5 << 20;

/// The kernels in Debian's archive.
#[derive(Debug)]
pub struct Offers {
    /// The newest kernel of each series and flavour, newest series first.
    pub kernels: Vec<Candidate>,
    /// Why there may be more kernels: a list could not be fetched, so an old list or none was used. `None` if all lists are new.
    pub incomplete: Option<KernelError>,
}

/// A kernel that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The kernel's release, as `uname -r` prints it.
    pub release: String,
    /// The package that holds the image.
    pub package: String,
    /// The package's version in the archive.
    pub version: String,
    /// The package that holds the configuration, if that is a separate package and still available in the same version.
    pub(crate) base: Option<String>,
}

impl Candidate {
    /// Returns the series, such as `7.3`.
    pub fn series(&self) -> &str {
        version::series(&self.release)
    }

    /// Returns the flavour, such as `cloud`, `plain` or `rt`.
    pub fn flavour(&self) -> &str {
        version::flavour(&self.release)
    }

    pub(crate) fn source(&self) -> Source {
        Source::Debian {
            package: self.package.clone(),
            version: self.version.clone(),
        }
    }
}

/// Returns the kernel release after `linux-binary-`, `linux-image-` or `linux-base-` in a package's name; `None` for any
/// other name, and if no version follows the prefix (`linux-image-cloud-amd64`, `linux-binary-unsigned-…`).
pub(crate) fn kernel_release(package: &str) -> Option<&str> {
    ["linux-binary-", "linux-image-", "linux-base-"]
        .iter()
        .find_map(|prefix| package.strip_prefix(prefix))
        .filter(|release| release.starts_with(|c: char| c.is_ascii_digit()))
}

/// Returns the newest kernel of each series and flavour, newest series first. `candidates` must be in order of preference.
pub(crate) fn newest_of_each(candidates: Vec<Candidate>) -> Vec<Candidate> {
    let mut newest: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        let is_older = newest
            .iter()
            .any(|c| c.series() == candidate.series() && c.flavour() == candidate.flavour());
        if !is_older {
            newest.push(candidate);
        }
    }
    newest.sort_by(|a, b| {
        version::compare(b.series(), a.series())
            .then_with(|| version::by_preference(&a.release, &b.release))
    });
    newest
}

/// The first series of Debian's kernels with sched_ext (`CONFIG_SCHED_CLASS_EXT`).
const FIRST_WITH_SCX: (u32, u32) = (6, 16);

/// Returns whether Debian builds the kernels of this series without sched_ext.
/// A series that is not two numbers is taken for a new one.
fn lacks_scx(series: &str) -> bool {
    let numbers = series
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    numbers.is_some_and(|numbers: (u32, u32)| numbers < FIRST_WITH_SCX)
}

/// Lists the available kernels for an error message: `7.3 (cloud, plain, rt), 6.12 (cloud; without sched_ext)`.
pub(crate) fn in_words(candidates: Vec<Candidate>) -> String {
    let mut series: Vec<(String, Vec<String>)> = Vec::new();
    for candidate in newest_of_each(candidates) {
        let flavour = candidate.flavour().to_owned();
        match series.last_mut() {
            Some((name, flavours)) if name == candidate.series() => flavours.push(flavour),
            _ => series.push((candidate.series().to_owned(), vec![flavour])),
        }
    }
    if series.is_empty() {
        return "none".to_owned();
    }
    let words: Vec<String> = series
        .iter()
        .map(|(name, flavours)| {
            let lacks = match lacks_scx(name) {
                true => "; without sched_ext",
                false => "",
            };
            format!("{name} ({}{lacks})", flavours.join(", "))
        })
        .collect();
    words.join(", ")
}

/// Returns the first of the `candidates` that fits a spec; `None` if none does. The candidates must be in order of
/// preference.
pub(crate) fn choose<'a>(candidates: &'a [Candidate], spec: &Spec) -> Option<&'a Candidate> {
    candidates.iter().find(|c| spec.matches(&c.release))
}

/// Parses the output of `apt-cache show`, and returns the kernels in order of preference, one for each release.
pub(crate) fn candidates(shown: &str) -> Vec<Candidate> {
    let mut bases = Vec::new();
    let mut found: Vec<Candidate> = Vec::new();
    for paragraph in shown.split("\n\n") {
        let field = |name: &str| {
            paragraph
                .lines()
                .find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
        };
        let (Some(package), Some(version)) = (field("Package"), field("Version")) else {
            continue;
        };
        let Some(release) = kernel_release(package) else {
            continue;
        };
        let size = field("Size")
            .and_then(|s| s.parse::<u64>().ok())
            .unwrap_or(0);
        if package.starts_with("linux-base-") {
            bases.push((package.to_owned(), version.to_owned()));
        } else if size >= SMALLEST_IMAGE {
            found.push(Candidate {
                release: release.to_owned(),
                package: package.to_owned(),
                version: version.to_owned(),
                base: None,
            });
        }
    }
    for candidate in &mut found {
        let base = (
            format!("linux-base-{}", candidate.release),
            candidate.version.clone(),
        );
        candidate.base = bases.contains(&base).then_some(base.0);
    }
    found.sort_by(|a, b| {
        version::by_preference(&a.release, &b.release)
            .then_with(|| version::compare(&b.version, &a.version))
    });
    found.dedup_by(|later, earlier| later.release == earlier.release);
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn packages_that_only_depend_on_others_are_skipped() {
        let shown = [
            (
                "linux-image-6.18.15+deb13-cloud-amd64",
                "6.18.15-1~bpo13+1",
                49_146_196,
            ),
            (
                "linux-image-7.0.13+deb13-cloud-amd64",
                "7.0.13-1~bpo13+1",
                1920,
            ),
            (
                "linux-binary-7.0.13+deb13-cloud-amd64",
                "7.0.13-1~bpo13+1",
                13_149_508,
            ),
            (
                "linux-binary-unsigned-7.3.4+deb13-cloud-amd64",
                "7.3.4-1~bpo13+1",
                13_000_000,
            ),
            (
                "linux-binary-7.3.4+deb13-amd64",
                "7.3.4-1~bpo13+1",
                15_000_000,
            ),
            (
                "linux-binary-7.3.4+deb13-cloud-amd64",
                "7.3.4-1~bpo13+1",
                13_604_064,
            ),
            (
                "linux-base-7.3.4+deb13-cloud-amd64",
                "7.3.4-1~bpo13+1",
                1_025_208,
            ),
            ("linux-image-cloud-amd64", "7.3.4-1~bpo13+1", 1500),
        ]
        .map(|(package, version, size)| {
            format!("Package: {package}\nVersion: {version}\nSize: {size}\n")
        })
        .join("\n");
        let found: Vec<String> = candidates(&shown)
            .iter()
            .map(|c| format!("{} {} {:?}", c.package, c.version, c.base))
            .collect();
        assert_eq!(
            found,
            [
                "linux-binary-7.3.4+deb13-cloud-amd64 7.3.4-1~bpo13+1 Some(\"linux-base-7.3.4+deb13-cloud-amd64\")",
                "linux-binary-7.3.4+deb13-amd64 7.3.4-1~bpo13+1 None",
                "linux-binary-7.0.13+deb13-cloud-amd64 7.0.13-1~bpo13+1 None",
                "linux-image-6.18.15+deb13-cloud-amd64 6.18.15-1~bpo13+1 None",
            ]
        );
    }

    fn offer(release: &str) -> Candidate {
        Candidate {
            release: release.to_owned(),
            package: format!("linux-binary-{release}"),
            version: "1".to_owned(),
            base: None,
        }
    }

    #[test]
    fn series_and_flavours_come_from_what_is_offered() {
        let mut all: Vec<Candidate> = [
            "7.3.4+deb13-cloud-amd64",
            "7.3.4+deb13-amd64",
            "7.2.13+deb14-cloud-amd64",
            "7.2.12+deb13-cloud-amd64",
            "7.3.4+deb13-rt-amd64",
            "7.2.13+deb14-rt-amd64",
            "6.16.3+deb14-amd64",
            "6.12.117+deb12-amd64",
        ]
        .map(offer)
        .into();
        all.sort_by(|a, b| version::by_preference(&a.release, &b.release));
        assert_eq!(
            in_words(all.clone()),
            "7.3 (cloud, plain, rt), 7.2 (cloud, rt), 6.16 (plain), 6.12 (plain; without sched_ext)"
        );
        let chosen =
            |spec: &str| choose(&all, &Spec::parse(spec).unwrap()).map(|c| c.release.as_str());
        assert_eq!(chosen("debian:7.2+rt"), Some("7.2.13+deb14-rt-amd64"));
        assert_eq!(chosen("debian:newest"), Some("7.3.4+deb13-cloud-amd64"));
        assert_eq!(chosen("debian:newest+rt"), Some("7.3.4+deb13-rt-amd64"));
        assert_eq!(chosen("debian:7.2+plain"), None);
        assert_eq!(in_words(Vec::new()), "none");
    }
}
