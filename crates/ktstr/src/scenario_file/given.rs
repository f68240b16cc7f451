//! Converts the value of a setting to the type that its key takes.

use ktstr_assert::Limit;
use ktstr_scenario::text::{Setting, SettingValue, TextError};

use super::wrong;

/// A setting of a file, whose value the methods convert. Each method that converts the value of a check takes the two bounds
/// that the macro's table has for the key, so that the table can call all of them alike; only `number` uses the bounds.
#[derive(Clone, Copy)]
pub(super) struct Given<'a>(pub(super) &'a Setting);

impl Given<'_> {
    fn expected(self, what: &str) -> TextError {
        let found = match &self.0.value {
            SettingValue::Bool(value) => value.to_string(),
            SettingValue::Integer(number) => format!("the number {number}"),
            SettingValue::Float(number) => format!("the number {number:?}"),
            SettingValue::Text(text) => format!("{text:?}"),
            SettingValue::Texts(texts) => format!("the list {texts:?}"),
        };
        wrong(self.0, format!("found {found}, expected {what}"))
    }

    pub(super) fn bool(self, _: u64, _: u64) -> Result<bool, TextError> {
        match self.0.value {
            SettingValue::Bool(value) => Ok(value),
            _ => Err(self.expected("true or false")),
        }
    }

    pub(super) fn number<N: TryFrom<u64>>(self, least: u64, most: u64) -> Result<N, TextError> {
        let number = match self.0.value {
            SettingValue::Integer(number) => u64::try_from(number).ok(),
            _ => None,
        };
        number
            .filter(|number| (least..=most).contains(number))
            .and_then(|number| N::try_from(number).ok())
            .ok_or_else(|| self.expected(&format!("a whole number of {least} to {most}")))
    }

    pub(super) fn float(self, _: u64, _: u64) -> Result<f64, TextError> {
        let number = match self.0.value {
            SettingValue::Float(number) => Some(number),
            SettingValue::Integer(number) => Some(number as f64),
            _ => None,
        };
        number
            .filter(|number| number.is_finite() && *number >= 0.0)
            .ok_or_else(|| self.expected("a number of 0 or more"))
    }

    pub(super) fn limit(self, _: u64, _: u64) -> Result<Limit, TextError> {
        match &self.0.value {
            SettingValue::Text(word) if word == "off" => Ok(Limit::Off),
            SettingValue::Float(_) | SettingValue::Integer(_) => self.float(0, 0).map(Limit::At),
            _ => Err(self.expected("a number of 0 or more, or \"off\"")),
        }
    }

    pub(super) fn text(self, _: u64, _: u64) -> Result<&'static str, TextError> {
        match &self.0.value {
            SettingValue::Text(text) => Ok(text.clone().leak()),
            _ => Err(self.expected("a text in quotes")),
        }
    }

    pub(super) fn texts(self) -> Result<&'static [&'static str], TextError> {
        match &self.0.value {
            SettingValue::Texts(texts) => {
                let texts = texts.iter().map(|text| &*text.clone().leak());
                Ok(texts.collect::<Vec<&'static str>>().leak())
            }
            _ => Err(self.expected("a list of texts in quotes")),
        }
    }
}
