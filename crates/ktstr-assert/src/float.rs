//! Serialization of `f64` that preserves non-finite values.
//!
//! JSON has no NaN and no infinity: `serde_json` writes `null`, which cannot be read back as a number. This module
//! writes non-finite values as the strings `"NaN"`, `"inf"` and `"-inf"`, and reads a `null` in place of a number as
//! NaN. Use it with `#[serde(with = "crate::float::…")]`.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An `f64` in its serialized form.
#[derive(Clone, Copy)]
struct Wire(f64);

impl Serialize for Wire {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            v if v.is_finite() => s.serialize_f64(v),
            v if v.is_nan() => s.serialize_str("NaN"),
            v if v > 0.0 => s.serialize_str("inf"),
            _ => s.serialize_str("-inf"),
        }
    }
}

impl<'de> Deserialize<'de> for Wire {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Wire;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number, null, \"NaN\", \"inf\" or \"-inf\"")
            }
            fn visit_f64<E: Error>(self, v: f64) -> Result<Wire, E> {
                Ok(Wire(v))
            }
            fn visit_i64<E: Error>(self, v: i64) -> Result<Wire, E> {
                Ok(Wire(v as f64))
            }
            fn visit_u64<E: Error>(self, v: u64) -> Result<Wire, E> {
                Ok(Wire(v as f64))
            }
            fn visit_unit<E: Error>(self) -> Result<Wire, E> {
                Ok(Wire(f64::NAN))
            }
            fn visit_str<E: Error>(self, v: &str) -> Result<Wire, E> {
                match v {
                    "NaN" => Ok(Wire(f64::NAN)),
                    "inf" => Ok(Wire(f64::INFINITY)),
                    "-inf" => Ok(Wire(f64::NEG_INFINITY)),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(v), &self)),
                }
            }
        }
        d.deserialize_any(V)
    }
}

/// The serialization of a field of type `f64`.
pub mod one {
    use super::*;

    pub fn serialize<S: Serializer>(v: &f64, s: S) -> Result<S::Ok, S::Error> {
        Wire(*v).serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        Ok(Wire::deserialize(d)?.0)
    }
}

/// The serialization of a field of type `Option<f64>`: `None` is `null`.
pub mod opt {
    use super::*;

    pub fn serialize<S: Serializer>(v: &Option<f64>, s: S) -> Result<S::Ok, S::Error> {
        v.map(Wire).serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<f64>, D::Error> {
        Ok(Option::<Wire>::deserialize(d)?.map(|w| w.0))
    }
}

/// The serialization of a field of type `Vec<f64>`, as a sequence.
pub mod list {
    use super::*;

    pub fn serialize<S: Serializer>(v: &[f64], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(v.iter().copied().map(Wire))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<f64>, D::Error> {
        Ok(Vec::<Wire>::deserialize(d)?
            .into_iter()
            .map(|w| w.0)
            .collect())
    }
}

/// The serialization of a field of type `BTreeMap<String, f64>`, as a map.
pub mod map {
    use super::*;
    use std::collections::BTreeMap;

    pub fn serialize<S: Serializer>(v: &BTreeMap<String, f64>, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(v.iter().map(|(k, v)| (k, Wire(*v))))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let read = BTreeMap::<String, Wire>::deserialize(d)?;
        Ok(read.into_iter().map(|(k, w)| (k, w.0)).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};
    use std::collections::BTreeMap;

    #[derive(Serialize, Deserialize, Default)]
    #[serde(default)]
    struct All {
        #[serde(with = "super::one")]
        one: f64,
        #[serde(with = "super::opt")]
        opt: Option<f64>,
        #[serde(with = "super::list")]
        list: Vec<f64>,
        #[serde(with = "super::map")]
        map: BTreeMap<String, f64>,
    }

    fn same(a: f64, b: f64) -> bool {
        a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
    }

    proptest! {
        #[test]
        fn every_float_survives(v: f64) {
            let all = All { one: v, opt: Some(v), list: vec![v], map: [("k".into(), v)].into() };
            let json = serde_json::to_string(&all).unwrap();
            let back: All = serde_json::from_str(&json).unwrap();
            prop_assert!(same(back.one, v) && same(back.opt.unwrap(), v));
            prop_assert!(same(back.list[0], v) && same(back.map["k"], v));
        }
    }

    #[test]
    fn null_is_nan_for_a_number_and_none_for_an_option() {
        let all: All =
            serde_json::from_str(r#"{"one":null,"opt":null,"list":[null,1],"map":{"k":null}}"#)
                .unwrap();
        assert!(all.one.is_nan() && all.opt.is_none());
        assert!(all.list[0].is_nan() && all.list[1] == 1.0 && all.map["k"].is_nan());
        assert!(serde_json::from_str::<All>(r#"{"one":"much"}"#).is_err());
    }
}
