//! Converts the observations of the virtual clock's plugin into events of the schedule.
// The numbers come from a guest and may be arbitrarily large, so the compiler warns of each cast that could change a number.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

use ktstr_introspect::narrow;
use ktstr_machine::Observation;
use ktstr_schedule::{
    Cpu, CpuMask, IDLE_CGROUP_WEIGHT, Pid, Raw, SHARES_SHIFT, SchedExtState, What,
};

use super::points::{CLASSES, DEQUEUE, ENQUEUE, Seen};

/// The bits of `preempt_count()` that show an interrupt (include/linux/preempt.h): `NMI_MASK`, `HARDIRQ_MASK`, and
/// `SOFTIRQ_OFFSET` for a softirq that is being served.
const IN_INTERRUPT: u64 = 0x00ff_0100;
/// The same bits on kernels that count disabled interrupts in bits 16 to 23 (7.3).
const IN_INTERRUPT_SHIFTED: u64 = 0xff00_0100;
/// `SETPARAM_POLICY` (kernel/sched/syscalls.c; before 6.11 kernel/sched/core.c): the policy is not changed.
const SAME_POLICY: u32 = u32::MAX;

/// The default weight of a cgroup that is not idle (`NICE_0_LOAD >> SCHED_FIXEDPOINT_SHIFT`).
const WEIGHT_USUAL: u64 = 1024;

/// The meaning of an observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    /// A single event that refers neither to a name nor to the path of a cgroup.
    Raw(Raw),
    /// A task was created with this name.
    Fork(Pid, String),
    /// A task was renamed.
    Name(Pid, String),
    /// A task moved to another cgroup. Holds the address of the cgroup's kernfs node and its id.
    Cgroup(Pid, u64, u64),
    /// An event about a cgroup. Holds the address of the cgroup's kernfs node and its id.
    OfCgroup(What, u64, u64),
    /// The policy and the nice value of a task were set.
    Policy(Pid, u8, i8),
    /// No event: the kind is unknown, a word could not be read, or the policy or `cpu.idle` did not change.
    Nothing,
}

/// Returns the meaning of an observation, which follows from its kind. An observation without a kind is a context switch. The
/// words of an observation have the order in which `points.rs` lists them for the observed function.
pub(super) fn interpret(seen: &Observation) -> Shown {
    let words = seen.words;
    if seen.partial {
        return Shown::Nothing;
    }
    let pid = |word: usize| Pid(narrow::low_half(words[word]));
    let cpu = |word: usize| cpu(narrow::low_half(words[word]));
    let Some(kind) = seen.kind else {
        return Shown::Raw(Raw::Switch {
            prev: pid(0),
            next: pid(1),
            yielded: words[2] != 0,
        });
    };
    let Some(what) = Seen::from_kind(kind) else {
        return of_class(kind, pid(0), cpu(1), words[2]);
    };
    let plain = |what| Shown::Raw(Raw::Plain(what));
    match what {
        Seen::Wake | Seen::WakeShifted => plain(What::Wake {
            task: pid(0),
            waker: Pid(seen.current),
            interrupt: words[1]
                & match what {
                    Seen::WakeShifted => IN_INTERRUPT_SHIFTED,
                    _ => IN_INTERRUPT,
                }
                != 0,
        }),
        Seen::Fork => Shown::Fork(pid(0), text(words[1], words[2])),
        Seen::Comm => Shown::Name(pid(0), text(words[1], words[2])),
        Seen::Dead => plain(What::Exit {
            task: Pid(seen.current),
        }),
        Seen::Migrate => plain(What::Migrate {
            task: pid(0),
            to: cpu(1),
        }),
        Seen::Affinity => plain(What::Affinity {
            task: pid(0),
            mask: CpuMask([words[1], words[2]]),
        }),
        Seen::Nice => plain(What::Nice {
            task: pid(0),
            nice: narrow::low_byte(words[1]).cast_signed(),
        }),
        Seen::Policy if narrow::low_half(words[1]) == SAME_POLICY => Shown::Nothing,
        Seen::Policy => {
            let nice = narrow::low_byte(words[2]).cast_signed();
            Shown::Policy(pid(0), narrow::low_byte(words[1]), nice)
        }
        Seen::Cgroup => Shown::Cgroup(pid(0), words[1], words[2]),
        Seen::Weight => {
            let (cgroup, shares) = (words[2], words[0]);
            Shown::OfCgroup(What::Weight { cgroup, shares }, words[1], cgroup)
        }
        // The weights are those that sched_group_set_idle sets (kernel/sched/fair.c, Linux 5.15 to 7.3).
        // The function does nothing if the group has the value already, or if the value is neither 0 nor 1.
        Seen::IdleGroup if !is_change(words[0], words[3]) => Shown::Nothing,
        Seen::IdleGroup => {
            let weight = if narrow::low_half(words[0]) == 0 {
                WEIGHT_USUAL
            } else {
                IDLE_CGROUP_WEIGHT
            };
            let (cgroup, shares) = (words[2], weight << SHARES_SHIFT);
            Shown::OfCgroup(What::Weight { cgroup, shares }, words[1], cgroup)
        }
        Seen::Throttle => {
            let (cgroup, on) = (words[2], cpu(0));
            Shown::OfCgroup(What::Throttle { cgroup, on }, words[1], cgroup)
        }
        Seen::Unthrottle => {
            let (cgroup, on) = (words[2], cpu(0));
            Shown::OfCgroup(What::Unthrottle { cgroup, on }, words[1], cgroup)
        }
        Seen::ThrottleWork => Shown::Raw(Raw::ThrottleWork),
        Seen::Online | Seen::Offline => plain(What::Online {
            cpu: cpu(0),
            online: what == Seen::Online,
        }),
        Seen::Bypass => plain(What::Bypass {
            on: narrow::low_byte(words[0]) != 0,
        }),
        Seen::Enabling => plain(What::SchedExt {
            state: SchedExtState::Enabling,
        }),
        Seen::Disabling => plain(What::SchedExt {
            state: SchedExtState::Disabling,
        }),
        Seen::Insert => plain(What::Insert {
            task: pid(0),
            dsq: words[1],
            slice_ns: words[2],
        }),
        Seen::Kick => plain(What::Kick {
            cpu: cpu(0),
            flags: narrow::low_byte(words[1]),
        }),
    }
}

