//! Versions: their order (Debian's, which is also the natural one for kernel releases) and the
//! specs by which people ask for them.

use std::cmp::Ordering;

/// Compares two versions by the rules of Debian policy 5.6.12, without epochs: runs of digits
/// compare as numbers, letters before other characters, `~` before everything, the end included.
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

/// Digit strings of any length, leading zeros ignored: no integer to overflow.
fn compare_numbers(a: &[u8], b: &[u8]) -> Ordering {
    let a = split_while(a, |c| *c == b'0').1;
    let b = split_while(b, |c| *c == b'0').1;
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// What somebody asked for by version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// The newest there is.
    Newest,
    /// A version or the beginning of one, cut at a dot, `+`, `-` or `~`: `7.3` means 7.3 and any 7.3.x, a whole
    /// release names itself.
    Version(String),
}

impl Spec {
    /// Reads `debian:newest`, `debian:7.3`, `debian:7.3.4+deb13-cloud-amd64`, `7.3`. `None` when the
    /// text is none of these.
    pub fn parse(text: &str) -> Option<Self> {
        let (version, by_name) = match text.strip_prefix("debian:") {
            Some(version) => (version, true),
            None => (text, false),
        };
        if by_name && matches!(version, "newest" | "latest" | "") {
            return Some(Self::Newest);
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || "+-.~".contains(c);
        let is_version = version.len() <= 128
            && version.starts_with(|c: char| c.is_ascii_digit())
            && version.chars().all(legal);
        is_version.then(|| Self::Version(version.to_owned()))
    }

    /// Whether a kernel release such as `7.3.4+deb13-cloud-amd64` is meant.
    pub fn matches(&self, release: &str) -> bool {
        match self {
            Self::Newest => true,
            Self::Version(version) => release
                .strip_prefix(version.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '+', '-', '~'])),
        }
    }
}

impl std::fmt::Display for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Newest => f.write_str("newest"),
            Self::Version(version) => f.write_str(version),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn releases_are_ordered_as_dpkg_orders_them() {
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
    fn specs_mean_whole_components() {
        let seven_three = Spec::parse("debian:7.3").unwrap();
        assert!(seven_three.matches("7.3.4+deb13-cloud-amd64"));
        assert!(seven_three.matches("7.3+deb13-cloud-amd64"));
        assert!(!seven_three.matches("7.30.1+deb13-cloud-amd64"));
        assert!(!seven_three.matches("6.7.3"));
        assert_eq!(Spec::parse("7.3"), Some(seven_three));
        assert_eq!(Spec::parse("debian:newest"), Some(Spec::Newest));
    }

    #[test]
    fn what_is_no_version_is_no_spec() {
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
