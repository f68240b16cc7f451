//! The identifiers by which metrics are requested.

use super::{BuiltinMetric, MetricDef, Polarity, REGISTRY};
use std::fmt;

/// The identifier of a metric: a metric of the registry, or a name that a payload or a watched variable gave.
///
/// A name that is in the registry becomes [`MetricId::Builtin`], so the name and the variant give equal identifiers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MetricId {
    /// A metric of the registry.
    Builtin(BuiltinMetric),
    /// Any other metric, by name.
    Dynamic(String),
}

impl MetricId {
    /// Returns the name in records and JSON.
    pub fn wire_name(&self) -> &str {
        match self {
            MetricId::Builtin(m) => m.wire_name(),
            MetricId::Dynamic(name) => name,
        }
    }

    /// Returns the definition; `None` for metrics that are not in the registry.
    pub fn def(&self) -> Option<&'static MetricDef> {
        match self {
            MetricId::Builtin(m) => Some(m.def()),
            MetricId::Dynamic(_) => None,
        }
    }

    /// Returns the direction in which the metric improves; [`Polarity::Unknown`] outside the registry.
    pub fn polarity(&self) -> Polarity {
        self.def().map_or(Polarity::Unknown, |d| d.polarity)
    }
}

impl BuiltinMetric {
    /// Returns the entry of the registry: unit, polarity, kind and gates.
    pub fn def(self) -> &'static MetricDef {
        // The same macro line generates the variant and the entry, so the index is always valid.
        &REGISTRY[self as usize]
    }

    /// Returns the name in records and JSON.
    pub fn wire_name(self) -> &'static str {
        self.def().name
    }

    /// Returns the metric with this name; `None` if the registry has none.
    pub fn from_wire_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|m| m.wire_name() == name)
    }
}

impl fmt::Display for MetricId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.wire_name())
    }
}

impl From<BuiltinMetric> for MetricId {
    fn from(m: BuiltinMetric) -> Self {
        MetricId::Builtin(m)
    }
}

impl From<&str> for MetricId {
    fn from(name: &str) -> Self {
        BuiltinMetric::from_wire_name(name)
            .map_or_else(|| MetricId::Dynamic(name.to_owned()), MetricId::Builtin)
    }
}

impl From<String> for MetricId {
    fn from(name: String) -> Self {
        name.as_str().into()
    }
}
