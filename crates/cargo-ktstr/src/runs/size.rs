//! Sizes as a user writes them: `500MiB`, `2GiB`.

use std::fmt;
use std::str::FromStr;

const UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || {
            format!(
                "`{text}` is not a size: write a whole number with its unit, KiB, MiB or GiB, such as `500MiB`"
            )
        };
        if text == "0" {
            return Ok(Self(0));
        }
        let (number, unit) = UNITS
            .iter()
            .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))
            .ok_or_else(error)?;
        let number: u64 = number.trim_end().parse().map_err(|_| error())?;
        number.checked_mul(*unit).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes < 1 << 20 => write!(f, "{:.1} KiB", bytes as f64 / 1024.0),
            bytes if bytes < 1 << 30 => write!(f, "{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
            bytes => write!(f, "{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let all = ["0", "7B", "2KiB", "500MiB", "1 GiB"].map(str::parse);
        let bytes = [0, 7, 2048, 500 << 20, 1 << 30];
        assert_eq!(all, bytes.map(|bytes| Ok(Size(bytes))));
        for bad in ["", "5", "MiB", "-1MiB", "1MB", "1.5GiB", "99999999999GiB"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
        let shown = [Size(512), Size(3 << 20), Size(5 << 29)].map(|size| size.to_string());
        assert_eq!(shown, ["0.5 KiB", "3.0 MiB", "2.5 GiB"]);
    }
}
