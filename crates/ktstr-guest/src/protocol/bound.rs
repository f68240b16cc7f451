//! Bounds the texts and lists of a message: the guest does so to be able to send it, and the host because it does not trust the
//! guest.

use ktstr_assert::payload::MAX_PAYLOADS;
use ktstr_assert::{AssertDetail, NoteValue, Outcome};

use super::{Ask, MAX_PIDS, StatsAnswer, ToHost};

/// Maximum length of a text in a message, in bytes. It is enough for a panic message with its backtrace; a longer text
/// is truncated.
pub const TEXT_CAP: usize = 256 << 10;
/// Maximum length in bytes of the note about a truncation.
const NOTE_CAP: usize = 64;

impl ToHost {
    /// Truncates each long text of the message to [`TEXT_CAP`] and appends a note about the truncation. Lists of processes and of
    /// payloads are truncated, too. The guest truncates a message so that the message can be sent. The host truncates it again,
    /// because the host does not trust the guest.
    pub fn bound_texts(&mut self) {
        match self {
            Self::Hello {
                topology: Ok(text) | Err(text),
            } => bound(text),
            Self::SchedulerNotAttached { reason: text }
            | Self::SchedulerLeft { what: text }
            | Self::Output { text, .. }
            | Self::TestError { message: text }
            | Self::TestPanicked { message: text }
            | Self::HarnessError { message: text } => bound(text),
            Self::TestResult(result) => {
                for outcome in &mut result.outcomes {
                    match outcome {
                        Outcome::Pass => {}
                        Outcome::Skip(detail)
                        | Outcome::Inconclusive(detail)
                        | Outcome::Fail(detail) => bound_detail(detail),
                    }
                }
                for value in result.measurements.values_mut() {
                    if let NoteValue::Text(text) = value {
                        bound(text);
                    }
                }
                for note in &mut result.info_notes {
                    bound(&mut note.message);
                }
                for pass in &mut result.passes {
                    bound(&mut pass.value);
                    pass.expected.iter_mut().for_each(bound);
                }
                result.stats.payloads.truncate(MAX_PAYLOADS);
                for payload in &mut result.stats.payloads {
                    payload.bound();
                }
            }
            Self::SchedulerStarting { staged } => staged.iter_mut().for_each(bound),
            // The host rejects a write that is too long.
            Self::Ask {
                ask: Ask::WriteMaps | Ask::WriteKernel { .. },
                ..
            } => {}
            Self::Ask {
                ask:
                    Ask::Capture { tag: text, .. }
                    | Ask::ReadKernel { tag: text, .. }
                    | Ask::Watch { symbol: text },
                ..
            } => bound(text),
            Self::Ask {
                ask: Ask::CgroupProcs { tag, cgroup, pids },
                ..
            } => {
                bound(tag);
                bound(cgroup);
                pids.truncate(MAX_PIDS);
            }
            Self::SchedulerStats { tag, answer } => {
                bound(tag);
                if let StatsAnswer::Line(text) | StatsAnswer::Failed(text) = answer {
                    bound(text);
                }
            }
            Self::SchedulerAttached { .. }
            | Self::SchedulerStopping
            | Self::Alive
            | Self::SchedulerAttachedAgain
            | Self::SchedulerDied { .. }
            | Self::Written
            | Self::Prepared
            | Self::Loaded
            | Self::TestStarted { .. }
            | Self::FunctionCalled
            | Self::ScenarioStart
            | Self::ScenarioPause
            | Self::ScenarioResume
            | Self::StepStart { .. }
            | Self::StepEnd { .. }
            | Self::ScenarioEnd { .. }
            | Self::Workers(_)
            | Self::Disk(_)
            | Self::TestEnded { .. }
            | Self::Bye => {}
        }
    }
}

/// Truncates the message of a detail, and the texts in the data of its finding, for example of a claim that compared long texts.
fn bound_detail(detail: &mut AssertDetail) {
    bound(&mut detail.message);
    let Ok(mut data) = serde_json::to_value(&detail.finding) else {
        return;
    };
    if bound_value(&mut data) {
        detail.finding = serde_json::from_value(data).unwrap_or_default();
    }
}

/// Truncates each long text in a value. Returns whether there was one.
fn bound_value(value: &mut serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => {
            let length = text.len();
            bound(text);
            text.len() != length
        }
        serde_json::Value::Array(items) => {
            let changed = |changed, item| bound_value(item) || changed;
            items.iter_mut().fold(false, changed)
        }
        serde_json::Value::Object(fields) => {
            let changed = |changed, item| bound_value(item) || changed;
            fields.values_mut().fold(false, changed)
        }
        _ => false,
    }
}

