//! Dumps of every schema in one type, for readers of files whose schema is unknown.
//!
//! A run writes single captures only. The other two schemas are for a dump with an early and a late capture, and for a dump for
//! which not every CPU could be stopped.

use serde::{Deserialize, Serialize};

use super::{FailureDumpReport, SCHEMA_SINGLE};

/// The value of [`DualFailureDumpReport::schema`].
pub const SCHEMA_DUAL: &str = "dual";

/// The value of [`DegradedFailureDumpReport::schema`].
pub const SCHEMA_DEGRADED: &str = "degraded";

/// The [`DegradedFailureDumpReport::reason`] of a dump whose CPUs did not all stop in time.
pub const REASON_DEGRADED_RENDEZVOUS_TIMEOUT: &str = "rendezvous_timeout";

/// A dump with two captures: one from before the failure, and one at the failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DualFailureDumpReport {
    /// Always [`SCHEMA_DUAL`], by which this form is recognised.
    pub schema: String,
    /// The capture from before the failure, if one was taken.
    #[serde(default)]
    pub early: Option<FailureDumpReport>,
    /// The capture at the failure.
    pub late: FailureDumpReport,
}

/// A dump for which not every CPU could be stopped. It has no capture, only the reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DegradedFailureDumpReport {
    /// Always [`SCHEMA_DEGRADED`], by which this form is recognised.
    pub schema: String,
    /// The reason as a token: [`REASON_DEGRADED_RENDEZVOUS_TIMEOUT`].
    pub reason: String,
}

/// A dump of any of the three schemas. The field `schema` of the document decides which variant is read.
///
/// ```
/// use ktstr_snapshot::report::FailureDumpReportAny;
///
/// let any: FailureDumpReportAny = serde_json::from_str(r#"{"schema": "single"}"#)?;
/// assert!(matches!(any, FailureDumpReportAny::Single(_)));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "serde_json::Value", untagged)]
pub enum FailureDumpReportAny {
    /// A dump of one capture.
    Single(Box<FailureDumpReport>),
    /// A dump with an early and a late capture.
    Dual(Box<DualFailureDumpReport>),
    /// A dump for which not every CPU could be stopped.
    Degraded(DegradedFailureDumpReport),
}

impl TryFrom<serde_json::Value> for FailureDumpReportAny {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        let schema = value.get("schema").and_then(serde_json::Value::as_str);
        let schema = schema.unwrap_or_default().to_owned();
        let read = match schema.as_str() {
            SCHEMA_SINGLE => serde_json::from_value(value).map(Self::Single),
            SCHEMA_DUAL => serde_json::from_value(value).map(Self::Dual),
            SCHEMA_DEGRADED => serde_json::from_value(value).map(Self::Degraded),
            other => {
                return Err(format!(
                    "the dump has the schema {other:?}: expected {SCHEMA_SINGLE:?}, {SCHEMA_DUAL:?} or {SCHEMA_DEGRADED:?}"
                ));
            }
        };
        read.map_err(|why| format!("the dump of the schema {schema:?} cannot be read: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: serde_json::Value) -> Result<FailureDumpReportAny, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn the_schema_decides() {
        let single = FailureDumpReport::default();
        let any = read(serde_json::to_value(&single).expect("JSON")).expect("a dump");
        assert_eq!(any, FailureDumpReportAny::Single(Box::new(single)));
        let dual = json!({"schema": "dual", "late": {"schema": "single"}});
        assert!(matches!(read(dual), Ok(FailureDumpReportAny::Dual(dual)) if dual.early.is_none()));
        let degraded = json!({"schema": "degraded", "reason": "rendezvous_timeout"});
        let any = read(degraded.clone()).expect("a dump");
        assert!(
            matches!(&any, FailureDumpReportAny::Degraded(d) if d.reason == REASON_DEGRADED_RENDEZVOUS_TIMEOUT)
        );
        assert_eq!(serde_json::to_value(&any).expect("JSON"), degraded);
    }

    #[test]
    fn the_error_for_a_document_that_is_no_dump_says_why() {
        for (value, why) in [
            (json!({}), "has the schema \"\""),
            (
                json!({"schema": "triple"}),
                "expected \"single\", \"dual\" or \"degraded\"",
            ),
            (json!({"schema": "dual"}), "missing field `late`"),
        ] {
            let text = read(value).expect_err("must be refused");
            assert!(text.contains(why), "{text}");
        }
    }
}
