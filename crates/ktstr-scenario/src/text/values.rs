//! The text form of cpusets, affinities, policies and other small types. Each type lists its variants here.

use super::node::{Node, TextError, Unsayable, Value};
use super::{Fields, Names, Text};
use crate::ops::{
    CpusetPartition, CpusetSpec, IrqSelector, KernelTarget, KernelValue, KernelValueWidth,
    SpawnPlacement,
};
use crate::payload::Payload;
use crate::scheduler::Scheduler;
use crate::workload::{
    AffinityIntent, AluWidth, FutexLockMode, MemPolicy, MpolFlags, ReapMode, RtAction, SchedClass,
    SchedPolicy, WakeMechanism, WorkPhase,
};

text_enum! { AffinityIntent, "an affinity" {
    Inherit,
    RandomSubset { from, count },
    LlcAligned,
    CrossCgroup,
    SingleCpu,
    Exact(cpus),
    SmtSiblingPair,
} }

text_enum! { SchedPolicy, "a scheduling policy" {
    Normal,
    Batch,
    Idle,
    Fifo(priority),
    RoundRobin(priority),
    Deadline { runtime, deadline, period },
    Ext,
} }

text_enum! { MemPolicy, "a memory policy" {
    Default,
    Bind(nodes),
    Preferred(node),
    Interleave(nodes),
    Local,
    PreferredMany(nodes),
    WeightedInterleave(nodes),
} }

text_enum! { SchedClass, "a scheduling class" { Cfs, Batch, Idle, Rt, Deadline, Ext } }
text_enum! { WakeMechanism, "a way to wake" { Pipe, Futex } }
text_enum! { FutexLockMode, "a kind of lock" { Pi, Plain } }
text_enum! { ReapMode, "a way to collect children" { SigIgn, Waitpid } }
text_enum! { AluWidth, "a width of registers" { Scalar, Vec128, Vec256, Vec512, Amx, Widest } }

text_enum! { WorkPhase, "a phase of work" {
    Spin(duration),
    Sleep(duration),
    Yield(duration),
    Io(duration),
    AluHot { width, duration },
} }

text_enum! { RtAction, "an action" {
    Run(time),
    Runtime(time),
    Sleep(time),
    Timer { name, period, absolute, shared },
    Lock(name),
    Unlock(name),
    Wait { condition, mutex },
    Signal(name),
    Broadcast(name),
    Suspend(name),
    Resume(name),
    Barrier { name, threads },
    SemPost(name),
    SemWait(name),
    Yield,
    Cpus(cpus),
    Policy(policy),
    Priority(priority),
    Slice(time),
} }

text_enum! { CpusetPartition, "a kind of partition" { Member, Root, Isolated } }
text_enum! { SpawnPlacement, "a place for workers" { RunnerCgroup, Cgroup(name) } }
text_enum! { IrqSelector, "an interrupt" { ByNumber(number), ByLabel(label) } }

text_enum! { KernelTarget, "a place in the kernel's memory" {
    Symbol(name),
    Direct(address),
    Kva(address),
    PerCpuField { symbol, field, cpu },
    TaskField { pid, expected_start_time_ns, field },
} }

text_enum! { KernelValue, "a value for the kernel's memory" { U32(value), U64(value), Bytes(bytes), OrU32(bits) } }
text_enum! { KernelValueWidth, "a width of memory" { U32, U64, Bytes(count) } }

impl Text for (KernelTarget, KernelValue) {
    fn expected() -> String {
        "{ target = …, value = … }".to_owned()
    }

    fn put(&self) -> Result<Node, Unsayable> {
        let (target, value) = (self.0.put()?, self.1.put()?);
        Ok(Node::table(vec![
            ("target".to_owned(), target),
            ("value".to_owned(), value),
        ]))
    }

    fn take(node: &Node, names: &Names) -> Result<Self, TextError> {
        let fields = Fields::of(node, &["target", "value"], names)?;
        Ok((fields.required("target")?, fields.required("value")?))
    }
}

/// The variants of [`CpusetSpec`] except `Exact`. The text form of `Exact` is the list of CPUs alone, not `{ word = value }`.
enum CpusetRule {
    Llc(usize),
    Numa(usize),
    Range { start_frac: f64, end_frac: f64 },
    Disjoint { index: usize, of: usize },
    Overlap { index: usize, of: usize, frac: f64 },
}

