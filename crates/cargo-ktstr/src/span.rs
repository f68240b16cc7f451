//! Lengths of time as a user writes them: `250ms`, `1.5s`.

use std::str::FromStr;

/// A length of time in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub u64);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || {
            format!(
                "`{text}` is not a length of time: write a number with its unit, ns, us, ms or s, such as `250ms` or `1.5s`"
            )
        };
        let at = text
            .find(|c: char| c.is_ascii_alphabetic())
            .ok_or_else(error)?;
        let (number, unit) = text.split_at(at);
        let ns = match unit {
            "ns" => 1.0,
            "us" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            _ => return Err(error()),
        };
        let number: f64 = number.parse().map_err(|_| error())?;
        match number.is_finite() && number >= 0.0 && number * ns < 1e18 {
            true => Ok(Self((number * ns).round() as u64)),
            false => Err(error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_units() {
        let all = ["7ns", "1.5us", "250ms", "2s", "0s"].map(str::parse);
        let ns = [7, 1_500, 250_000_000, 2_000_000_000, 0];
        assert_eq!(all, ns.map(|ns| Ok(Span(ns))));
        for bad in ["", "5", "ms", "-1s", "1h", "1 s s", "nans", "1e300s"] {
            let error = bad.parse::<Span>().map(|span| span.0).expect_err(bad);
            assert!(error.contains("such as `250ms`"), "{error}");
        }
    }
}
