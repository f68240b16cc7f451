//! Finds in a scheduler's log why the verifier rejected a program. libbpf prints the verifier's log between two markers,
//! and the reason is its last line apart from the statistics. Since Linux 7.3 the reason is followed by an explanation
//! with the line of the source.

use std::fmt;

use super::last_lines;

const BEGIN: &str = "-- BEGIN PROG LOAD LOG --";
const END: &str = "-- END PROG LOAD LOG --";
/// The largest number of lines that are shown before the reason: they show what the program did.
const BEFORE: usize = 4;
/// The largest number of lines that are shown of the explanation.
const EXPLAINED: usize = 12;

/// A program that the verifier rejected.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal<'a> {
    /// The name of the program, if libbpf prints it.
    program: Option<&'a str>,
    /// The lines of the verifier's log that are not blank.
    lines: Vec<&'a str>,
    /// The index in `lines` of the reason.
    reason: usize,
}

/// Returns the last refusal in a log; `None` if it contains none.
pub(super) fn of(log: &str) -> Option<Refusal<'_>> {
    let (before, after) = log.rsplit_once(END)?;
    let (_, verifier) = before.rsplit_once(BEGIN)?;
    let lines: Vec<&str> = verifier
        .lines()
        .filter(|line| !line.trim().is_empty() && *line != "libbpf: ")
        .collect();
    let explained = lines
        .iter()
        .rposition(|l| l.starts_with("Verification failed"));
    let counted = lines.iter().rposition(|l| l.starts_with("processed "));
    let reason = explained
        .or(counted)
        .unwrap_or(lines.len())
        .checked_sub(1)?;
    let program = after
        .split_once("prog '")
        .and_then(|(_, rest)| Some(rest.split_once('\'')?.0));
    Some(Refusal {
        program,
        lines,
        reason,
    })
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.program {
            Some(program) => write!(f, "the verifier rejected its program `{program}`")?,
            None => f.write_str("the verifier rejected one of its programs")?,
        }
        write!(f, ": {}", self.lines[self.reason].trim())
    }
}

impl Refusal<'_> {
    /// Returns the reason and the lines around it, indented.
    pub(super) fn excerpt(&self) -> String {
        let before = self.reason.saturating_sub(BEFORE);
        let explanation = self.lines[self.reason + 1..]
            .iter()
            .take_while(|line| {
                let head = line.trim();
                !["processed ", "Instruction context:", "Causal path:"]
                    .iter()
                    .any(|end| head.starts_with(end))
            })
            .take(EXPLAINED);
        let shown: Vec<&str> = self.lines[before..=self.reason]
            .iter()
            .chain(explanation)
            .copied()
            .collect();
        last_lines(&shown.join("\n"), BEFORE + 1 + EXPLAINED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output of `scx-ktstr --fail-verify` on Linux 7.3.
    const RECORDED: &str = include_str!("../../../tests/data/refused.log");

    #[test]
    fn the_reason_is_found_in_a_log_that_explains_itself() {
        let refusal = of(RECORDED).expect("a refusal");
        assert_eq!(
            refusal.to_string(),
            "the verifier rejected its program `ktstr_init`: R1 invalid mem access 'scalar'"
        );
        insta::assert_snapshot!(refusal.excerpt());
    }

    #[test]
    fn the_reason_is_found_in_a_log_that_ends_with_it() {
        let log = format!(
            "libbpf: -- BEGIN PROG LOAD LOG --\n{}R1 invalid mem access 'scalar'\n\
             processed 500 insns (limit 1000000)\n-- END PROG LOAD LOG --\n\
             libbpf: prog 'x': failed to load: -EACCES\n",
            "0: (18) r2 = 0\n".repeat(500),
        );
        let refusal = of(&log).expect("a refusal");
        assert_eq!(
            refusal.to_string(),
            "the verifier rejected its program `x`: R1 invalid mem access 'scalar'"
        );
        assert_eq!(refusal.excerpt().lines().count(), BEFORE + 1);
    }

    #[test]
    fn other_logs_contain_no_refusal() {
        for log in [
            "",
            "attached\n",
            "-- END PROG LOAD LOG --",
            "-- BEGIN PROG LOAD LOG ---- END PROG LOAD LOG --",
        ] {
            assert_eq!(of(log), None, "{log}");
        }
    }
}
