//! The table of operations: what a step can do in addition to setting up cgroups and holding.
//!
//! An operation consists of its entry in the table below, a line in the table of the guest's engine (`engine/ops`), and its
//! implementation there. The enum, its constructors, numbers and names, and the trait that the engine implements are generated
//! from the table, so an operation that the engine lacks does not compile.

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

/// The Rust type of a field. The table writes it as `text`, `(Type)`, `[Type]` if the field may be left out, or `{Type}`
/// for a list.
macro_rules! field {
    (text) => { Cow<'static, str> };
    (($of:ty)) => { $of };
    ([$of:ty]) => { Option<$of> };
    ({$of:ty}) => { Vec<$of> };
}

/// The type of which the method of an operation gets a reference for a field.
macro_rules! passed {
    (text) => { str };
    (($of:ty)) => { $of };
    ([$of:ty]) => { Option<$of> };
    ({$of:ty}) => { [$of] };
}

/// The type of a constructor's argument for a field.
macro_rules! argument {
    (text) => { impl Into<Cow<'static, str>> };
    (($of:ty)) => { $of };
    ([$of:ty]) => { impl Into<Option<$of>> };
    ({$of:ty}) => { Vec<$of> };
}

/// Converts a constructor's argument to the value of the field.
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

/// Writes the text of a field.
macro_rules! put {
    ([$of:ty] $field:ident) => {
        $field.as_ref().map(crate::text::Text::put).transpose()?
    };
    ($kind:tt $field:ident) => {
        Some(crate::text::Text::put($field)?)
    };
}

/// Reads a field from its text. Lists and optional fields may be left out.
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

/// Generates everything that depends on the table. An entry is the operation's number in records, its constructor, its variant,
/// and after `needs` the controller that must be enabled for it; then its fields.
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

            /// Returns the number of the operation, below 64, which never changes: records have a bit for each.
            pub const fn wire_index(&self) -> u8 {
                match self { $( Self::$name { .. } => $number, )* }
            }

            /// Returns the name of the variant, such as `SetCpuset`.
            pub const fn name(&self) -> &'static str {
                match self { $( Self::$name { .. } => stringify!($name), )* }
            }

            /// Returns the controller that must be enabled for the operation; `None` if it needs none, only undoes a setting, or
            /// needs what its fields declare.
            pub fn controller(&self) -> Option<Controller> {
                match self {
                    $( Self::$name { .. } => [$( Controller::$controller )?].into_iter().next(), )*
                }
            }

            /// Calls the method of `runner` for this operation.
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

        /// Carries out operations, with one method per operation.
        pub trait OpRunner {
            /// The result of an operation.
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
    /// Creates a cgroup without workers.
    0 add_cgroup AddCgroup {
        /// The name of the new cgroup.
        name: text,
    };
    /// Creates a cgroup with its workers, as the setup of a step does.
    1 add_cgroup_def AddCgroupDef {
        /// The cgroup's declaration, workers included.
        def: (CgroupDef),
    };
    /// Stops a cgroup's workers and removes the cgroup. If there is no such cgroup, the operation only prints a warning.
    2 remove_cgroup RemoveCgroup {
        /// The name of the cgroup to remove.
        cgroup: text,
    };
    /// Sets a cgroup's CPUs.
    3 set_cpuset SetCpuset needs Cpuset {
        /// The name of the cgroup.
        cgroup: text,
        /// The new CPUs of the cgroup.
        cpus: (CpusetSpec),
    };
    /// Clears a cgroup's CPUs, so that it has those of its parent.
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
    /// Starts workers in a cgroup or in the harness's own, in addition to the workers that run there already.
    6 spawn Spawn {
        /// The cgroup that the workers start in.
        placement: (SpawnPlacement),
        /// The workers to start.
        work: (WorkSpec),
    };
    /// Stops a cgroup's workers and keeps the cgroup.
    7 stop_cgroup StopCgroup {
        /// The name of the cgroup.
        cgroup: text,
    };
    /// Sets the affinity of all live workers of a cgroup.
    8 set_affinity SetAffinity {
        /// The name of the cgroup.
        cgroup: text,
        /// The new affinity of the workers, resolved within the CPUs of the cgroup.
        affinity: (AffinityIntent),
    };
    /// Moves all tasks of a cgroup to another. An empty name stands for the harness's own cgroup, out of which only
    /// workers are moved.
    9 move_all_tasks MoveAllTasks {
        /// The name of the cgroup that is emptied.
        from: text,
        /// The name of the cgroup to which the tasks are moved.
        to: text,
    };
    /// Starts a program of the host in the background. The test must declare the program as its `payload` or among its
    /// `workloads`. A program that still runs at the end of the step is killed then; a program that the backdrop started, at the
    /// end of the scenario.
    10 run_payload_in RunPayload {
        /// The declaration of the program.
        payload: (&'static Payload),
        /// Arguments that follow the arguments of the declaration.
        args: {String},
        /// The name of the cgroup in which the program runs; `None` is the harness's own.
        cgroup: [Cow<'static, str>],
    };
    /// Waits until a program has exited, and checks its result.
    11 wait_payload_in WaitPayload {
        /// The name of the program's declaration.
        name: text,
        /// The name of the program's cgroup; `None` is allowed if only one program of this name was started and not waited for.
        cgroup: [Cow<'static, str>],
    };
    /// Kills a program and all processes that it has started. If the program had exited before, its result is checked.
    12 kill_payload_in KillPayload {
        /// The name of the program's declaration.
        name: text,
        /// The name of the program's cgroup; `None` is allowed if only one program of this name was started and not waited for.
        cgroup: [Cow<'static, str>],
    };
    /// Freezes a cgroup: its tasks do not run until it is thawed (`cgroup.freeze`).
    13 freeze_cgroup FreezeCgroup {
        /// The name of the cgroup.
        cgroup: text,
    };
    /// Thaws a cgroup, so that its tasks run again (`cgroup.freeze`).
    14 unfreeze_cgroup UnfreezeCgroup {
        /// The name of the cgroup.
        cgroup: text,
    };
    /// Makes the host capture the guest's state now, and waits until the capture is taken. The operation is not allowed in a
    /// step that loops.
    15 capture_snapshot CaptureSnapshot {
        /// The tag of the capture, 1 to 64 bytes. It must not begin with `periodic_`, and must not be a tag of the captures that
        /// the harness takes at events (`scx_exit`, `panic` and so on).
        name: text,
    };
    /// Makes the host watch the first four bytes of a kernel variable, and capture the guest's state under the variable's name
    /// whenever they have changed; a later capture replaces the one before. The operation is not allowed in a step that loops,
    /// and a test can watch at most three variables.
    ///
    /// The variable is polled, not trapped. Under the virtual clock it is checked at each switch, wake-up, enqueue, dequeue or
    /// timer interrupt on any CPU; under the real clock, about every half millisecond of host time. A write of the same value,
    /// and a change that is undone before the next check, are not noticed. A capture belongs to the step whose hold started
    /// last. `VmResult::snapshot_bridge.watch_hits` returns the number of changes; after 1024 captures the watches of a test
    /// end.
    16 watch_snapshot WatchSnapshot {
        /// The variable's exact name in `/proc/kallsyms`; its address must be a multiple of four.
        symbol: text,
    };
    /// Makes the host write to the kernel's memory. Under the real clock the guest keeps running; under the virtual clock it is
    /// stopped, as for [`Op::WriteKernelCold`]. All targets are resolved before the first one is written.
    17 write_kernel_hot_batch WriteKernelHot {
        /// The targets and their values, in the order of the writes; at most 4096 bytes in total.
        writes: {(KernelTarget, KernelValue)},
    };
    /// Makes the host write to the kernel's memory while no CPU of the guest runs, so that the guest sees either all of the
    /// writes or none.
    18 write_kernel_cold_batch WriteKernelCold {
        /// The targets and their values, in the order of the writes; at most 4096 bytes in total.
        writes: {(KernelTarget, KernelValue)},
    };
    /// Makes the host read the kernel's memory. Under the real clock the guest keeps running; under the virtual clock it is
    /// stopped, as for [`Op::ReadKernelCold`]. The test's callbacks find the value by its tag. The operation is not allowed in a
    /// step that loops.
    19 read_kernel_hot ReadKernelHot {
        /// The tag under which the value is stored, 1 to 64 bytes.
        tag: text,
        /// The place in the kernel's memory that is read.
        target: (KernelTarget),
        /// The width and the type of the read.
        width: (KernelValueWidth),
    };
    /// Makes the host read the kernel's memory while no CPU of the guest runs. The test's callbacks find the value by its tag.
    /// The operation is not allowed in a step that loops.
    20 read_kernel_cold ReadKernelCold {
        /// The tag under which the value is stored, 1 to 64 bytes.
        tag: text,
        /// The place in the kernel's memory that is read.
        target: (KernelTarget),
        /// The width and the type of the read.
        width: (KernelValueWidth),
    };
    /// Starts a scheduler while none is attached. It must be one of the test's `staged_schedulers`; if the test declares any, its
    /// own scheduler is allowed, too.
    21 attach_scheduler AttachScheduler {
        /// The scheduler, identified by its name.
        scheduler: (&'static Scheduler),
    };
    /// Stops the scheduler that is attached. From then on the kernel's own scheduler runs, which does not count as a failure.
    22 detach_scheduler DetachScheduler;
    /// Stops the scheduler that is attached and starts the test's own.
    23 restart_scheduler RestartScheduler;
    /// Stops the scheduler that is attached and starts another.
    24 replace_scheduler ReplaceScheduler {
        /// The scheduler, identified by its name.
        scheduler: (&'static Scheduler),
    };
    /// Keeps a BPF map alive until the end of the scenario, even if the scheduler that created it exits: the test's process
    /// holds a file descriptor of the map.
    25 pin_bpf_map PinBpfMap {
        /// The map's name in the kernel, 1 to 15 bytes, such as `bpf_bpf.bss`. If several maps have it, the latest one is kept.
        name: text,
    };
    /// Makes the host store the process ids of a cgroup for the test's callbacks. The operation is not allowed in a
    /// step that loops.
    26 capture_cgroup_procs CaptureCgroupProcs {
        /// The tag under which the process ids are stored, 1 to 64 bytes.
        tag: text,
        /// The name of the cgroup.
        cgroup: text,
    };
    /// Routes an interrupt to a CPU, through its `smp_affinity_list`.
    27 steer_irq SteerIrq {
        /// The interrupt, by its number or by the name of its handler in `/proc/interrupts`.
        irq: (IrqSelector),
        /// The number of the CPU that shall handle the interrupt.
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
        /// The weight, 1 to 10000; the default of a cgroup is 100.
        weight: (u32),
    };
    /// Gives a cgroup the weight of a `SCHED_IDLE` task, or undoes that (`cpu.idle`). The tasks of an idle cgroup get hardly any
    /// CPU time while those of a sibling are runnable, which also preempt them.
    30 set_cpu_idle SetCpuIdle needs Cpu {
        /// The name of the cgroup.
        cgroup: text,
        /// Whether the cgroup is idle.
        idle: (bool),
    };
    /// Sets the lower bound to which the utilization of a cgroup's tasks is clamped (`cpu.uclamp.min`).
    31 set_uclamp_min SetUclampMin needs Cpu {
        /// The name of the cgroup.
        cgroup: text,
        /// The bound in percent of the capacity of a CPU, 0 to 100.
        percent: (f64),
    };
    /// Sets the upper bound to which the utilization of a cgroup's tasks is clamped (`cpu.uclamp.max`).
    32 set_uclamp_max SetUclampMax needs Cpu {
        /// The name of the cgroup.
        cgroup: text,
        /// The bound in percent of the capacity of a CPU, 0 to 100; `None` is no limit.
        percent: [f64],
    };
    /// Limits a cgroup's memory (`memory.max`).
    33 set_memory_max SetMemoryMax needs Memory {
        /// The name of the cgroup.
        cgroup: text,
        /// The limit in bytes; `None` is no limit.
        bytes: [u64],
    };
    /// Sets the amount of memory above which the kernel reclaims memory from a cgroup (`memory.high`).
    34 set_memory_high SetMemoryHigh needs Memory {
        /// The name of the cgroup.
        cgroup: text,
        /// The limit in bytes; `None` is no limit.
        bytes: [u64],
    };
    /// Sets the amount of memory of a cgroup that is protected from reclaim (`memory.low`).
    35 set_memory_low SetMemoryLow needs Memory {
        /// The name of the cgroup.
        cgroup: text,
        /// The protected memory in bytes; `None` is no protection.
        bytes: [u64],
    };
    /// Limits the number of a cgroup's tasks (`pids.max`).
    36 set_pids_max SetPidsMax needs Pids {
        /// The name of the cgroup.
        cgroup: text,
        /// The largest number of tasks, of which each thread is one; `None` is no limit.
        max: [u64],
    };
    /// Makes a cgroup's CPUs a separate scheduling domain, or undoes that (`cpuset.cpus.partition`). The cgroup must have a
    /// cpuset of CPUs that no sibling has.
    37 set_cpuset_partition SetCpusetPartition needs Cpuset {
        /// The name of the cgroup.
        cgroup: text,
        /// The new partition type of the cgroup.
        partition: (CpusetPartition),
    };
    /// Kills all processes of a cgroup and its descendants (`cgroup.kill`), and keeps the cgroups. The measurements of the killed
    /// workers are not checked, since a killed worker cannot write its last report.
    38 kill_cgroup KillCgroup {
        /// The name of the cgroup.
        cgroup: text,
    };
    /// Takes a CPU offline. A sched_ext scheduler without hotplug callbacks exits, with the request to attach again.
    39 cpu_offline CpuOffline {
        /// The number of the CPU.
        cpu: (usize),
    };
    /// Brings a CPU online again.
    40 cpu_online CpuOnline {
        /// The number of the CPU.
        cpu: (usize),
    };
    /// Sets the scheduling policy of all live workers of a cgroup from outside, as `chrt` does. Their nice values stay the same.
    41 set_sched_policy SetSchedPolicy {
        /// The name of the cgroup.
        cgroup: text,
        /// The new policy with its parameters, such as the priority of `SCHED_FIFO`.
        policy: (SchedPolicy),
    };
}

impl Op {
    /// Returns whether the operation stores its result under a tag or a name, so that a step that loops cannot contain it.
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

    /// Starts a program of the host in the harness's own cgroup, in the background; see [`Op::RunPayload`].
    pub fn run_payload(payload: &'static Payload, args: Vec<String>) -> Self {
        Self::run_payload_in(payload, args, None)
    }

    /// Starts a program of the host in a cgroup, in the background; see [`Op::RunPayload`].
    pub fn run_payload_in_cgroup(
        payload: &'static Payload,
        args: Vec<String>,
        cgroup: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::run_payload_in(payload, args, Some(cgroup.into()))
    }

    /// Waits until the only program of this name has exited, and checks its result.
    pub fn wait_payload(name: impl Into<Cow<'static, str>>) -> Self {
        Self::wait_payload_in(name, None)
    }

    /// Waits until the program of this name in this cgroup has exited, and checks its result.
    pub fn wait_payload_in_cgroup(
        name: impl Into<Cow<'static, str>>,
        cgroup: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::wait_payload_in(name, Some(cgroup.into()))
    }

    /// Kills the only program of this name; see [`Op::KillPayload`].
    pub fn kill_payload(name: impl Into<Cow<'static, str>>) -> Self {
        Self::kill_payload_in(name, None)
    }

    /// Kills the program of this name in this cgroup; see [`Op::KillPayload`].
    pub fn kill_payload_in_cgroup(
        name: impl Into<Cow<'static, str>>,
        cgroup: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::kill_payload_in(name, Some(cgroup.into()))
    }

    /// Writes one value to the kernel's memory; see [`Op::WriteKernelHot`].
    pub fn write_kernel_hot(target: KernelTarget, value: KernelValue) -> Self {
        Self::write_kernel_hot_batch(vec![(target, value)])
    }

    /// Writes one value to the kernel's memory while the guest is stopped; see [`Op::WriteKernelCold`].
    pub fn write_kernel_cold(target: KernelTarget, value: KernelValue) -> Self {
        Self::write_kernel_cold_batch(vec![(target, value)])
    }

    /// Starts a group of workers in a cgroup, in addition to the workers that run there already.
    pub fn spawn_workers(cgroup: impl Into<Cow<'static, str>>, work: WorkSpec) -> Self {
        Self::spawn(SpawnPlacement::cgroup(cgroup), work)
    }

    /// Starts a default group of workers with this work type in a cgroup.
    pub fn spawn_in_cgroup(cgroup: impl Into<Cow<'static, str>>, work_type: WorkType) -> Self {
        Self::spawn_workers(cgroup, WorkSpec::new(work_type))
    }

    /// Starts a group of workers in the harness's own cgroup.
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
