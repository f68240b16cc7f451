//! Parses the verifier's statistics of programs from a scheduler's log. libbpf prints them for a program that was rejected,
//! and for every program if the scheduler requests it, which many schedulers do with `-v`.

/// The largest number of programs that are read from a log, which comes from the guest.
const MOST: usize = 512;

/// The statistics of one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// The program's name; `None` if the log does not have it.
    pub program: Option<String>,
    /// The instructions that the verifier processed on all paths.
    pub insns: u64,
    /// The states that the verifier saved for pruning, including those that it freed again (`total_states`).
    pub states: u64,
    /// Whether the program was refused.
    pub refused: bool,
}

/// Returns all statistics in a log, in order.
pub fn of(log: &str) -> Vec<Walked> {
    let mut all: Vec<Walked> = Vec::new();
    let mut program: Option<String> = None;
    for line in log.lines() {
        let named = name(line);
        // The rejection is printed after the statistics, and its line may be the first one that has the program's name.
        if let (Some(named), Some(last)) = (&named, all.last_mut())
            && line.contains("failed to load")
            && last.program.as_ref().is_none_or(|known| known == named)
        {
            last.program = Some(named.clone());
            last.refused = true;
        }
        program = named.or(program);
        if let Some((insns, states)) = processed(line)
            && all.len() < MOST
        {
            all.push(Walked {
                program: program.take(),
                insns,
                states,
                refused: false,
            });
        }
    }
    all
}

/// Returns the program that a line of libbpf is about; `None` if the line names none.
fn name(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("prog '")?;
    let (name, _) = rest.split_once('\'')?;
    Some(name.to_owned())
}

/// Returns the numbers of instructions and of total states, 6 and 2, of a line such as `processed 6 insns (limit 1000000)
/// max_states_per_insn 0 total_states 2 peak_states 2 mark_read 0`. The number of states is 0 if the line does not have it.
/// `None` for any other line.
fn processed(line: &str) -> Option<(u64, u64)> {
    let words: Vec<&str> = line.trim().strip_prefix("processed ")?.split(' ').collect();
    let after = |word: &str| {
        let at = words.iter().position(|other| *other == word)?;
        words.get(at + 1)?.parse().ok()
    };
    let insns = words.first().filter(|_| words.get(1) == Some(&"insns"))?;
    Some((insns.parse().ok()?, after("total_states").unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_program_is_named_by_a_line_after_its_statistics() {
        let log = "libbpf: -- BEGIN PROG LOAD LOG --\n0: R1=ctx()\nR1 invalid mem access 'scalar'\n\
                   processed 6 insns (limit 1000000) max_states_per_insn 0 total_states 2 peak_states 2 mark_read 0\n\
                   -- END PROG LOAD LOG --\nlibbpf: prog 'mine_init': failed to load: -EACCES\n";
        let found = of(log);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].program.as_deref(), Some("mine_init"));
        assert_eq!((found[0].insns, found[0].states), (6, 2));
        assert!(found[0].refused);
    }

    #[test]
    fn programs_that_load_are_named_by_a_line_before_their_statistics() {
        let one = |name: &str, insns: u64| {
            format!(
                "libbpf: prog '{name}': -- BEGIN PROG LOAD LOG --\nprocessed {insns} insns (limit 1000000) \
                 max_states_per_insn 1 total_states 5 peak_states 5 mark_read 0\nlibbpf: -- END PROG LOAD LOG --\n"
            )
        };
        let found = of(&(one("a", 10) + &one("b", 20)));
        let names: Vec<_> = found.iter().map(|f| f.program.as_deref()).collect();
        assert_eq!(names, [Some("a"), Some("b")]);
        assert!(found.iter().all(|f| f.states == 5 && !f.refused));
    }

    #[test]
    fn other_lines_are_ignored() {
        for log in [
            "",
            "processed",
            "processed x insns",
            "processed 7 things total_states 3",
            "prog '",
        ] {
            assert_eq!(of(log), [], "{log}");
        }
        let many = "processed 1 insns total_states 1\n".repeat(MOST + 9);
        assert_eq!(of(&many).len(), MOST);
    }
}