text_enum! { CpusetRule, "a cpuset" {
    Llc(index),
    Numa(node),
    Range { start_frac, end_frac },
    Disjoint { index, of },
    Overlap { index, of, frac },
} }

impl Text for CpusetSpec {
    fn expected() -> String {
        format!(
            "a list of CPUs such as \"0-3,8\", or {}",
            CpusetRule::expected()
        )
    }

    fn put(&self) -> Result<Node, Unsayable> {
        match self.clone() {
            Self::Exact(cpus) => return cpus.put(),
            Self::Llc(index) => CpusetRule::Llc(index),
            Self::Numa(node) => CpusetRule::Numa(node),
            Self::Range {
                start_frac,
                end_frac,
            } => CpusetRule::Range {
                start_frac,
                end_frac,
            },
            Self::Disjoint { index, of } => CpusetRule::Disjoint { index, of },
            Self::Overlap { index, of, frac } => CpusetRule::Overlap { index, of, frac },
        }
        .put()
    }

    fn take(node: &Node, names: &Names) -> Result<Self, TextError> {
        if let Value::Text(_) = &node.value {
            return Text::take(node, names).map(Self::Exact);
        }
        if !matches!(node.value, Value::Table(_)) {
            return Err(node.expected(&Self::expected()));
        }
        Ok(match CpusetRule::take(node, names)? {
            CpusetRule::Llc(index) => Self::Llc(index),
            CpusetRule::Numa(node) => Self::Numa(node),
            CpusetRule::Range {
                start_frac,
                end_frac,
            } => Self::Range {
                start_frac,
                end_frac,
            },
            CpusetRule::Disjoint { index, of } => Self::Disjoint { index, of },
            CpusetRule::Overlap { index, of, frac } => Self::Overlap { index, of, frac },
        })
    }
}

/// One flag of a memory policy. In a text, [`MpolFlags`] is a list of these words.
#[derive(Clone, Copy)]
enum MpolFlag {
    NumaBalancing,
    RelativeNodes,
    StaticNodes,
}

text_enum! { MpolFlag, "a flag of a memory policy" { NumaBalancing, RelativeNodes, StaticNodes } }

impl MpolFlag {
    const ALL: [Self; 3] = [Self::NumaBalancing, Self::RelativeNodes, Self::StaticNodes];

    const fn flag(self) -> MpolFlags {
        match self {
            Self::NumaBalancing => MpolFlags::NUMA_BALANCING,
            Self::RelativeNodes => MpolFlags::RELATIVE_NODES,
            Self::StaticNodes => MpolFlags::STATIC_NODES,
        }
    }
}

impl Text for MpolFlags {
    fn expected() -> String {
        format!("a list of values, each {}", MpolFlag::expected())
    }

    fn put(&self) -> Result<Node, Unsayable> {
        let set: Vec<MpolFlag> = (MpolFlag::ALL.into_iter())
            .filter(|one| self.contains(one.flag()))
            .collect();
        let known = set.iter().fold(Self::NONE, |all, one| all | one.flag());
        match known == *self {
            true => set.put(),
            false => Err(Unsayable {
                what: format!("the memory policy flags {:#x}", self.bits()),
                instead: "give flags that the kernel knows",
            }),
        }
    }

    fn take(node: &Node, names: &Names) -> Result<Self, TextError> {
        let set = Vec::<MpolFlag>::take(node, names)?;
        Ok(set.iter().fold(Self::NONE, |all, one| all | one.flag()))
    }
}

impl Text for &'static Payload {
    fn expected() -> String {
        "the name of a program".to_owned()
    }

    fn put(&self) -> Result<Node, Unsayable> {
        Ok(Node::text(self.name))
    }

    fn take(node: &Node, names: &Names) -> Result<Self, TextError> {
        names.find_payload(node)
    }
}

impl Text for &'static Scheduler {
    fn expected() -> String {
        "the name of a scheduler".to_owned()
    }

    fn put(&self) -> Result<Node, Unsayable> {
        Ok(Node::text(self.name))
    }

    fn take(node: &Node, names: &Names) -> Result<Self, TextError> {
        names.find_scheduler(node)
    }
}
