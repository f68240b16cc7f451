//! What a step can do besides making cgroups and holding: the table of operations.
//!
//! An operation is its lines in the table below, a line in the table of the guest's engine
//! (`engine/ops`), and what the engine does there. The enum, its constructors, numbers and names and
//! the trait that the engine implements follow from the table, so an operation that the engine does
//! not know does not compile.

use std::borrow::Cow;
use std::time::Duration;

use super::cgroup_def::CgroupDef;
use super::cpuset::CpusetSpec;
use super::kernel::{KernelTarget, KernelValue, KernelValueWidth};
use super::op_types::{CpusetPartition, IrqSelector, SpawnPlacement};
use crate::cgroup::Controller;
use crate::payload::Payload;
use crate::scheduler::Scheduler;
use crate::workload::{AffinityIntent, SchedPolicy, WorkSpec, WorkType};

/// The type of a field: `text`, `(Type)`, `[Type]` for one that may be left out, or `{Type}` for a list.
macro_rules! field {
    (text) => { Cow<'static, str> };
    (($of:ty)) => { $of };
    ([$of:ty]) => { Option<$of> };
    ({$of:ty}) => { Vec<$of> };
}

/// What the method of an operation is handed a reference to.
macro_rules! passed {
    (text) => { str };
    (($of:ty)) => { $of };
    ([$of:ty]) => { Option<$of> };
    ({$of:ty}) => { [$of] };
}

/// What a constructor takes for a field.
macro_rules! argument {
    (text) => { impl Into<Cow<'static, str>> };
    (($of:ty)) => { $of };
    ([$of:ty]) => { impl Into<Option<$of>> };
    ({$of:ty}) => { Vec<$of> };
}

/// A constructor's argument as the field holds it.
macro_rules! value {
    (($of:ty) $argument:ident) => {
        $argument
    };
    ({$of:ty} $argument:ident) => {
        $argument
    };
    ($kind:tt $argument:ident) => {
        $argument.into()
    };
}

/// The text of a field.
macro_rules! put {
    ([$of:ty] $field:ident) => {
        $field.as_ref().map(crate::text::Text::put).transpose()?
    };
    ($kind:tt $field:ident) => {
        Some(crate::text::Text::put($field)?)
    };
}

/// A field out of its text. A list may be left out, and so may what need not be there.
macro_rules! take {
    ([$of:ty] $given:expr, $op:ident, $field:expr, $names:ident) => {
        match $given {
            Some(given) => Some(crate::text::Text::take(given, $names)?),
            None => None,
        }
    };
    ({$of:ty} $given:expr, $op:ident, $field:expr, $names:ident) => {
        match $given {
            Some(given) => crate::text::Text::take(given, $names)?,
            None => Vec::new(),
        }
    };
    ($kind:tt $given:expr, $op:ident, $field:expr, $names:ident) => {
        crate::text::needed($given, $op, $field, $names)?
    };
}

macro_rules! ops {
    ($(
        $(#[$doc:meta])+
        $number:literal $constructor:ident $name:ident $(needs $controller:ident)? $({
            $( $(#[$field_doc:meta])+ $field:ident: $kind:tt ),* $(,)?
        })?;
    )*) => {
        /// One operation of a step or of a backdrop.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum Op {
            $( $(#[$doc])+ $name $({ $( $(#[$field_doc])+ $field: field!($kind) ),* })?, )*
        }

        impl Op {
            $(
                $(#[$doc])+
                pub fn $constructor($($($field: argument!($kind)),*)?) -> Self {
                    Self::$name $({ $( $field: value!($kind $field) ),* })?
                }
            )*

            /// The operation's number in records, fixed for ever.
            pub const fn wire_index(&self) -> u8 {
                match self { $( Self::$name { .. } => $number, )* }
            }

            /// The name of the variant.
            pub const fn name(&self) -> &'static str {
                match self { $( Self::$name { .. } => stringify!($name), )* }
            }

            /// The controller whose files it writes, where it is always the same one.
            pub fn controller(&self) -> Option<Controller> {
                match self {
                    $( Self::$name { .. } => [$( Controller::$controller )?].into_iter().next(), )*
                }
            }

            /// Calls the method of `runner` that is this operation's.
            pub fn run<R: OpRunner>(&self, runner: &mut R) -> R::Output {
                match self { $( Self::$name $({ $( $field ),* })? => runner.$constructor($($( $field ),*)?), )* }
            }
        }

        impl crate::text::Text for Op {
            fn expected() -> String {
                "an operation such as { freeze_cgroup = \"a\" }".to_owned()
            }

            fn put(&self) -> Result<crate::text::Node, crate::text::Unsayable> {
                Ok(match self { $( Self::$name $({ $( $field ),* })? => {
                    crate::text::put_operation(
                        stringify!($name),
                        vec![$($( (stringify!($field), put!($kind $field)) ),*)?],
                    )
                } )* })
            }

            #[allow(unused_mut, unused_variables)]
            fn take(
                node: &crate::text::Node,
                names: &crate::text::Names,
            ) -> Result<Self, crate::text::TextError> {
                let (name, given) = crate::text::operation(node, FIELDS, names)?;
                let mut given = given.into_iter();
                match name {
                    $( stringify!($name) => Ok(Self::$name $({ $(
                        $field: take!($kind given.next().flatten(), node, stringify!($field), names)
                    ),* })?), )*
                    _ => Err(node.expected(&Self::expected())),
                }
            }
        }

        /// The fields of each operation, for its text.
        const FIELDS: &[(&str, &[&str])] =
            &[$( (stringify!($name), &[$($( stringify!($field) ),*)?]) ),*];

        /// Who carries out operations: one method each.
        pub trait OpRunner {
            /// What carrying out an operation gives.
            type Output;
            $(
                $(#[$doc])+
                fn $constructor(&mut self, $($( $field: &passed!($kind) ),*)?) -> Self::Output;
            )*
        }

        #[cfg(test)]
        const NUMBERS: &[(u8, &str)] = &[$( ($number, stringify!($name)) ),*];
    };
}

ops! {
    /// Makes a cgroup without workers.
    0 add_cgroup AddCgroup {
        /// The name of the new cgroup.
        name: text,
    };
    /// Makes a cgroup with its workers, as the setup of a step does.
    1 add_cgroup_def AddCgroupDef {
        /// The cgroup's declaration, workers included.
        def: (CgroupDef),
    };
    /// Stops a cgroup's workers and removes it; a missing one is a warning.
    2 remove_cgroup RemoveCgroup {
        /// The name of the cgroup to remove.
        cgroup: text,
    };
    /// Sets a cgroup's CPUs.
    3 set_cpuset SetCpuset needs Cpuset {
        /// The name of the cgroup.
        cgroup: text,
        /// Its CPUs from now on.
        cpus: (CpusetSpec),
    };
    /// Gives a cgroup all CPUs.
    4 clear_cpuset ClearCpuset {
        /// The name of the cgroup.
        cgroup: text,
    };
    /// Exchanges the CPUs of two cgroups.
    5 swap_cpusets SwapCpusets needs Cpuset {
        /// The name of one cgroup.
        a: text,
        /// The name of the other cgroup.
        b: text,
    };
    /// Starts more workers.
    6 spawn Spawn {
        /// The cgroup that the workers start in.
        placement: (SpawnPlacement),
        /// The workers to start.
        work: (WorkSpec),
    };
    /// Stops a cgroup's workers and keeps it.
    7 stop_cgroup StopCgroup {
        /// The name of the cgroup.
        cgroup: text,
    };
    /// Sets the affinity of all live workers of a cgroup.
    8 set_affinity SetAffinity {
        /// The name of the cgroup.
        cgroup: text,
        /// Where they may run from now on.
        affinity: (AffinityIntent),
    };
    /// Moves all tasks of a cgroup to another; an empty name is the harness's own.
    9 move_all_tasks MoveAllTasks {
        /// The name of the cgroup that is emptied.
        from: text,
        /// The name of the cgroup that the tasks come to.
        to: text,
    };
    /// Starts a program of the host, one that the test has as its `payload` or among its `workloads`, and goes on. It ends
    /// with the step, at the latest; one of the backdrop with the scenario.
    10 run_payload_in RunPayload {
        /// The declaration of the program.
        payload: (&'static Payload),
        /// Its arguments, after its own.
        args: {String},
        /// The name of the cgroup that it runs in; `None` is the harness's own.
        cgroup: [Cow<'static, str>],
    };
    /// Waits for the end of a program, and judges it.
    11 wait_payload_in WaitPayload {
        /// The name of its declaration.
        name: text,
        /// The name of its cgroup; `None` is any, if there is but one of this name.
        cgroup: [Cow<'static, str>],
    };
    /// Kills a program with all that it has started. One that has ended before is judged.
    12 kill_payload_in KillPayload {
        /// The name of its declaration.
        name: text,
        /// The name of its cgroup; `None` is any, if there is but one of this name.
        cgroup: [Cow<'static, str>],
    };
    /// Freezes a cgroup.
    13 freeze_cgroup FreezeCgroup {
        /// The name of the cgroup.
        cgroup: text,
    };
    /// Thaws a cgroup.
    14 unfreeze_cgroup UnfreezeCgroup {
        /// The name of the cgroup.
        cgroup: text,
    };
    /// Has the host capture the guest's state now, and waits for it. Not in a step that loops.
    15 capture_snapshot CaptureSnapshot {
        /// The tag it is stored under, 1 to 64 bytes, not beginning with `periodic_`, and none of the captures that are taken
        /// when something happens (`scx_exit`, `panic` and so on).
        name: text,
    };
    /// Has the host watch a variable of the kernel, its first four bytes, and capture the guest's state under the
    /// variable's name when they have changed; a later capture takes the place of the one before. Not in a step that loops,
    /// and three of a test at most.
    ///
    /// It is a look at short distances and no trap: under the virtual clock the host looks at the next switch, wake-up,
    /// enqueue, dequeue or timer interrupt on any CPU, under the real one every half millisecond or so of the host's time.
    /// A write of the value that was there, and a change that is taken back before the next look, are not seen. A capture
    /// counts to the step whose hold has begun last. How often the variable has changed is
    /// `VmResult::snapshot_bridge.watch_hits`; after 1024 captures the watches of a test end.
    16 watch_snapshot WatchSnapshot {
        /// The variable's exact name in `/proc/kallsyms`; its address must be a multiple of four.
        symbol: text,
    };
    /// Has the host write into the kernel's memory while the guest runs, where the clock is the real one; under the virtual
    /// clock the guest stands still, as for [`Op::WriteKernelCold`]. All places are found before the first is written.
    17 write_kernel_hot_batch WriteKernelHot {
        /// What is written where, in this order; 4096 bytes in all at most.
        writes: {(KernelTarget, KernelValue)},
    };
    /// Has the host write into the kernel's memory while no CPU of the guest runs: the guest sees all of the writes or none.
    18 write_kernel_cold_batch WriteKernelCold {
        /// What is written where, in this order; 4096 bytes in all at most.
        writes: {(KernelTarget, KernelValue)},
    };
    /// Has the host read the kernel's memory while the guest runs, where the clock is the real one; under the virtual clock the
    /// guest stands still, as for [`Op::ReadKernelCold`]. The test's callbacks find the value by its tag. Not in a step that
    /// loops.
    19 read_kernel_hot ReadKernelHot {
        /// The tag that the value is kept under, 1 to 64 bytes.
        tag: text,
        /// The place in the kernel's memory that is read.
        target: (KernelTarget),
        /// How many bytes are read there, and as what.
        width: (KernelValueWidth),
    };
    /// Has the host read the kernel's memory while no CPU of the guest runs, for the test's callbacks. Not in a step that
    /// loops.
    20 read_kernel_cold ReadKernelCold {
        /// The tag that the value is kept under, 1 to 64 bytes.
        tag: text,
        /// The place in the kernel's memory that is read.
        target: (KernelTarget),
        /// How many bytes are read there, and as what.
        width: (KernelValueWidth),
    };
    /// Starts a scheduler while none is attached: one of the test's `staged_schedulers`; where it has some, its own as well.
    21 attach_scheduler AttachScheduler {
        /// The scheduler, known by its name.
        scheduler: (&'static Scheduler),
    };
    /// Stops the scheduler that is attached. The kernel's own schedules from then on, and nobody is to blame for it.
    22 detach_scheduler DetachScheduler;
    /// Stops the scheduler that is attached and starts the test's own.
    23 restart_scheduler RestartScheduler;
    /// Stops the scheduler that is attached and starts another.
    24 replace_scheduler ReplaceScheduler {
        /// The scheduler, known by its name.
        scheduler: (&'static Scheduler),
    };
    /// Keeps a BPF map alive to the end of the scenario, also when the scheduler that made it ends: the test's process holds a
    /// file descriptor of it.
    25 pin_bpf_map PinBpfMap {
        /// The map's name as the kernel has it, at most 15 bytes, such as `bpf_bpf.bss`; of several the latest.
        name: text,
    };
    /// Has the host keep the process ids of a cgroup, for the test's callbacks.
    26 capture_cgroup_procs CaptureCgroupProcs {
        /// The tag they are kept under, 1 to 64 bytes.
        tag: text,
        /// The name of the cgroup.
        cgroup: text,
    };
    /// Has a CPU serve an interrupt, through its `smp_affinity_list`.
    27 steer_irq SteerIrq {
        /// The interrupt, by its number or by its label in `/proc/interrupts`.
        irq: (IrqSelector),
        /// The number of the CPU.
        cpu: (usize),
    };
    /// Limits a cgroup's CPU time (`cpu.max`).
    28 set_cpu_max SetCpuMax needs Cpu {
        /// The name of the cgroup.
        cgroup: text,
        /// CPU time in every period, at least 1 ms; `None` is no limit.
        quota: [Duration],
        /// The period, 1 ms to 1 s.
        period: (Duration),
    };
    /// Sets a cgroup's weight (`cpu.weight`).
    29 set_cpu_weight SetCpuWeight needs Cpu {
        /// The name of the cgroup.
        cgroup: text,
        /// 1 to 10000; a cgroup has 100 from the start.
        weight: (u32),
    };
    /// Makes a cgroup's tasks run only when no others want to, or lifts that (`cpu.idle`).
    30 set_cpu_idle SetCpuIdle needs Cpu {
        /// The name of the cgroup.
        cgroup: text,
        /// Whether it is idle from now on.
        idle: (bool),
    };
    /// Sets the least utilisation that a cgroup's tasks are counted with (`cpu.uclamp.min`).
    31 set_uclamp_min SetUclampMin needs Cpu {
        /// The name of the cgroup.
        cgroup: text,
        /// 0 to 100, of the capacity of a CPU.
        percent: (f64),
    };
    /// Sets the highest utilisation that a cgroup's tasks are counted with (`cpu.uclamp.max`).
    32 set_uclamp_max SetUclampMax needs Cpu {
        /// The name of the cgroup.
        cgroup: text,
        /// 0 to 100, of the capacity of a CPU; `None` is no limit.
        percent: [f64],
    };
    /// Limits a cgroup's memory (`memory.max`).
    33 set_memory_max SetMemoryMax needs Memory {
        /// The name of the cgroup.
        cgroup: text,
        /// Bytes; `None` is no limit.
        bytes: [u64],
    };
    /// Sets the memory above which a cgroup is reclaimed from (`memory.high`).
    34 set_memory_high SetMemoryHigh needs Memory {
        /// The name of the cgroup.
        cgroup: text,
        /// Bytes; `None` is no limit.
        bytes: [u64],
    };
    /// Sets the memory that a cgroup is not reclaimed from (`memory.low`).
    35 set_memory_low SetMemoryLow needs Memory {
        /// The name of the cgroup.
        cgroup: text,
        /// Bytes; `None` is no protection.
        bytes: [u64],
    };
    /// Limits the number of a cgroup's tasks (`pids.max`).
    36 set_pids_max SetPidsMax needs Pids {
        /// The name of the cgroup.
        cgroup: text,
        /// Processes and threads; `None` is no limit.
        max: [u64],
    };
    /// Makes a cgroup's CPUs a scheduling domain of their own, or gives them back
    /// (`cpuset.cpus.partition`). The cgroup needs CPUs that no sibling has.
    37 set_cpuset_partition SetCpusetPartition needs Cpuset {
        /// The name of the cgroup.
        cgroup: text,
        /// What it is from now on.
        partition: (CpusetPartition),
    };
    /// Kills all processes of a cgroup and of those below it (`cgroup.kill`), and keeps it. What the
    /// workers had measured is not judged: a killed worker has not written its last numbers.
    38 kill_cgroup KillCgroup {
        /// The name of the cgroup.
        cgroup: text,
    };
    /// Takes a CPU off line. A scheduler that has no callbacks for that is asked by the kernel to
    /// attach again.
    39 cpu_offline CpuOffline {
        /// The number of the CPU.
        cpu: (usize),
    };
    /// Takes a CPU on line again.
    40 cpu_online CpuOnline {
        /// The number of the CPU.
        cpu: (usize),
    };
    /// Sets the scheduling policy of all live workers of a cgroup from outside, as `chrt` does. Their nice values stay.
    41 set_sched_policy SetSchedPolicy {
        /// The name of the cgroup.
        cgroup: text,
        /// Their policy from now on.
        policy: (SchedPolicy),
    };
}

impl Op {
    /// Whether it stores something under a tag, so that a step which repeats its operations cannot have it.
    pub const fn is_once(&self) -> bool {
        matches!(
            self,
            Self::CaptureSnapshot { .. }
                | Self::CaptureCgroupProcs { .. }
                | Self::WatchSnapshot { .. }
                | Self::ReadKernelHot { .. }
                | Self::ReadKernelCold { .. }
        )
    }

    /// Starts a program of the host in the harness's own cgroup, and goes on; see [`Op::RunPayload`].
    pub fn run_payload(payload: &'static Payload, args: Vec<String>) -> Self {
        Self::run_payload_in(payload, args, None)
    }

    /// Starts a program of the host in a cgroup, and goes on; see [`Op::RunPayload`].
    pub fn run_payload_in_cgroup(
        payload: &'static Payload,
        args: Vec<String>,
        cgroup: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::run_payload_in(payload, args, Some(cgroup.into()))
    }

    /// Waits for the end of the only running program of this name, and judges it.
    pub fn wait_payload(name: impl Into<Cow<'static, str>>) -> Self {
        Self::wait_payload_in(name, None)
    }

    /// Waits for the end of the program of this name in this cgroup, and judges it.
    pub fn wait_payload_in_cgroup(
        name: impl Into<Cow<'static, str>>,
        cgroup: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::wait_payload_in(name, Some(cgroup.into()))
    }

    /// Kills the only running program of this name.
    pub fn kill_payload(name: impl Into<Cow<'static, str>>) -> Self {
        Self::kill_payload_in(name, None)
    }

    /// Kills the program of this name in this cgroup.
    pub fn kill_payload_in_cgroup(
        name: impl Into<Cow<'static, str>>,
        cgroup: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::kill_payload_in(name, Some(cgroup.into()))
    }

    /// Writes one value into the kernel's memory; see [`Op::WriteKernelHot`].
    pub fn write_kernel_hot(target: KernelTarget, value: KernelValue) -> Self {
        Self::write_kernel_hot_batch(vec![(target, value)])
    }

    /// Writes one value into the memory of a kernel that stands still; see [`Op::WriteKernelCold`].
    pub fn write_kernel_cold(target: KernelTarget, value: KernelValue) -> Self {
        Self::write_kernel_cold_batch(vec![(target, value)])
    }

    /// Starts more workers in a cgroup.
    pub fn spawn_workers(cgroup: impl Into<Cow<'static, str>>, work: WorkSpec) -> Self {
        Self::spawn(SpawnPlacement::cgroup(cgroup), work)
    }

    /// Starts workers of this type in a cgroup.
    pub fn spawn_in_cgroup(cgroup: impl Into<Cow<'static, str>>, work_type: WorkType) -> Self {
        Self::spawn_workers(cgroup, WorkSpec::new(work_type))
    }

    /// Starts workers in the harness's own cgroup.
    pub fn spawn_host(work: WorkSpec) -> Self {
        Self::spawn(SpawnPlacement::RunnerCgroup, work)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_do_not_move() {
        insta::assert_compact_debug_snapshot!(NUMBERS, @r#"[(0, "AddCgroup"), (1, "AddCgroupDef"), (2, "RemoveCgroup"), (3, "SetCpuset"), (4, "ClearCpuset"), (5, "SwapCpusets"), (6, "Spawn"), (7, "StopCgroup"), (8, "SetAffinity"), (9, "MoveAllTasks"), (10, "RunPayload"), (11, "WaitPayload"), (12, "KillPayload"), (13, "FreezeCgroup"), (14, "UnfreezeCgroup"), (15, "CaptureSnapshot"), (16, "WatchSnapshot"), (17, "WriteKernelHot"), (18, "WriteKernelCold"), (19, "ReadKernelHot"), (20, "ReadKernelCold"), (21, "AttachScheduler"), (22, "DetachScheduler"), (23, "RestartScheduler"), (24, "ReplaceScheduler"), (25, "PinBpfMap"), (26, "CaptureCgroupProcs"), (27, "SteerIrq"), (28, "SetCpuMax"), (29, "SetCpuWeight"), (30, "SetCpuIdle"), (31, "SetUclampMin"), (32, "SetUclampMax"), (33, "SetMemoryMax"), (34, "SetMemoryHigh"), (35, "SetMemoryLow"), (36, "SetPidsMax"), (37, "SetCpusetPartition"), (38, "KillCgroup"), (39, "CpuOffline"), (40, "CpuOnline"), (41, "SetSchedPolicy")]"#);
        let numbers: BTreeSet<u8> = NUMBERS.iter().map(|(number, _)| *number).collect();
        assert_eq!(
            numbers.len(),
            NUMBERS.len(),
            "two operations share a number"
        );
        assert!(
            numbers.iter().all(|number| *number < 64),
            "a record has 64 bits"
        );
    }

    #[test]
    fn constructors_take_what_people_write() {
        let ms = Duration::from_millis;
        let limited = Op::set_cpu_max("a", ms(10), ms(100));
        assert_eq!(limited.name(), "SetCpuMax");
        assert_eq!(limited.controller(), Some(Controller::Cpu));
        assert_eq!(
            Op::set_cpu_max("a", None, ms(100)),
            Op::SetCpuMax {
                cgroup: "a".into(),
                quota: None,
                period: ms(100),
            }
        );
        assert_eq!(Op::kill_cgroup("a").controller(), None);
    }
}
