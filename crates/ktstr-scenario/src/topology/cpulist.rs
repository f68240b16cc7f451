//! The kernel's list format for CPUs and nodes ("0-3,5"), as in cpuset.cpus and sysfs
//! (`lib/bitmap-str.c`, `bitmap_parselist`). Strides (`0-9:2/4`) are not supported.

use std::collections::BTreeSet;
use std::fmt::Write;

/// The highest CPU number that is accepted in a list. It is above the kernel's `NR_CPUS` on any architecture, and keeps a
/// mistyped range from allocating gigabytes.
pub const MAX_CPU: usize = 65_535;

/// Why a text is not a CPU list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuListError {
    /// A part is neither a number nor a range.
    #[error("CPU list {text:?}: {part:?} is neither a number nor a range such as 0-3")]
    BadPart {
        /// The whole list, as it was given.
        text: String,
        /// The part between commas.
        part: String,
    },
    /// A range ends before it starts.
    #[error("CPU list {text:?}: the range {part:?} ends before it starts")]
    Backwards {
        /// The whole list, as it was given.
        text: String,
        /// The part between commas.
        part: String,
    },
    /// A number is larger than [`MAX_CPU`].
    #[error("CPU list {text:?}: {part:?} goes beyond CPU {MAX_CPU}")]
    TooLarge {
        /// The whole list, as it was given.
        text: String,
        /// The part between commas.
        part: String,
    },
}

/// Parses a list such as `0-3,5`. White space around it is ignored; an empty text is an empty set.
///
/// # Errors
/// [`CpuListError`] names the part that cannot be parsed.
pub fn parse_cpulist(text: &str) -> Result<BTreeSet<usize>, CpuListError> {
    let mut cpus = BTreeSet::new();
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Ok(cpus);
    }
    for part in trimmed.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(CpuListError::BadPart {
                text: text.to_owned(),
                part: part.to_owned(),
            });
        };
        if first > MAX_CPU || last > MAX_CPU {
            return Err(CpuListError::TooLarge {
                text: text.to_owned(),
                part: part.to_owned(),
            });
        }
        if last < first {
            return Err(CpuListError::Backwards {
                text: text.to_owned(),
                part: part.to_owned(),
            });
        }
        cpus.extend(first..=last);
    }
    Ok(cpus)
}

/// Formats a set as a list, with adjacent numbers as ranges: `{0,1,2,3,5}` is `0-3,5`.
pub fn cpuset_string(cpus: &BTreeSet<usize>) -> String {
    let mut out = String::new();
    let mut iter = cpus.iter().copied().peekable();
    while let Some(first) = iter.next() {
        let mut last = first;
        while let Some(next) = iter.next_if(|&next| Some(next) == last.checked_add(1)) {
            last = next;
        }
        if !out.is_empty() {
            out.push(',');
        }
        // Writing to a String cannot fail.
        let _ = if first == last {
            write!(out, "{first}")
        } else {
            write!(out, "{first}-{last}")
        };
    }
    out
}

/// Parses an unsigned number of decimal digits; `None` for any other text.
fn number(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // A number that does not fit into a usize is reported as too large, and not as malformed.
    digits.then(|| text.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_as_the_kernel_prints_them() {
        let set = |text| parse_cpulist(text).expect("a CPU list");
        assert_eq!(set("0-3,5\n"), BTreeSet::from([0, 1, 2, 3, 5]));
        assert_eq!(set("\n"), BTreeSet::new());
        assert_eq!(set("7"), BTreeSet::from([7]));
        assert_eq!(
            cpuset_string(&BTreeSet::from([0, 1, 3, 5, 6, 7])),
            "0-1,3,5-7"
        );
        assert_eq!(cpuset_string(&BTreeSet::new()), "");
    }

    #[test]
    fn bad_lists_say_why() {
        let error = |text| parse_cpulist(text).expect_err("no CPU list").to_string();
        insta::assert_snapshot!(error("0-3,"), @r#"CPU list "0-3,": "" is neither a number nor a range such as 0-3"#);
        insta::assert_snapshot!(error("3-1"), @r#"CPU list "3-1": the range "3-1" ends before it starts"#);
        insta::assert_snapshot!(error("0-99999999999999999999999"), @r#"CPU list "0-99999999999999999999999": "0-99999999999999999999999" goes beyond CPU 65535"#);
        insta::assert_snapshot!(error("0--1"), @r#"CPU list "0--1": "0--1" is neither a number nor a range such as 0-3"#);
    }

    proptest! {
        #[test]
        fn print_then_parse_is_the_same(cpus in prop::collection::btree_set(0usize..600, 0..64)) {
            prop_assert_eq!(parse_cpulist(&cpuset_string(&cpus)), Ok(cpus));
        }

        #[test]
        fn parsing_is_total(text in "[0-9,\\- ]{0,20}") {
            let _ = parse_cpulist(&text);
        }
    }
}
