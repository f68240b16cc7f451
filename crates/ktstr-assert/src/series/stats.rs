//! Projections of the scheduler's own statistics (`scx_stats` JSON).

use super::map::numbers;
use super::{SampleSeries, SeriesField};
use ktstr_snapshot::snapshot::{JsonField, SnapshotError, SnapshotResult, stats_path};
use serde_json::Value;

/// The statistics that were taken with one capture.
#[derive(Clone, Copy, Debug)]
pub struct StatsValue<'a>(&'a Value);

impl<'a> StatsValue<'a> {
    /// Returns the value at a dotted path; an empty path is the whole value.
    pub fn get(&self, path: &str) -> JsonField<'a> {
        stats_path(self.0, path)
    }

    /// Returns the JSON as the scheduler sent it.
    pub fn raw(&self) -> &'a Value {
        self.0
    }
}

/// Projects fields below one path of the statistics.
#[derive(Clone, Debug)]
pub struct StatsPathProjector<'a> {
    series: &'a SampleSeries,
    path: String,
}

macro_rules! projections {
    ($($(#[$doc:meta])* $live:ident $field:ident $get:ident -> $t:ty;)*) => {
        impl SampleSeries {
            $($(#[$doc])*
            pub fn $live(&self, path: &str) -> SeriesField<$t> {
                self.stats(path, |stats| stats.get(path).$get())
            })*
        }

        impl StatsPathProjector<'_> {
            $($(#[$doc])*
            pub fn $field(&self, path: &str) -> SeriesField<$t> {
                self.series.$live(&join(&self.path, path))
            })*
        }
    };
}

projections! {
    /// Projects the value at a path as an unsigned integer.
    stats_live_u64 field_u64 as_u64 -> u64;
    /// Projects the value at a path as a signed integer.
    stats_live_i64 field_i64 as_i64 -> i64;
    /// Projects the value at a path as a float.
    stats_live_f64 field_f64 as_f64 -> f64;
}

fn join(path: &str, below: &str) -> String {
    match path.is_empty() {
        true => below.to_owned(),
        false => format!("{path}.{below}"),
    }
}

impl SampleSeries {
    /// Projects one value per capture from the scheduler's statistics. A capture without statistics gives an error.
    pub fn stats<T>(
        &self,
        label: impl Into<String>,
        f: impl Fn(StatsValue<'_>) -> SnapshotResult<T>,
    ) -> SeriesField<T> {
        self.project(label, |s| match s.stats {
            Ok(value) => f(StatsValue(value)),
            Err(reason) => Err(SnapshotError::MissingStats {
                tag: s.tag.to_owned(),
                reason: reason.clone(),
            }),
        })
    }

    /// Returns a projector for the fields below a dotted path; an empty path is the root.
    pub fn stats_path(&self, path: impl Into<String>) -> StatsPathProjector<'_> {
        StatsPathProjector {
            series: self,
            path: path.into(),
        }
    }
}

impl StatsPathProjector<'_> {
    /// Returns a projector for the fields one level deeper.
    pub fn key(&self, key: &str) -> Self {
        StatsPathProjector {
            series: self.series,
            path: join(&self.path, key),
        }
    }

    /// Projects every key at this path that is an unsigned number in some capture. A key that contains a dot is left
    /// out, because it would be read as a path.
    pub fn u64_fields(&self) -> Vec<(String, SeriesField<u64>)> {
        numbers(self.plain_keys(), |key| self.field_u64(key))
    }

    /// Projects every key at this path that is a number in some capture, as a float. A key that contains a dot is left
    /// out here, too.
    pub fn f64_fields(&self) -> Vec<(String, SeriesField<f64>)> {
        numbers(self.plain_keys(), |key| self.field_f64(key))
    }

    fn plain_keys(&self) -> Vec<String> {
        let mut keys = self.key_names();
        keys.retain(|key| !key.contains('.'));
        keys
    }

    /// Returns the keys that the object at this path has in any capture, sorted.
    pub fn key_names(&self) -> Vec<String> {
        let mut names = std::collections::BTreeSet::new();
        for value in self.series.iter_samples().filter_map(|s| s.stats.ok()) {
            let here = match self.path.is_empty() {
                true => Some(value),
                false => stats_path(value, &self.path).raw(),
            };
            let keys = here.and_then(Value::as_object).into_iter().flatten();
            names.extend(keys.map(|(k, _)| k.clone()));
        }
        names.into_iter().collect()
    }
}
