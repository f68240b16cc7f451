//! The dates on which entries for known failures expire (`expires`): parsing, comparison, and today's date.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A day of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Date {
    year: i64,
    month: u32,
    day: u32,
}

impl Date {
    /// Returns the current date in UTC, by the host's clock.
    pub fn today() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let days = since.map_or(0, |since| since.as_secs() / 86_400);
        Self::from_days(i64::try_from(days).unwrap_or(0))
    }

    /// Returns the date that is `days` days after 1970-01-01 (Howard Hinnant's `civil_from_days`). Here a year begins in
    /// March, so that the leap day is its last day. An era has 400 years, which are 146,097 days, after which the calendar
    /// repeats. The eras are counted from 0000-03-01, which is 719,468 days before 1970-01-01.
    fn from_days(days: i64) -> Self {
        let days = days + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        Self {
            year: year + era * 400 + i64::from(month <= 2),
            month: month as u32,
            day: day as u32,
        }
    }
}

impl From<Date> for String {
    fn from(date: Date) -> Self {
        date.to_string()
    }
}

impl TryFrom<String> for Date {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for Date {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("expected a date that exists, in the form YYYY-MM-DD, not `{text}`");
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts[..] else {
            return Err(wrong());
        };
        let number = |text: &str, digits: usize| {
            let right = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u32>().ok().filter(|_| right)
        };
        let date = (number(year, 4), number(month, 2), number(day, 2));
        let (Some(year), Some(month), Some(day)) = date else {
            return Err(wrong());
        };
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 => 28 + u32::from(leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => 0,
        };
        if !(1..=days).contains(&day) {
            return Err(wrong());
        }
        Ok(Self {
            year: i64::from(year),
            month,
            day,
        })
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_since_1970() {
        for (days, date) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_784, "2026-11-27"),
        ] {
            assert_eq!(Date::from_days(days).to_string(), date);
            assert_eq!(date.parse(), Ok(Date::from_days(days)));
        }
    }

    #[test]
    fn text_that_is_no_day_is_refused() {
        for wrong in [
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-1-1",
            "26-01-01",
            "2026-04-31",
            "2026-01",
            "+026-01-01",
            "soon",
        ] {
            let error = wrong.parse::<Date>().expect_err(wrong);
            assert!(error.contains("YYYY-MM-DD"), "{error}");
        }
        assert!("2024-02-29".parse::<Date>() < "2024-03-01".parse::<Date>());
    }
}
