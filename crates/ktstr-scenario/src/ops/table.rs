//! The table of operations: what a step can do in addition to setting up cgroups and holding.
//!
//! Everything that depends on the list of operations is made from these rows: the enum with its constructors, names,
//! numbers and text (`ops/op.rs`), the check of a scenario before it runs (`text/valid/ops.rs`), and the call of the
//! function that carries the operation out in the guest (`ktstr-guest/src/engine/ops/mod.rs`). An example of a row:
//!
//! ```text
//! /// Sets a cgroup's CPUs.
//! 3 set_cpuset SetCpuset => cpuset::set, needs Cpuset, effect set_cpuset {
//!     /// The name of the cgroup.
//!     cgroup: text,
//!     /// The new CPUs of the cgroup.
//!     cpus: (CpusetSpec),
//! };
//! ```
//!
//! The row begins with the number of the operation in records, its constructor and its variant. After `=>` it names the
//! function that carries the operation out, by its file in `ktstr-guest/src/engine/ops/`; the function gets a reference to
//! each field. The clauses after it are optional, and come in this order:
//!
//! - `needs`: the controller that must be enabled for the operation.
//! - `effect`: a function of `text/valid/effects.rs`, for an operation that adds, removes or changes what a later operation
//!   depends on, or whose fields can only be checked together.
//! - `is once`: the operation stores its result under a tag or a name, so that a step that loops cannot contain it.
//!
//! The type of a field is written as `text`, `(Type)`, `[Type]` if the field may be left out, or `{Type}` for a list.
//! A rule of `text/valid/rules.rs` may follow after `=>`: the check of this field alone, such as `exists` for the
//! name of a cgroup.
//!
//! To add an operation, write its row with the next free number, write the function in the guest, and test its effect in
//! `ktstr/tests/ops.rs`. A row whose function, rule or effect is missing does not compile.