/// Returns whether writing `new` to a `cpu.idle` with the value `old` changes it. Both are `int` values.
fn is_change(new: u64, old: u64) -> bool {
    let (new, old) = (narrow::low_half(new), narrow::low_half(old));
    new <= 1 && new != old
}

/// Returns the meaning of a call of a class's enqueue or dequeue function. The kind of the call is [`ENQUEUE`] or
/// [`DEQUEUE`] plus the class's number.
fn of_class(kind: u32, task: Pid, on: Cpu, flags: u64) -> Shown {
    let flags = u64::from(narrow::low_half(flags));
    let class = |first: u32| {
        let classes = CLASSES.iter().map(|(class, _)| *class);
        let mut found = classes.filter(|class| first + *class as u32 == kind);
        found.next()
    };
    if let Some(class) = class(ENQUEUE) {
        Shown::Raw(Raw::Enqueue {
            task,
            on,
            class,
            flags,
        })
    } else if let Some(class) = class(DEQUEUE) {
        Shown::Raw(Raw::Dequeue {
            task,
            on,
            class,
            flags,
        })
    } else {
        Shown::Nothing
    }
}

/// Converts a CPU's number; one that does not fit becomes an unknown CPU.
pub(super) fn cpu(number: u32) -> Cpu {
    u16::try_from(number).map_or(Cpu::UNKNOWN, Cpu)
}

/// Converts the bytes of a `task_struct.comm`, of which at most 15 are characters.
fn text(low: u64, high: u64) -> String {
    let bytes: Vec<u8> = [low, high].map(u64::to_le_bytes).concat();
    let end = bytes.iter().take(15).position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(15)]).into_owned()
}

#[cfg(test)]
mod tests {
    use ktstr_schedule::Class;

    use super::*;

    fn seen(kind: u32, words: [u64; 6]) -> Observation {
        Observation {
            kind: Some(kind),
            clock_ns: 1,
            cpu: 0,
            current: 7,
            partial: false,
            words,
        }
    }

    #[test]
    fn a_name_ends_at_its_first_zero() {
        let word = |text: &[u8; 8]| u64::from_le_bytes(*text);
        assert_eq!(text(word(b"abc\0defg"), 0), "abc");
        assert_eq!(
            text(word(b"12345678"), word(b"90123456")),
            "123456789012345"
        );
    }

    #[test]
    fn the_kind_of_a_function_shows_its_class() {
        let kind = DEQUEUE + Class::Ext as u32;
        let shown = interpret(&seen(kind, [5, 3, 0xffff_0000_0000_0001, 0, 0, 0]));
        let raw = Raw::Dequeue {
            task: Pid(5),
            on: Cpu(3),
            class: Class::Ext,
            flags: 1,
        };
        assert_eq!(shown, Shown::Raw(raw));
        assert_eq!(interpret(&seen(31, [0; 6])), Shown::Nothing);
    }

    #[test]
    fn a_group_that_is_not_idle_keeps_its_weight_when_it_is_told_so() {
        let shown = |new, old| interpret(&seen(Seen::IdleGroup as u32, [new, 0, 5, old, 0, 0]));
        assert_eq!(shown(0, 0), Shown::Nothing);
        assert_eq!(shown(1, 1), Shown::Nothing);
        assert!(matches!(shown(1, 0), Shown::OfCgroup(..)));
        assert!(matches!(shown(0, 1), Shown::OfCgroup(..)));
    }

    #[test]
    fn the_bits_of_an_interrupt_depend_on_the_kernel() {
        let interrupt = |kind: Seen, count| {
            let shown = interpret(&seen(kind as u32, [5, count, 0, 0, 0, 0]));
            matches!(
                shown,
                Shown::Raw(Raw::Plain(What::Wake {
                    interrupt: true,
                    ..
                }))
            )
        };
        assert!(interrupt(Seen::Wake, 0x1_0001));
        assert!(!interrupt(Seen::WakeShifted, 0x1_0001));
        assert!(interrupt(Seen::WakeShifted, 0x100_0001));
        assert!(interrupt(Seen::WakeShifted, 0x101));
    }

    #[test]
    fn a_word_that_could_not_be_read_makes_no_event() {
        let partial = Observation {
            partial: true,
            ..seen(Seen::Wake as u32, [0; 6])
        };
        assert_eq!(interpret(&partial), Shown::Nothing);
    }
}
