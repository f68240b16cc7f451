//! How a metric is named by those who ask for it.

use super::{BuiltinMetric, MetricDef, Polarity, REGISTRY};
use std::fmt;

/// A metric: one of the registry, or one that a payload or a watched variable brought.
///
/// A name the registry knows becomes [`MetricId::Builtin`], so both spellings are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MetricId {
    /// One of the registry.
    Builtin(BuiltinMetric),
    /// Any other name.
    Dynamic(String),
}

impl MetricId {
    /// The name in records and JSON.
    pub fn wire_name(&self) -> &str {
        match self {
            MetricId::Builtin(m) => m.wire_name(),
            MetricId::Dynamic(name) => name,
        }
    }

    /// The definition, for metrics of the registry.
    pub fn def(&self) -> Option<&'static MetricDef> {
        match self {
            MetricId::Builtin(m) => Some(m.def()),
            MetricId::Dynamic(_) => None,
        }
    }

    /// Which way is better; [`Polarity::Unknown`] outside the registry.
    pub fn polarity(&self) -> Polarity {
        self.def().map_or(Polarity::Unknown, |d| d.polarity)
    }
}

impl BuiltinMetric {
    /// The row of the registry: unit, polarity, kind and gates.
    pub fn def(self) -> &'static MetricDef {
        // One macro line makes both the variant and the entry, so the index is always there.
        &REGISTRY[self as usize]
    }

    /// The name in records and JSON.
    pub fn wire_name(self) -> &'static str {
        self.def().name
    }

    /// The metric of this name.
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