/// Calls a macro with the rows of the table.
#[doc(hidden)]
#[macro_export]
macro_rules! op_table {
    ($consumer:ident) => {
        $consumer! {
            /// Creates a cgroup without workers.
            0 add_cgroup AddCgroup => cgroups::add, effect add {
                /// The name of the new cgroup.
                name: text,
            };
            /// Creates a cgroup with its workers, as the setup of a step does.
            1 add_cgroup_def AddCgroupDef => cgroups::add_def, effect add_def {
                /// The cgroup's declaration, workers included.
                def: (CgroupDef),
            };
            /// Stops the workers and kills the programs of a cgroup and of the cgroups below it, and removes all of these
            /// cgroups. If there is no such cgroup, the operation only prints a warning.
            2 remove_cgroup RemoveCgroup => cgroups::remove, effect remove {
                /// The name of the cgroup to remove.
                cgroup: text,
            };
            /// Sets a cgroup's CPUs. If the cgroup is a partition, it remains a partition with the new CPUs, none of which a
            /// sibling may have. While the CPUs are changed, it is a plain member for a moment.
            3 set_cpuset SetCpuset => cpuset::set, needs Cpuset, effect set_cpuset {
                /// The name of the cgroup.
                cgroup: text,
                /// The new CPUs of the cgroup.
                cpus: (CpusetSpec),
            };
            /// Clears a cgroup's CPUs, so that it has those of its parent. The cgroup must not be a partition, because a
            /// partition needs CPUs of its own.
            4 clear_cpuset ClearCpuset => cpuset::clear, effect clear_cpuset {
                /// The name of the cgroup.
                cgroup: text,
            };
            /// Exchanges the CPUs of two cgroups. Partitions remain partitions, as with [`Op::SetCpuset`].
            5 swap_cpusets SwapCpusets => cpuset::swap, needs Cpuset, effect swap_cpusets {
                /// The name of one cgroup.
                a: text,
                /// The name of the other cgroup.
                b: text,
            };
            /// Starts workers in a cgroup or in the harness's own, in addition to the workers that run there already.
            6 spawn Spawn => spawn::spawn, effect spawn {
                /// The cgroup that the workers start in.
                placement: (SpawnPlacement),
                /// The workers to start.
                work: (WorkSpec),
            };
            /// Stops a cgroup's workers and keeps the cgroup. If the cgroup is frozen, it is thawed; if it has a quota of
            /// CPU time, the quota is lifted. Programs that run in the cgroup are not stopped.
            7 stop_cgroup StopCgroup => cgroups::stop, effect stop {
                /// The name of the cgroup.
                cgroup: text,
            };
            /// Sets the affinity of all live workers of a cgroup.
            8 set_affinity SetAffinity => affinity::set, effect affinity {
                /// The name of the cgroup.
                cgroup: text,
                /// The new affinity of the workers, resolved within the CPUs of the cgroup.
                affinity: (AffinityIntent),
            };
            /// Moves all tasks of a cgroup to another. An empty name stands for the harness's own cgroup, out of which only
            /// workers are moved.
            9 move_all_tasks MoveAllTasks => move_tasks::all, effect move_all {
                /// The name of the cgroup that is emptied.
                from: text,
                /// The name of the cgroup to which the tasks are moved.
                to: text,
            };
            /// Starts a program of the host in the background. The test must declare the program as its `payload` or among
            /// its `workloads`. A program that still runs at the end of the step is killed then; a program that the
            /// backdrop started is killed at the end of the scenario.
            10 run_payload_in RunPayload => payload::run, effect run_payload {
                /// The declaration of the program.
                payload: (&'static Payload),
                /// Arguments that follow the arguments of the declaration.
                args: {String},
                /// The name of the cgroup in which the program runs; `None` is the harness's own.
                cgroup: [Cow<'static, str>],
            };
            /// Waits until a program has exited, and checks its result. A program that runs for longer than the test's
            /// window is killed, and fails the test.
            11 wait_payload_in WaitPayload => payload::wait, effect end_payload {
                /// The name of the program's declaration.
                name: text,
                /// The name of the program's cgroup; `None` is allowed if exactly one program of this name has been started
                /// and not been waited for.
                cgroup: [Cow<'static, str>] => exists_or_none,
            };
            /// Kills a program and all processes that it has started. The program's result is checked only if the program had
            /// exited before the kill.
            12 kill_payload_in KillPayload => payload::kill, effect end_payload {
                /// The name of the program's declaration.
                name: text,
                /// The name of the program's cgroup; `None` is allowed if exactly one program of this name has been started
                /// and not been waited for.
                cgroup: [Cow<'static, str>] => exists_or_none,
            };
            /// Freezes a cgroup: its tasks do not run until it is thawed (`cgroup.freeze`).
            13 freeze_cgroup FreezeCgroup => freeze::freeze {
                /// The name of the cgroup.
                cgroup: text => exists,
            };
            /// Thaws a cgroup, so that its tasks run again (`cgroup.freeze`).
            14 unfreeze_cgroup UnfreezeCgroup => freeze::thaw {
                /// The name of the cgroup.
                cgroup: text => exists,
            };
            /// Makes the host capture the guest's state now, and waits until the capture is taken. The operation is not
            /// allowed in a step that loops.
            15 capture_snapshot CaptureSnapshot => capture::snapshot, is once {
                /// The tag of the capture, 1 to 64 bytes. It must not begin with `periodic_`, and must not be a tag of the
                /// captures that the harness takes at events (`scx_exit`, `panic` and so on).
                name: text => capture_tag,
            };
            /// Makes the host watch the first four bytes of a kernel variable, and capture the guest's state under the
            /// variable's name whenever they have changed; a later capture replaces the one before. The watch ends with its
            /// scenario, which can watch at most three variables. The operation is not allowed in a step that loops.
            ///
            /// The variable is polled, not trapped. Under the virtual clock it is checked at each switch, wake-up, enqueue,
            /// dequeue or timer interrupt on any CPU; under the real clock, about every half millisecond of host time. A
            /// write of the same value, and a change that is undone before the next check, are not noticed. A capture
            /// belongs to the step whose hold started last. `VmResult::snapshot_bridge.watch_hits` returns the number of
            /// changes; after 1024 captures the watches of a test end.
            16 watch_snapshot WatchSnapshot => kernel::watch, is once {
                /// The variable's exact name in `/proc/kallsyms`; its address must be a multiple of four.
                symbol: text => tag,
            };
            /// Makes the host write to the kernel's memory. Under the real clock the guest keeps running; under the
            /// virtual clock it is stopped, as for [`Op::WriteKernelCold`]. All targets are resolved before the first
            /// one is written. The kernel's code cannot be written.
            17 write_kernel_hot_batch WriteKernelHot => kernel::write_hot {
                /// The targets and their values, in the order of the writes; at most 4096 bytes in total.
                writes: {(KernelTarget, KernelValue)} => writes,
            };
            /// Makes the host write to the kernel's memory while no CPU of the guest runs, so that the guest sees either
            /// all of the writes or none. The kernel's code cannot be written.
            18 write_kernel_cold_batch WriteKernelCold => kernel::write_cold {
                /// The targets and their values, in the order of the writes; at most 4096 bytes in total.
                writes: {(KernelTarget, KernelValue)} => writes,
            };
            /// Makes the host read the kernel's memory. Under the real clock the guest keeps running; under the virtual
            /// clock it is stopped, as for [`Op::ReadKernelCold`]. The test's callbacks find the value by its tag. The
            /// operation is not allowed in a step that loops.
            19 read_kernel_hot ReadKernelHot => kernel::read_hot, is once {
                /// The tag under which the value is stored, 1 to 64 bytes.
                tag: text => tag,
                /// The place in the kernel's memory that is read.
                target: (KernelTarget),
                /// The width and the type of the read.
                width: (KernelValueWidth) => width,
            };
            /// Makes the host read the kernel's memory while no CPU of the guest runs. The test's callbacks find the value
            /// by its tag. The operation is not allowed in a step that loops.
            20 read_kernel_cold ReadKernelCold => kernel::read_cold, is once {
                /// The tag under which the value is stored, 1 to 64 bytes.
                tag: text => tag,
                /// The place in the kernel's memory that is read.
                target: (KernelTarget),
                /// The width and the type of the read.
                width: (KernelValueWidth) => width,
            };
            /// Starts a scheduler while none is attached. It must be one of the test's `staged_schedulers`. If the test
            /// declares at least one of these, the scheduler under test is allowed, too.
            21 attach_scheduler AttachScheduler => scheduler::attach {
                /// The scheduler, identified by its name.
                scheduler: (&'static Scheduler),
            };
            /// Stops the scheduler that is attached. From then on the kernel's own scheduler runs, which does not count
            /// as a failure.
            22 detach_scheduler DetachScheduler => scheduler::detach;
            /// Stops the scheduler that is attached and starts the test's own.
            23 restart_scheduler RestartScheduler => scheduler::restart;
            /// Stops the scheduler that is attached and starts another, which must be allowed
            /// as for [`Op::AttachScheduler`].
            24 replace_scheduler ReplaceScheduler => scheduler::replace {
                /// The scheduler, identified by its name.
                scheduler: (&'static Scheduler),
            };
            /// Keeps a BPF map alive until the end of the scenario, even if the scheduler that created it exits: the test's
            /// process holds a file descriptor of the map.
            25 pin_bpf_map PinBpfMap => pin_map::pin {
                /// The map's name in the kernel, 1 to 15 bytes, such as `bpf_bpf.bss`. If several maps have this name, the
                /// one that was created last is kept.
                name: text => map_name,
            };
            /// Makes the host store the process ids of a cgroup for the test's callbacks. The operation is not allowed in a
            /// step that loops.
            26 capture_cgroup_procs CaptureCgroupProcs => capture::cgroup_procs, is once {
                /// The tag under which the process ids are stored, 1 to 64 bytes.
                tag: text => tag,
                /// The name of the cgroup.
                cgroup: text => exists,
            };
            /// Routes an interrupt to a CPU, through its `smp_affinity_list`.
            27 steer_irq SteerIrq => irq::steer {
                /// The interrupt, by its number or by the name of its handler in `/proc/interrupts`.
                irq: (IrqSelector),
                /// The number of the CPU that is to handle the interrupt.
                cpu: (usize) => cpu,
            };
            /// Limits a cgroup's CPU time (`cpu.max`).
            28 set_cpu_max SetCpuMax => cpu::max, needs Cpu {
                /// The name of the cgroup.
                cgroup: text => exists,
                /// CPU time in every period, at least 1 ms; `None` is no limit.
                quota: [Duration] => quota,
                /// The period, 1 ms to 1 s.
                period: (Duration) => period,
            };
            /// Sets a cgroup's weight (`cpu.weight`).
            29 set_cpu_weight SetCpuWeight => cpu::weight, needs Cpu {
                /// The name of the cgroup.
                cgroup: text => exists,
                /// The weight, 1 to 10000; the default of a cgroup is 100.
                weight: (u32) => weight,
            };
            /// Gives a cgroup the weight of a `SCHED_IDLE` task, or undoes that (`cpu.idle`). While a sibling that is
            /// not idle has runnable tasks, the tasks of an idle cgroup get hardly any CPU time, and the sibling's
            /// tasks preempt them.
            30 set_cpu_idle SetCpuIdle => cpu::idle, needs Cpu {
                /// The name of the cgroup.
                cgroup: text => exists,
                /// Whether the cgroup is idle.
                idle: (bool),
            };
            /// Sets the lower bound to which the utilization of a cgroup's tasks is clamped (`cpu.uclamp.min`).
            31 set_uclamp_min SetUclampMin => cpu::uclamp_min, needs Cpu {
                /// The name of the cgroup.
                cgroup: text => exists,
                /// The bound in percent of the capacity of a CPU, 0 to 100.
                percent: (f64) => percent,
            };
            /// Sets the upper bound to which the utilization of a cgroup's tasks is clamped (`cpu.uclamp.max`).
            32 set_uclamp_max SetUclampMax => cpu::uclamp_max, needs Cpu {
                /// The name of the cgroup.
                cgroup: text => exists,
                /// The bound in percent of the capacity of a CPU, 0 to 100; `None` is no limit.
                percent: [f64] => percent_or_none,
            };
            /// Limits a cgroup's memory (`memory.max`).
            33 set_memory_max SetMemoryMax => memory::max, needs Memory {
                /// The name of the cgroup.
                cgroup: text => exists,
                /// The limit in bytes; `None` is no limit.
                bytes: [u64],
            };
            /// Sets the amount of memory above which the kernel reclaims memory from a cgroup (`memory.high`).
            34 set_memory_high SetMemoryHigh => memory::high, needs Memory {
                /// The name of the cgroup.
                cgroup: text => exists,
                /// The limit in bytes; `None` is no limit.
                bytes: [u64],
            };
            /// Sets the amount of memory of a cgroup that is protected from reclaim (`memory.low`).
            35 set_memory_low SetMemoryLow => memory::low, needs Memory {
                /// The name of the cgroup.
                cgroup: text => exists,
                /// The protected memory in bytes; `None` is no protection.
                bytes: [u64],
            };
            /// Limits the number of a cgroup's tasks (`pids.max`).
            36 set_pids_max SetPidsMax => pids::max, needs Pids {
                /// The name of the cgroup.
                cgroup: text => exists,
                /// The largest number of tasks, of which each thread is one; `None` is no limit.
                max: [u64],
            };
            /// Sets the partition type of a cgroup (`cpuset.cpus.partition`), for example to make its CPUs a separate
            /// scheduling domain. For any type but `Member`, the cgroup must have a cpuset of CPUs that no sibling has.
            37 set_cpuset_partition SetCpusetPartition => cpuset::partition, needs Cpuset, effect partition {
                /// The name of the cgroup.
                cgroup: text => exists,
                /// The new partition type of the cgroup.
                partition: (CpusetPartition),
            };
            /// Kills all processes of a cgroup and its descendants (`cgroup.kill`), and keeps the cgroups. The measurements
            /// of the killed workers are not checked, since a killed worker cannot write its last report.
            38 kill_cgroup KillCgroup => kill::kill, effect kill {
                /// The name of the cgroup.
                cgroup: text,
            };
            /// Takes a CPU offline. A sched_ext scheduler without hotplug callbacks exits, and its exit code requests a restart.
            39 cpu_offline CpuOffline => hotplug::offline {
                /// The number of the CPU.
                cpu: (usize) => cpu,
            };
            /// Brings a CPU online again. A sched_ext scheduler without hotplug callbacks exits, as for [`Op::CpuOffline`].
            40 cpu_online CpuOnline => hotplug::online {
                /// The number of the CPU.
                cpu: (usize) => cpu,
            };
            /// Sets the scheduling policy of all live workers of a cgroup from outside, as `chrt` does. Their nice values
            /// stay the same.
            41 set_sched_policy SetSchedPolicy => policy::set {
                /// The name of the cgroup.
                cgroup: text => exists,
                /// The new policy with its parameters, such as the priority of `SCHED_FIFO`.
                policy: (SchedPolicy) => policy,
            };
        }
    };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::ops::op::NUMBERS;

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
            "the mask of operations has 64 bits"
        );
    }
}
