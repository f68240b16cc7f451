//! A range of seeds, as the user writes it.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A range of seeds that does not include its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seeds {
    /// The seed of the first run.
    pub first: u64,
    /// The seed after the last one.
    pub end: u64,
}

impl Seeds {
    /// Returns the number of seeds, which is the number of runs of a test.
    pub fn count(self) -> u64 {
        self.end - self.first
    }
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("expected A..B with A below B, such as 0..50, not `{text}`");
        let (first, end) = text.split_once("..").ok_or_else(wrong)?;
        let parse = |text: &str| text.trim().parse::<u64>().map_err(|_| wrong());
        let (first, end) = (parse(first)?, parse(end)?);
        if first < end {
            Ok(Self { first, end })
        } else {
            Err(wrong())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!("3..7".parse(), Ok(Seeds { first: 3, end: 7 }));
        assert_eq!("3..7".parse::<Seeds>().map(Seeds::count), Ok(4));
        for wrong in ["", "5", "7..3", "3..3", "a..b", "-1..2", "0..=5"] {
            let error = wrong.parse::<Seeds>().expect_err("no range");
            assert!(error.contains("0..50"), "{error}");
        }
    }
}
