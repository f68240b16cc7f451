//! The kernel functions at whose entries the events of a schedule are observed, and which of their arguments describe each
//! event. Functions are located by symbol, and parameters and members by BTF, separately for each kernel.

use ktstr_introspect::btf::Btf;
use ktstr_introspect::symbols::Symbols;
use ktstr_machine::{ClockOf, HookKind, HookPoint, Reading, Word};
use ktstr_schedule::Class;

/// The number in `HookKind::Observe` for the enqueue function of a class is this number plus the number of the class.
pub(super) const ENQUEUE: u32 = 32;
/// The number in `HookKind::Observe` for the dequeue function of a class is this number plus the number of the class.
pub(super) const DEQUEUE: u32 = 48;
/// The classes that enqueue tasks, and the suffixes of their functions' names.
pub(super) const CLASSES: [(Class, &str); 5] = [
    (Class::Stop, "stop"),
    (Class::Deadline, "dl"),
    (Class::RealTime, "rt"),
    (Class::Fair, "fair"),
    (Class::Ext, "scx"),
];

macro_rules! seen {
    ($( $name:ident = $number:literal, )*) => {
        /// What the call of a hooked function shows, except for the enqueue and dequeue functions of the classes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub(super) enum Seen { $( $name = $number ),* }

        impl Seen {
            pub(super) fn from_kind(kind: u32) -> Option<Self> {
                match kind { $( $number => Some(Self::$name), )* _ => None }
            }
        }
    };
}

// Templates store these numbers, so a new row needs a number that no row has had before. Numbers from 32 to 63 stand for the
// enqueue and dequeue functions.
seen! {
    Wake = 64,
    Fork = 65,
    Comm = 66,
    Dead = 67,
    Migrate = 68,
    Affinity = 69,
    Nice = 70,
    Policy = 71,
    Cgroup = 72,
    Weight = 73,
    Throttle = 74,
    Unthrottle = 75,
    ThrottleWork = 76,
    Online = 77,
    Offline = 78,
    Bypass = 79,
    Enabling = 80,
    Disabling = 81,
    Insert = 82,
    Kick = 83,
    IdleGroup = 84,
    WakeShifted = 85,
}

/// The hooks for a kernel, and the functions that cannot be hooked: the kernel lacks them, or BTF lacks their arguments.
#[derive(Debug, Default)]
pub(super) struct Points {
    pub(super) hooks: Vec<HookPoint>,
    pub(super) missing: Vec<String>,
}

/// Locates all functions in a kernel.
pub(super) fn find(symbols: &Symbols, btf: &Btf) -> Points {
    let mut finder = Finder {
        symbols,
        btf,
        points: Points::default(),
    };
    finder.switching();
    finder.lives();
    finder.changes();
    finder.cgroups();
    finder.sched_ext();
    finder.points
}

struct Finder<'a> {
    symbols: &'a Symbols,
    btf: &'a Btf,
    points: Points,
}

/// A path of members, each as the name of a struct and the path of a member in it. Each member points to the struct of the next.
type Members<'m> = &'m [(&'m str, &'m str)];

const NODE_OF_GROUP: [(&str, &str); 2] = [("task_group", "css.cgroup"), ("cgroup", "kn")];

