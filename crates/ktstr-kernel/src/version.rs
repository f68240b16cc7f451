//! Kernel versions: their order, which is Debian's, their parts (series and flavour), and the specs by which users
//! request a kernel.

use std::cmp::Ordering;

use ktstr_state::arch;

/// Compares two versions by the rules of Debian policy 5.6.12, but without epochs, and without splitting off the Debian
/// revision: runs of digits compare as numbers, letters sort before other characters, and `~` sorts before everything, even
/// before the end.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !a.is_empty() || !b.is_empty() {
        let (text_a, rest_a) = split_while(a, |c| !c.is_ascii_digit());
        let (text_b, rest_b) = split_while(b, |c| !c.is_ascii_digit());
        let longest = text_a.len().max(text_b.len());
        for i in 0..longest {
            match weight(text_a.get(i)).cmp(&weight(text_b.get(i))) {
                Ordering::Equal => {}
                other => return other,
            }
        }
        let (digits_a, rest_a) = split_while(rest_a, |c| c.is_ascii_digit());
        let (digits_b, rest_b) = split_while(rest_b, |c| c.is_ascii_digit());
        match compare_numbers(digits_a, digits_b) {
            Ordering::Equal => {}
            other => return other,
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

fn split_while(s: &[u8], keep: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    s.split_at(s.iter().take_while(|c| keep(c)).count())
}

fn weight(c: Option<&u8>) -> i32 {
    match c {
        Some(b'~') => -1,
        None => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(*c),
        Some(c) => i32::from(*c) + 256,
    }
}

/// Compares digit strings of any length, ignoring leading zeros. Comparing strings avoids integer overflow.
fn compare_numbers(a: &[u8], b: &[u8]) -> Ordering {
    let a = split_while(a, |c| *c == b'0').1;
    let b = split_while(b, |c| *c == b'0').1;
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// The flavour of a release that names none.
const PLAIN: &str = "plain";
/// The flavour of `PREEMPT_RT` kernels, which trade throughput for real-time behaviour.
const REAL_TIME: &str = "rt";
/// The flavour that is preferred among kernels of the same version, because it is small and made for virtual machines.
const PREFERRED: &str = "cloud";

/// Returns the flavour of a Debian release: `cloud` for `7.3.4+deb13-cloud-amd64`, `plain` for `7.3.4+deb13-amd64`.
pub fn flavour(release: &str) -> &str {
    let rest = release.split_once('-').map_or("", |(_, rest)| rest);
    let before = rest.strip_suffix(arch::DEBIAN);
    match before.and_then(|before| before.strip_suffix('-')) {
        Some(flavour) => flavour,
        None if rest.is_empty() || rest == arch::DEBIAN => PLAIN,
        None => rest,
    }
}

/// Returns a release without its flavour: `7.3.4+deb13` for `7.3.4+deb13-cloud-amd64`.
pub fn base(release: &str) -> &str {
    release.split('-').next().unwrap_or(release)
}

/// Returns the series of a release: `7.3` for `7.3.4+deb13-cloud-amd64`.
pub fn series(release: &str) -> &str {
    let mut dots = release.char_indices().filter(|(_, c)| !c.is_ascii_digit());
    match (dots.next(), dots.next()) {
        (Some((_, '.')), Some((end, _))) => release.get(..end).unwrap_or(release),
        _ => release,
    }
}

/// Compares two releases by the order of preference among kernels that fit a request: `PREEMPT_RT` last, then the newest
/// version first, then the preferred flavour first. The preferred release is the lesser one.
pub fn by_preference(a: &str, b: &str) -> Ordering {
    let is = |release: &str, name| flavour(release) == name;
    // `~` sorts before the end, so that a release candidate is older than its release.
    let version = |release: &str| base(&release.replacen("-rc", "~rc", 1)).to_owned();
    is(a, REAL_TIME)
        .cmp(&is(b, REAL_TIME))
        .then_with(|| compare(&version(b), &version(a)))
        .then_with(|| is(b, PREFERRED).cmp(&is(a, PREFERRED)))
        .then_with(|| compare(b, a))
}

/// A request for a kernel by its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// A version or the first part of a version, which must end before a `.`, `+`, `-` or `~` of the release: `7.3` matches
    /// 7.3, any 7.3.x and `7.3~rc1`, but not 7.30. `None` stands for the newest version.
    version: Option<String>,
    /// The flavour, as [`flavour`] returns it; `None` stands for any.
    flavour: Option<String>,
    /// The spec as given, without `debian:`; `newest` if nothing else was given.
    text: String,
}

impl Spec {
    /// Returns the spec of the newest kernel. The order of preference decides between flavours.
    pub fn newest() -> Self {
        Self {
            version: None,
            flavour: None,
            text: NEWEST.to_owned(),
        }
    }

    /// Parses `[debian:]VERSION[+FLAVOUR]`, such as `debian:7.3`, `debian:7.3+rt`, `debian:7.3.4+deb13-cloud-amd64` or
    /// `7.3`. The version starts with a digit; after `debian:` it may also be `newest`, `latest` or empty. Returns `None`
    /// for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let (text, by_name) = match text.strip_prefix("debian:") {
            Some(text) => (text, true),
            None => (text, false),
        };
        // A `+` suffix that belongs to the release contains digits (`+deb13`), unlike a flavour.
        let (version, flavour) = match text.rsplit_once('+') {
            Some((version, flavour))
                if !flavour.is_empty() && flavour.chars().all(|c| c.is_ascii_lowercase()) =>
            {
                (version, Some(flavour.to_owned()))
            }
            _ => (text, None),
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || "+-.~".contains(c);
        let is_newest = by_name && matches!(version, NEWEST | "latest" | "");
        let is_version = version.len() <= 128
            && version.starts_with(|c: char| c.is_ascii_digit())
            && version.chars().all(legal);
        (is_newest || is_version).then(|| Self {
            version: (!is_newest).then(|| version.to_owned()),
            flavour,
            text: if text.is_empty() { NEWEST } else { text }.to_owned(),
        })
    }

    /// Returns whether the spec selects the newest kernel, whatever its version.
    pub fn is_newest(&self) -> bool {
        self.version.is_none()
    }

    /// Returns whether a kernel release such as `7.3.4+deb13-cloud-amd64` fits the spec.
    pub fn matches(&self, release: &str) -> bool {
        let begins = |beginning: &str| {
            release
                .strip_prefix(beginning)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '+', '-', '~']))
        };
        // The release of a self-built kernel may end like a flavour: `7.3.0+mine`.
        if begins(&self.text) {
            return true;
        }
        self.version.as_deref().is_none_or(begins)
            && self
                .flavour
                .as_deref()
                .is_none_or(|wanted| flavour(release) == wanted)
    }
}

