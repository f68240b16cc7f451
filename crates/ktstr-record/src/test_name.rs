//! The names of tests and of their variants, under which nextest and `cargo ktstr` run them and a record notes them.

use std::fmt;

/// The prefix of the part of a name that contains the seed.
const SEED: &str = "seed_";

/// The part of a name before its first `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `ktstr/TEST[/KERNEL]`: the test as it is declared.
    Declared,
    /// `host/TEST`: the same, for a test that runs on the host.
    Host,
    /// `gauntlet/TEST/SHAPE[/KERNEL][/seed_N]`: the test on another shape.
    Gauntlet,
}

impl Family {
    const ALL: [Self; 3] = [Self::Declared, Self::Host, Self::Gauntlet];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Declared => "ktstr",
            Self::Host => "host",
            Self::Gauntlet => "gauntlet",
        }
    }
}

/// The name of a test or of a variant, in its parts.
///
/// ```
/// use ktstr_record::TestName;
///
/// let name = "gauntlet/fair/8cpu-2llc-smt/kernel_7_3/seed_4";
/// let parts = TestName::parse(name).expect("a name of ktstr").expect("a sound one");
/// assert_eq!((parts.test.as_str(), parts.seed), ("fair", Some(4)));
/// assert_eq!(parts.to_string(), name);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestName {
    /// What the name begins with.
    pub family: Family,
    /// The name of the test as it is declared.
    pub test: String,
    /// The preset or the text of the shape that replaces the declared one. Only names of the gauntlet have it.
    pub shape: Option<String>,
    /// The label of the kernel; `None` if the test does not run on several kernels.
    pub kernel: Option<String>,
    /// The seed, if the variants have one in their names. Only names of the gauntlet have it.
    pub seed: Option<u64>,
}

impl TestName {
    /// Returns the name of a test as it is declared.
    #[must_use]
    pub fn declared(test: impl Into<String>) -> Self {
        Self {
            family: Family::Declared,
            test: test.into(),
            shape: None,
            kernel: None,
            seed: None,
        }
    }

    /// Parses a name. Returns `None` if the name does not begin with the word of a [`Family`] and a slash.
    ///
    /// # Errors
    /// A text that names what is wrong: the shape is missing, the seed is not a number, or there are two kernels or two seeds.
    pub fn parse(name: &str) -> Option<Result<Self, String>> {
        let (family, rest) = name.split_once('/')?;
        let family = Family::ALL.into_iter().find(|one| one.as_str() == family)?;
        Some(Self::parts(family, rest))
    }

    fn parts(family: Family, rest: &str) -> Result<Self, String> {
        let mut parts = rest.split('/');
        let mut name = Self {
            family,
            ..Self::declared(parts.next().unwrap_or_default())
        };
        if family == Family::Gauntlet {
            let shape = parts.next().ok_or("the name has no shape")?;
            name.shape = Some(shape.to_owned());
        }
        for part in parts {
            let seed = part
                .strip_prefix(SEED)
                .filter(|_| family == Family::Gauntlet);
            let is_second = match seed {
                Some(text) => {
                    let seed = text
                        .parse()
                        .map_err(|_| format!("{part:?}: the seed is not a number"))?;
                    name.seed.replace(seed).is_some()
                }
                None => name.kernel.replace(part.to_owned()).is_some(),
            };
            if is_second {
                return Err(format!(
                    "{part:?} is the second kernel or the second seed in the name"
                ));
            }
        }
        Ok(name)
    }

    /// Returns whether the name is that of a variant of a test: it has a shape or a kernel in addition to the test's name.
    #[must_use]
    pub fn is_variant(&self) -> bool {
        self.shape.is_some() || self.kernel.is_some()
    }

    /// Returns whether `text` can be the label of a kernel in a name: it is a single part, and is not taken for a seed.
    #[must_use]
    pub fn is_label(text: &str) -> bool {
        !text.is_empty() && !text.contains('/') && !text.starts_with(SEED)
    }
}

impl fmt::Display for TestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.family.as_str(), self.test)?;
        for part in [&self.shape, &self.kernel].into_iter().flatten() {
            write!(f, "/{part}")?;
        }
        match self.seed {
            Some(seed) => write!(f, "/{SEED}{seed}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_parts() {
        for name in [
            "ktstr/t",
            "ktstr/t/k",
            "host/t",
            "gauntlet/t/1n1l2c1t",
            "gauntlet/t/4cpu-1llc-nosmt/k",
            "gauntlet/t/4cpu-1llc-nosmt/seed_3",
            "gauntlet/t/4cpu-1llc-nosmt/k/seed_3",
            // A test as it is declared has no seed in its name, so `seed_3` is the label of a kernel here.
            "ktstr/t/seed_3",
        ] {
            let parts = TestName::parse(name).map(|parts| parts.map(|parts| parts.to_string()));
            assert_eq!(parts, Some(Ok(name.to_owned())));
        }
        let is_variant =
            |name| TestName::parse(name).is_some_and(|n| n.is_ok_and(|n| n.is_variant()));
        assert!(!is_variant("ktstr/t") && !is_variant("host/t"));
        assert!(is_variant("ktstr/t/k") && is_variant("gauntlet/t/s"));
    }

    #[test]
    fn a_name_that_is_wrong_says_where() {
        for name in ["unit", "verifier/s/k/p", "ktstr_x/t", "a::b"] {
            assert_eq!(TestName::parse(name), None, "{name}");
        }
        for (name, why) in [
            ("gauntlet/t", "no shape"),
            (
                "gauntlet/t/s/seed_x",
                "\"seed_x\": the seed is not a number",
            ),
            ("gauntlet/t/s/k/l", "\"l\" is the second kernel"),
            (
                "gauntlet/t/s/seed_1/seed_2",
                "\"seed_2\" is the second kernel or the second seed",
            ),
        ] {
            let error = TestName::parse(name).and_then(Result::err);
            assert!(error.is_some_and(|error| error.contains(why)), "{name}");
        }
        assert!(TestName::is_label("kernel_7_3"));
        assert!(
            ["", "a/b", "seed_1"]
                .iter()
                .all(|text| !TestName::is_label(text))
        );
    }
}