fn bound(text: &mut String) {
    if text.len() <= TEXT_CAP + NOTE_CAP {
        return;
    }
    let end = text.floor_char_boundary(TEXT_CAP);
    let left_out = text.len() - end;
    text.truncate(end);
    text.push_str(&format!("\n[... {left_out} bytes left out ...]"));
}

#[cfg(test)]
mod tests {
    use ktstr_assert::{AssertResult, DetailKind, Finding};

    use super::*;

    fn sent(message: &ToHost) -> ToHost {
        let bytes = message.encode();
        assert!(bytes.len() <= ktstr_mailbox::MAX_MESSAGE);
        serde_json::from_slice(&bytes).expect("both sides speak the same JSON")
    }

    #[test]
    fn a_long_text_is_cut_once_and_says_so() {
        // Each byte of the text takes six bytes in JSON, so the whole text exceeds the limit of a message.
        let length = 3 << 20;
        assert!(6 * length > ktstr_mailbox::MAX_MESSAGE);
        let message = "\u{1}".repeat(length);
        let ToHost::TestPanicked { message } = sent(&ToHost::TestPanicked { message }) else {
            panic!("another message");
        };
        assert!(message.len() <= TEXT_CAP + NOTE_CAP);
        assert!(message.ends_with(&format!("[... {} bytes left out ...]", length - TEXT_CAP)));
        let mut again = ToHost::TestPanicked {
            message: message.clone(),
        };
        again.bound_texts();
        assert!(matches!(again, ToHost::TestPanicked { message: twice } if twice == message));
    }

    #[test]
    fn a_result_with_long_texts_stays_a_result() {
        let long = AssertResult::fail_msg("x".repeat(17 << 20));
        let ToHost::TestResult(result) = sent(&ToHost::TestResult(Box::new(long))) else {
            panic!("another message");
        };
        let detail = result.failure_details().next().expect("a finding");
        assert!(detail.message.ends_with("bytes left out ...]"));
    }

    #[test]
    fn long_texts_in_the_data_of_a_result_are_bounded_too() {
        let text = "x".repeat(9 << 20);
        let mut long = AssertResult::pass();
        long.record_fail(AssertDetail::of(Finding::Claim {
            label: "version".to_owned(),
            expected: "equal to 1".to_owned(),
            actual: text.clone(),
            reason: None,
        }));
        long.measurements
            .insert("log".to_owned(), NoteValue::Text(text));
        let ToHost::TestResult(result) = sent(&ToHost::TestResult(Box::new(long))) else {
            panic!("another message");
        };
        let detail = result.failure_details().next().expect("a finding");
        assert!(detail.message.starts_with("version") && detail.message.len() < TEXT_CAP + 100);
        let Finding::Claim { actual, label, .. } = &detail.finding else {
            panic!("the finding is still a claim: {:?}", detail.finding);
        };
        assert!(label == "version" && actual.len() < TEXT_CAP + 100);
        assert!(
            matches!(&result.measurements["log"], NoteValue::Text(log) if log.len() < TEXT_CAP + 100)
        );
    }

    #[test]
    fn payload_results_are_bounded_on_the_host_too() {
        use ktstr_assert::payload::{Captured, EXCERPT, PayloadMetrics};
        let mut result = AssertResult::pass();
        let run = PayloadMetrics {
            stdout: Captured {
                text: "x".repeat(2 * EXCERPT),
                ..Captured::default()
            },
            ..PayloadMetrics::default()
        };
        result.stats.payloads = vec![run; 2 * MAX_PAYLOADS];
        let mut message = ToHost::TestResult(Box::new(result));
        message.bound_texts();
        let ToHost::TestResult(result) = message else {
            panic!("another message");
        };
        assert_eq!(result.stats.payloads.len(), MAX_PAYLOADS);
        assert_eq!(result.stats.payloads[0].stdout.text.len(), EXCERPT);
    }

    #[test]
    fn a_result_that_is_too_large_is_replaced_by_an_error() {
        let mut result = AssertResult::pass();
        let findings = ktstr_mailbox::MAX_MESSAGE / TEXT_CAP + 1;
        for _ in 0..findings {
            let finding = AssertDetail::new(DetailKind::Other, "x".repeat(TEXT_CAP));
            result.record_fail(finding);
        }
        let ToHost::HarnessError { message } = sent(&ToHost::TestResult(Box::new(result))) else {
            panic!("another message");
        };
        let shown = format!("with {findings} findings");
        assert!(message.contains(&shown), "{message}");
        assert!(message.contains("16777216"), "{message}");
    }
}
