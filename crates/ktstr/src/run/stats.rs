//! The statistics that the scheduler under test serves (the crate `scx_stats`). The guest asks for them shortly before a capture
//! and sends the answers, which are decoded here and stored with their captures.

use std::collections::BTreeMap;

use ktstr_guest::protocol::{MAX_TAG, StatsAnswer};
use ktstr_guest::stats::SOCKET;
use ktstr_snapshot::snapshot::MissingStatsReason;
use serde_json::Value;

use crate::entry::KtstrTestEntry;

/// The largest number of answers that wait for their captures. A sound guest sends an answer shortly before its capture, so
/// few answers wait. The limit keeps a hostile guest from filling the host's memory.
const WAITING_CAP: usize = 64;
/// The largest number of bytes of a scheduler's own message about a failure that are kept.
const MESSAGE_CAP: usize = 1024;

/// The deepest nesting of the statistics that are kept. `serde_json` reads at most 127 levels, so a record with statistics that
/// are nested much more deeply could not be read back.
const MOST_NESTED: usize = 32;

/// The decoded statistics, or the reason why there are none.
pub(super) type Stats = Result<Value, MissingStatsReason>;

/// The answers that have arrived before their captures.
#[derive(Debug)]
pub(super) struct EarlyStats {
    answers: BTreeMap<String, Stats>,
    /// The reason that is stored with a capture for which the guest has sent no answer.
    missing: MissingStatsReason,
}

impl EarlyStats {
    pub(super) fn new(entry: &KtstrTestEntry) -> Self {
        let missing = match entry.scheduler.binary.has_bpf_scheduler() {
            true => MissingStatsReason::NoScheduler {
                reason: format!(
                    "nothing served statistics at {SOCKET} when the workload window opened"
                ),
            },
            false => MissingStatsReason::NoSchedulerBinary,
        };
        Self {
            answers: BTreeMap::new(),
            missing,
        }
    }

    /// Keeps an answer for the capture with this tag, which is about to be taken.
    pub(super) fn keep(&mut self, tag: String, stats: Stats) {
        if tag.len() <= MAX_TAG && self.answers.len() < WAITING_CAP {
            self.answers.insert(tag, stats);
        }
        self.note_request();
    }

    /// Notes that the guest has requested statistics from the scheduler. From then on, a missing answer means that the
    /// request was given up.
    pub(super) fn note_request(&mut self) {
        self.missing = MissingStatsReason::Cancelled;
    }

    /// Returns the statistics for the capture with this tag.
    pub(super) fn of(&mut self, tag: &str) -> Stats {
        let answer = self.answers.remove(tag);
        answer.unwrap_or_else(|| Err(self.missing.clone()))
    }
}

/// Returns how deep a value is nested: 1 for a value that contains no others.
fn depth(value: &Value) -> usize {
    let inner = match value {
        Value::Array(all) => all.iter().map(depth).max(),
        Value::Object(all) => all.values().map(depth).max(),
        _ => None,
    };
    1 + inner.unwrap_or(0)
}

/// Decodes the scheduler's answer: `{"errno": 0, "args": {"resp": STATISTICS}}`.
pub(super) fn decode(answer: StatsAnswer) -> Stats {
    let line = match answer {
        StatsAnswer::Line(line) => line,
        StatsAnswer::TooLarge => return Err(MissingStatsReason::ResponseTooLarge),
        StatsAnswer::Failed(reason) => return Err(MissingStatsReason::NoScheduler { reason }),
    };
    let mut answer: Value =
        serde_json::from_str(&line).map_err(|error| MissingStatsReason::NoScheduler {
            reason: format!("its answer is not JSON: {error}"),
        })?;
    let errno = answer.get("errno").and_then(Value::as_i64).unwrap_or(0);
    let args = answer.get_mut("args").map(Value::take).unwrap_or_default();
    let text = |args: &Value| {
        let mut text = args.to_string();
        text.truncate(text.floor_char_boundary(MESSAGE_CAP));
        text
    };
    if errno != 0 {
        return Err(MissingStatsReason::SchedulerError {
            errno: i32::try_from(errno).unwrap_or(i32::MAX),
            args: text(&args),
        });
    }
    match args {
        Value::Object(map)
            if map
                .get("resp")
                .is_some_and(|resp| depth(resp) > MOST_NESTED) =>
        {
            Err(MissingStatsReason::NoScheduler {
                reason: format!("its answer is nested more than {MOST_NESTED} deep"),
            })
        }
        Value::Object(mut map) if map.contains_key("resp") => {
            Ok(map.remove("resp").unwrap_or_default())
        }
        other => Err(MissingStatsReason::MissingResp { args: text(&other) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_line(line: &str) -> Stats {
        decode(StatsAnswer::Line(line.to_owned()))
    }

    #[test]
    fn the_answer_of_a_scheduler_is_its_resp() {
        let stats = of_line(r#"{"errno":0,"args":{"resp":{"nr_dispatched":7}}}"#);
        assert_eq!(stats, Ok(serde_json::json!({ "nr_dispatched": 7 })));
    }

    #[test]
    fn statistics_that_a_record_cannot_hold_are_refused() {
        let nested = |depth| {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            of_line(&format!(r#"{{"errno":0,"args":{{"resp":{open}{close}}}}}"#))
        };
        assert!(nested(32).is_ok());
        let refused = nested(124).expect_err("too deep").to_string();
        assert!(refused.contains("nested more than 32 deep"), "{refused}");
    }

    #[test]
    fn each_failure_has_its_reason() {
        let reason = |stats: Stats| stats.expect_err("a failure").to_string();
        let refused = reason(of_line(r#"{"errno":22,"args":{"resp":"unknown target"}}"#));
        assert!(refused.contains("22") && refused.contains("unknown target"));
        assert!(reason(of_line(r#"{"errno":0,"args":{"other":1}}"#)).contains("other"));
        assert!(reason(of_line("[]")).contains("`resp`"));
        assert!(reason(of_line("hello")).contains("not JSON"));
        assert!(reason(of_line(&"[".repeat(100_000))).contains("not JSON"));
        assert_eq!(
            decode(StatsAnswer::TooLarge),
            Err(MissingStatsReason::ResponseTooLarge)
        );
        let late = decode(StatsAnswer::Failed(
            "it did not answer within 1 s".to_owned(),
        ));
        assert!(reason(late).contains("within 1 s"));
    }

    #[test]
    fn a_hostile_guest_fills_no_memory() {
        let mut early = EarlyStats::new(&KtstrTestEntry::DEFAULT);
        for at in 0..10_000 {
            early.keep(format!("tag{at}"), Ok(Value::Null));
        }
        early.keep("x".repeat(MAX_TAG + 1), Ok(Value::Null));
        assert_eq!(early.answers.len(), WAITING_CAP);
        assert_eq!(early.of("tag0"), Ok(Value::Null));
        assert_eq!(early.of("tag0"), Err(MissingStatsReason::Cancelled));
    }
}
