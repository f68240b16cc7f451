//! Random operations, drawn from the rows of `op_table!`: the values of an operation's fields depend only on their types.

use std::borrow::Cow;
use std::time::Duration;

use ktstr_scenario::ops::{
    CgroupDef, CpusetPartition, CpusetSpec, IrqSelector, KernelTarget, KernelValue,
    KernelValueWidth, Op, SpawnPlacement,
};
use ktstr_scenario::workload::{AffinityIntent, SchedPolicy, WorkSpec};

use super::values::Draw;

/// Expands to the value of a field. An optional field is left out in three of four draws, and a list may be empty.
macro_rules! field {
    ([$of:ty] $draw:ident, $runs:ident) => {
        match $draw.up_to(3) {
            0 => Some(<$of>::drawn($draw, $runs)?),
            _ => None,
        }
    };
    ({$of:ty} $draw:ident, $runs:ident) => {
        (0..$draw.up_to(2))
            .map(|_| <$of>::drawn($draw, $runs))
            .collect::<Option<Vec<_>>>()?
    };
    ($kind:tt $draw:ident, $runs:ident) => {
        Drawn::drawn($draw, $runs)?
    };
}

/// Expands to the function that draws the operation in a row of the table.
macro_rules! rows {
    ($(
        $(#[$doc:meta])+
        $number:literal $constructor:ident $name:ident => $file:ident::$function:ident $(, $clause:ident $of:ident)*
        $({
            $( $(#[$field_doc:meta])+ $field:ident: $kind:tt $(=> $rule:ident)? ),* $(,)?
        })?;
    )*) => {
        /// The numbers of the operations.
        const NUMBERS: &[u8] = &[$($number),*];

        /// Draws an operation of this number. The result is `None` if one of its fields cannot be drawn.
        fn numbered(number: u8, draw: &mut Draw, runs: bool) -> Option<Op> {
            Some(match number {
                $( $number => Op::$name $({ $( $field: field!($kind draw, runs) ),* })?, )*
                _ => unreachable!("the number is one of NUMBERS"),
            })
        }
    };
}

ktstr_scenario::op_table!(rows);

/// The numbers of the operations that are drawn twice as often as the others, because many others need their cgroups and workers:
/// `AddCgroupDef` and `MoveAllTasks`.
const OFTEN: &[u8] = &[1, 9];

/// Draws an operation; if the scenario is run, one that is possible on every machine.
pub fn op(draw: &mut Draw, runs: bool) -> Op {
    let numbers = [NUMBERS, OFTEN].concat();
    loop {
        match numbered(draw.pick(&numbers), draw, runs) {
            Some(op) if !runs || runs_everywhere(&op) => return op,
            _ => {}
        }
    }
}

/// Returns whether a random scenario that is run can contain the operation. The others need a program, a scheduler or an
/// interrupt of the machine, overwrite the kernel's memory, or take memory or whole CPUs from the other cgroups.
fn runs_everywhere(op: &Op) -> bool {
    !matches!(
        op,
        Op::WaitPayload { .. }
            | Op::KillPayload { .. }
            | Op::WatchSnapshot { .. }
            | Op::WriteKernelHot { .. }
            | Op::WriteKernelCold { .. }
            | Op::DetachScheduler
            | Op::RestartScheduler
            | Op::PinBpfMap { .. }
            | Op::SteerIrq { .. }
            | Op::SetMemoryMax { .. }
            | Op::SetMemoryHigh { .. }
            | Op::SetMemoryLow { .. }
            | Op::SetCpusetPartition { .. }
    )
}

/// The types of the fields of operations. With `runs`, the value is one that a guest can work with. If the values of a type do
/// not fit a new operation, [`runs_everywhere`] has to exclude the operation, or the field needs a type of its own.
trait Drawn: Sized {
    fn drawn(draw: &mut Draw, runs: bool) -> Option<Self>;
}

/// Implements [`Drawn`] for types whose values can always be drawn.
macro_rules! drawn {
    ($($of:ty: |$draw:ident, $runs:pat_param| $value:expr;)*) => {
        $(impl Drawn for $of {
            fn drawn($draw: &mut Draw, $runs: bool) -> Option<Self> {
                Some($value)
            }
        })*
    };
}

drawn! {
    Cow<'static, str>: |draw, runs| draw.name(runs).into();
    String: |draw, runs| draw.name(runs);
    bool: |draw, _| draw.up_to(1) == 0;
    // A CPU that exists and is not the first one, which cannot be taken offline.
    usize: |draw, _| 1 + draw.up_to(2) as usize;
    // The weight of a cgroup.
    u32: |draw, _| 1 + draw.up_to(9_999) as u32;
    // The number of a cgroup's tasks, or a number of bytes.
    u64: |draw, runs| if runs { 200 + draw.up_to(99) } else { draw.next() };
    // A percentage.
    f64: |draw, _| draw.fraction() * 100.0;
    Duration: |draw, _| draw.ms(90);
    CgroupDef: |draw, runs| draw.cgroup(runs);
    WorkSpec: |draw, runs| draw.work(runs);
    CpusetSpec: |draw, _| draw.cpuset();
    AffinityIntent: |draw, _| draw.affinity();
    SchedPolicy: |draw, runs| draw.policy(runs);
    SpawnPlacement: |draw, runs| match !runs && draw.up_to(1) == 0 {
        true => SpawnPlacement::runner_cgroup(),
        false => SpawnPlacement::cgroup(draw.name(runs)),
    };
    CpusetPartition: |draw, _| draw.pick(&[
        CpusetPartition::Member,
        CpusetPartition::Root,
        CpusetPartition::Isolated,
    ]);
    IrqSelector: |draw, _| draw.pick(&[
        IrqSelector::by_label("timer"),
        IrqSelector::by_number(4),
    ]);
    KernelTarget: |draw, runs| match runs {
        true => KernelTarget::symbol("jiffies_64"),
        false => draw.pick(&[
            KernelTarget::symbol("jiffies_64"),
            KernelTarget::kva(u64::MAX - 7),
            KernelTarget::direct(0xffff_8880_0000_0000),
            KernelTarget::per_cpu_field("runqueues", "clock", 1),
            KernelTarget::task_field(1, 0, "prio"),
        ]),
    };
    KernelValue: |draw, _| draw.pick(&[
        KernelValue::bytes(vec![0, 255]),
        KernelValue::u32(7),
        KernelValue::or_u32(1),
    ]);
    KernelValueWidth: |draw, runs| match runs {
        true => KernelValueWidth::U64,
        false => draw.pick(&[KernelValueWidth::U64, KernelValueWidth::bytes(3)]),
    };
}

impl Drawn for (KernelTarget, KernelValue) {
    fn drawn(draw: &mut Draw, runs: bool) -> Option<Self> {
        Some((Drawn::drawn(draw, runs)?, Drawn::drawn(draw, runs)?))
    }
}

/// A program or a scheduler that a test declares. A random scenario has no declarations.
impl<T> Drawn for &'static T {
    fn drawn(_: &mut Draw, _: bool) -> Option<Self> {
        None
    }
}