const NEWEST: &str = "newest";

impl std::fmt::Display for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn releases_are_ordered_like_dpkg_does() {
        let ascending = [
            "6.18.15+deb13-cloud-amd64",
            "7.0~rc3+deb14-cloud-amd64",
            "7.0.4+deb13-cloud-amd64",
            "7.0.13+deb13-cloud-amd64",
            "7.2.9+deb13-cloud-amd64",
            "7.2.13+deb13-cloud-amd64",
            "7.2.13+deb14-cloud-amd64",
            "7.10.0+deb14-cloud-amd64",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
    }

    #[test]
    fn specs_match_whole_components() {
        let seven_three = Spec::parse("debian:7.3").unwrap();
        assert!(seven_three.matches("7.3.4+deb13-cloud-amd64"));
        assert!(seven_three.matches("7.3+deb13-cloud-amd64"));
        assert!(!seven_three.matches("7.30.1+deb13-cloud-amd64"));
        assert!(!seven_three.matches("6.7.3"));
        assert_eq!(Spec::parse("7.3"), Some(seven_three));
        assert_eq!(Spec::parse("debian:newest"), Some(Spec::newest()));
    }

    #[test]
    fn a_spec_can_name_a_flavour() {
        let real_time = Spec::parse("debian:7.2+rt").unwrap();
        assert!(real_time.matches("7.2.13+deb14-rt-amd64"));
        assert!(!real_time.matches("7.2.13+deb14-amd64"));
        assert!(!real_time.matches("7.3.4+deb13-rt-amd64"));
        let plain = Spec::parse("debian:newest+plain").unwrap();
        assert!(plain.is_newest() && plain.matches("7.3.4+deb13-amd64"));
        assert!(!plain.matches("7.3.4+deb13-cloud-amd64"));
        // A `+` suffix may also be a part of the release.
        let base = Spec::parse("debian:7.2.13+deb14").unwrap();
        assert!(base.matches("7.2.13+deb14-cloud-amd64") && !base.matches("7.2.13+deb13-amd64"));
        let own = Spec::parse("7.3.0+mine").unwrap();
        assert!(own.matches("7.3.0+mine") && own.matches("7.3.0+mine-x"));
        assert_eq!(real_time.to_string(), "7.2+rt");
    }

    #[test]
    fn releases_are_split_into_their_parts() {
        for (release, parts) in [
            ("7.3.4+deb13-cloud-amd64", ("7.3", "7.3.4+deb13", "cloud")),
            ("7.10.0+deb14-amd64", ("7.10", "7.10.0+deb14", "plain")),
            ("7.0~rc3+deb14-rt-amd64", ("7.0", "7.0~rc3+deb14", "rt")),
            ("6.12.117", ("6.12", "6.12.117", "plain")),
            ("7", ("7", "7", "plain")),
        ] {
            assert_eq!(
                (series(release), base(release), flavour(release)),
                parts,
                "{release}"
            );
        }
    }

    #[test]
    fn the_newest_that_is_not_real_time_comes_first() {
        let mut releases = [
            "7.3.4+deb13-rt-amd64",
            "7.2.9+deb13-cloud-amd64",
            "7.3.4+deb13-amd64",
            "7.3.4+deb13-cloud-amd64",
        ];
        releases.sort_by(|a, b| by_preference(a, b));
        assert_eq!(
            releases,
            [
                "7.3.4+deb13-cloud-amd64",
                "7.3.4+deb13-amd64",
                "7.2.9+deb13-cloud-amd64",
                "7.3.4+deb13-rt-amd64",
            ]
        );
    }

    #[test]
    fn a_release_candidate_is_older_than_its_release() {
        let mut releases = ["7.0.0-rc3", "7.0.0-rc10", "6.19.2", "7.0.0"];
        releases.sort_by(|a, b| by_preference(a, b));
        assert_eq!(releases, ["7.0.0", "7.0.0-rc10", "7.0.0-rc3", "6.19.2"]);
    }

    #[test]
    fn invalid_versions_are_not_specs() {
        for text in [
            "",
            "newest",
            "bzImage",
            "/boot/vmlinuz",
            "debian:vmlinuz",
            "7.3/../x",
            "ubuntu:7.3",
        ] {
            assert_eq!(Spec::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn order_is_total(a in "[0-9a-z.+~-]{0,12}", b in "[0-9a-z.+~-]{0,12}", c in "[0-9a-z.+~-]{0,12}") {
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
        }
    }
}