impl Finder<'_> {
    fn switching(&mut self) {
        for (class, suffix) in CLASSES {
            for (verb, first) in [("enqueue", ENQUEUE), ("dequeue", DEQUEUE)] {
                let name = format!("{verb}_task_{suffix}");
                let words = || {
                    let rq = [("rq", "cpu")];
                    Some(vec![
                        self.once(1, &[("task_struct", "pid")])?,
                        self.once(0, &rq)?,
                        Word::Argument(2),
                    ])
                };
                let (kind, words) = (HookKind::Observe(first + class as u32), words());
                self.hook(&[&name], kind, ClockOf::Argument(0), words);
            }
        }
        for (_, suffix) in CLASSES {
            // The stop task never yields.
            if suffix != "stop" {
                let name = format!("yield_task_{suffix}");
                self.hook(&[&name], HookKind::Yield, ClockOf::ThisCpu, Some(vec![]));
            }
        }
        let schedule = HookKind::Schedule;
        self.hook(&["__schedule"], schedule, ClockOf::ThisCpu, Some(vec![]));
        // Up to 6.14 the preemption count is a member of `struct pcpu_hot`; later it is the variable `__preempt_count`.
        let hot = || {
            let member = self.btf.member("pcpu_hot", "preempt_count").ok()?;
            Some(
                self.symbols
                    .address("pcpu_hot")?
                    .wrapping_add(member.offset()),
            )
        };
        let preempt_count = self.symbols.address("__preempt_count").or_else(hot);
        let name = "try_to_wake_up";
        let words = self.task(name, "p", Reading::Once).map(|task| {
            let count = preempt_count.map(|symbol| Word::ThisCpu(symbol, 4));
            std::iter::once(task).chain(count).collect()
        });
        // Linux 7.3 also counts disabled interrupts in `preempt_count()`, so the bits for hard interrupts are higher there.
        let seen = match self.symbols.address("local_interrupt_disable_state") {
            Some(_) => Seen::WakeShifted,
            None => Seen::Wake,
        };
        self.seen(&[name], seen, words);
        let name = "set_task_cpu";
        let to = self.btf.parameter(name, "new_cpu");
        let words = self.task(name, "p", Reading::Once).zip(to);
        let words = words.map(|(task, to)| vec![task, Word::Argument(to)]);
        self.seen(&[name], Seen::Migrate, words);
    }

    fn lives(&mut self) {
        let name = "wake_up_new_task";
        let words = || {
            let comm = self.offset(("task_struct", "comm"))?;
            Some(vec![
                self.task(name, "p", Reading::Anew)?,
                memory(0, vec![comm], 8),
                memory(0, vec![comm + 8], 8),
            ])
        };
        let words = words();
        self.seen(&[name], Seen::Fork, words);
        let name = "__set_task_comm";
        let words = || {
            let buf = self.btf.parameter(name, "buf")?;
            Some(vec![
                self.task(name, "tsk", Reading::Anew)?,
                memory(buf, vec![0], 8),
                memory(buf, vec![8], 8),
            ])
        };
        let words = words();
        self.seen(&[name], Seen::Comm, words);
        self.seen(&["do_task_dead"], Seen::Dead, Some(vec![]));
    }

    fn changes(&mut self) {
        let name = "set_cpus_allowed_common";
        let words = || {
            let context = self.btf.parameter(name, "ctx")?;
            let mask = self.offset(("affinity_context", "new_mask"))?;
            Some(vec![
                self.task(name, "p", Reading::Once)?,
                memory(context, vec![mask, 0], 8),
                memory(context, vec![mask, 8], 8),
            ])
        };
        let words = words();
        self.seen(&[name], Seen::Affinity, words);
        let name = "set_user_nice";
        let words = || {
            let nice = self.btf.parameter(name, "nice")?;
            let task = self.task(name, "p", Reading::Once)?;
            Some(vec![task, Word::Argument(nice)])
        };
        let words = words();
        self.seen(&[name], Seen::Nice, words);
        let name = "__sched_setscheduler";
        let words = || {
            let attr = self.btf.parameter(name, "attr")?;
            let member = |path| self.offset(("sched_attr", path));
            Some(vec![
                self.task(name, "p", Reading::Once)?,
                memory(attr, vec![member("sched_policy")?], 4),
                memory(attr, vec![member("sched_nice")?], 4),
            ])
        };
        let words = words();
        self.seen(&[name], Seen::Policy, words);
        for (name, seen) in [
            ("sched_cpu_activate", Seen::Online),
            ("sched_cpu_deactivate", Seen::Offline),
        ] {
            let words = self.btf.parameter(name, "cpu");
            self.seen(&[name], seen, words.map(|cpu| vec![Word::Argument(cpu)]));
        }
    }

    fn cgroups(&mut self) {
        let name = "cgroup_move_task";
        let words = || {
            let to = self.btf.parameter(name, "to")?;
            let node = [("css_set", "dfl_cgrp"), ("cgroup", "kn")];
            // A forked task gets its cgroup before it is woken for the first time. Its structure may have belonged to a task
            // that has died, so the pid is read anew.
            let task = self.task(name, "task", Reading::Anew)?;
            Some(std::iter::once(task).chain(self.node(to, &node)?).collect())
        };
        let words = words();
        self.seen(&[name], Seen::Cgroup, words);
        let name = "sched_group_set_shares";
        let words = || {
            let group = self.btf.parameter(name, "tg")?;
            let shares = self.btf.parameter(name, "shares")?;
            let mut words = vec![Word::Argument(shares)];
            words.extend(self.node(group, &NODE_OF_GROUP)?);
            Some(words)
        };
        let words = words();
        self.seen(&[name], Seen::Weight, words);
        let name = "sched_group_set_idle";
        let words = || {
            let group = self.btf.parameter(name, "tg")?;
            let idle = self.btf.parameter(name, "idle")?;
            let mut words = vec![Word::Argument(idle)];
            words.extend(self.node(group, &NODE_OF_GROUP)?);
            let was = self.offset(("task_group", "idle"))?;
            words.push(memory(group, vec![was], 4));
            Some(words)
        };
        let words = words();
        self.seen(&[name], Seen::IdleGroup, words);
        // From 7.2 on `throttle_cfs_rq` is also called to refill a group's runtime, so it does not show a throttle. The
        // two functions in this list are called for the group itself and for each of its descendants.
        for (name, seen) in [
            ("tg_throttle_down", Seen::Throttle),
            ("tg_unthrottle_up", Seen::Unthrottle),
        ] {
            let words = || {
                let group = self.btf.parameter(name, "tg")?;
                let queue = self.btf.parameter(name, "data")?;
                let mut words = vec![self.once(queue, &[("rq", "cpu")])?];
                words.extend(self.node(group, &NODE_OF_GROUP)?);
                Some(words)
            };
            let words = words();
            self.seen(&[name], seen, words);
        }
        let name = "throttle_cfs_rq_work";
        self.seen(&[name], Seen::ThrottleWork, Some(vec![]));
    }

    fn sched_ext(&mut self) {
        // The names with `ops` are those of 6.12 to 6.15.
        let names = ["scx_bypass", "scx_ops_bypass"];
        let bypass = |name: &&str| self.btf.parameter(name, "bypass");
        let words = names.iter().find_map(bypass);
        let words = words.map(|on| vec![Word::Argument(on)]);
        self.seen(&names, Seen::Bypass, words);
        // The first name of each of the next two lists exists from 7.1 on. Before 6.16 the compiler may inline
        // `scx_ops_enable` into the function that registers a scheduler.
        let names = [
            "scx_root_enable_workfn",
            "scx_enable",
            "scx_ops_enable",
            "bpf_scx_reg",
        ];
        self.seen(&names, Seen::Enabling, Some(vec![]));
        let names = [
            "scx_root_disable",
            "scx_disable_workfn",
            "scx_ops_disable_workfn",
        ];
        self.seen(&names, Seen::Disabling, Some(vec![]));
        // Each list has the names of one variant of the kfunc that inserts a task into a DSQ. If there are two names, 6.12 has
        // only the second, and in later kernels the function with the second name calls the one with the first.
        for names in [
            &["scx_bpf_dsq_insert", "scx_bpf_dispatch"][..],
            &["scx_bpf_dsq_insert___v2"],
            &["scx_bpf_dsq_insert_vtime", "scx_bpf_dispatch_vtime"],
        ] {
            let words = names.iter().find_map(|name| self.insert(name));
            self.seen(names, Seen::Insert, words);
        }
        let name = "__scx_bpf_dsq_insert_vtime";
        let words = || {
            let args = self.btf.parameter(name, "args")?;
            let member = |path| self.offset(("scx_bpf_dsq_insert_vtime_args", path));
            Some(vec![
                self.task(name, "p", Reading::Once)?,
                memory(args, vec![member("dsq_id")?], 8),
                memory(args, vec![member("slice")?], 8),
            ])
        };
        let words = words();
        self.seen(&[name], Seen::Insert, words);
        // Up to 7.1 the compiler may move the body of `scx_kick_cpu` into a separate function with the same parameters.
        let words = || {
            let name = "scx_kick_cpu";
            let cpu = self.btf.parameter(name, "cpu")?;
            let flags = self.btf.parameter(name, "flags")?;
            Some(vec![Word::Argument(cpu), Word::Argument(flags)])
        };
        let words = words();
        self.seen(&["scx_kick_cpu", "scx_kick_cpu.part.0"], Seen::Kick, words);
    }

    fn insert(&self, name: &str) -> Option<Vec<Word>> {
        let argument = |parameter| self.btf.parameter(name, parameter).map(Word::Argument);
        let task = self.task(name, "p", Reading::Once)?;
        Some(vec![task, argument("dsq_id")?, argument("slice")?])
    }

    /// Describes where the plugin reads the pid of the task in the function's `parameter`; `None` if BTF lacks
    /// the parameter or the member.
    fn task(&self, function: &str, parameter: &str, when: Reading) -> Option<Word> {
        Some(Word::Memory {
            argument: self.btf.parameter(function, parameter)?,
            path: vec![self.offset(("task_struct", "pid"))?],
            size: 4,
            when,
        })
    }

    /// Returns the word that reads four bytes that never change, along a path of members that starts at an argument; `None`
    /// if BTF lacks one of the members.
    fn once(&self, argument: u32, members: Members<'_>) -> Option<Word> {
        Some(Word::Memory {
            argument,
            path: self.path(members)?,
            size: 4,
            when: Reading::Once,
        })
    }

    /// Returns the words that read the address of a cgroup's kernfs node and the cgroup's id. The path `members` leads from
    /// the argument to the node. `None` if BTF lacks one of the members.
    fn node(&self, argument: u32, members: Members<'_>) -> Option<[Word; 2]> {
        let node = self.path(members)?;
        let mut id = node.clone();
        id.push(self.offset(("kernfs_node", "id"))?);
        Some([memory(argument, node, 8), memory(argument, id, 8)])
    }

    /// Returns the offsets of these members; `None` if BTF lacks one of them.
    fn path(&self, members: Members<'_>) -> Option<Vec<u32>> {
        members.iter().map(|member| self.offset(*member)).collect()
    }

    fn offset(&self, (kind, path): (&str, &str)) -> Option<u32> {
        let member = self.btf.member(kind, path).ok()?;
        u32::try_from(member.offset()).ok()
    }

    fn seen(&mut self, names: &[&str], seen: Seen, words: Option<Vec<Word>>) {
        let kind = HookKind::Observe(seen as u32);
        self.hook(names, kind, ClockOf::ThisCpu, words);
    }

    /// Hooks the first of the functions `names` that exists. If there is none, or `words` could not be located, the first name is
    /// added to the missing functions.
    fn hook(&mut self, names: &[&str], kind: HookKind, clock: ClockOf, words: Option<Vec<Word>>) {
        let address = names.iter().find_map(|name| self.symbols.address(name));
        match address.zip(words) {
            Some((address, words)) => self.points.hooks.push(HookPoint {
                address,
                kind,
                clock,
                words,
            }),
            None => {
                let name = names.first().copied().unwrap_or_default();
                self.points.missing.push(name.to_owned());
            }
        }
    }
}

fn memory(argument: u32, path: Vec<u32>, size: u32) -> Word {
    Word::Memory {
        argument,
        path,
        size,
        when: Reading::Always,
    }
}
