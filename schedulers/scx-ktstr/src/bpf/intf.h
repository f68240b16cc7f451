/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What both sides agree on: sizes, names of defects, the exit record. The Rust
 * side gets these types through the object's BTF (the generated skeleton), so
 * there is no second copy to keep in step.
 */
#ifndef KTSTR_INTF_H
#define KTSTR_INTF_H

/* CPUs and LLCs told apart; CPUs past the end are treated as LLC 0. */
#define KTSTR_MAX_CPUS 1024
#define KTSTR_MAX_LLCS 128

/*
 * The queue of tasks that a defect treats as second class: served by a CPU
 * that would else be idle. Only defective schedulers make it.
 */
#define KTSTR_PARKED_DSQ KTSTR_MAX_LLCS

/* Cgroups that a scheduler with leaking queues has room for, ever. */
#define KTSTR_CGROUP_SLOTS 4

#define KTSTR_STATS_MAGIC 0x5354415473746174ULL

/*
 * Planted defects: each is one bit of `defects` in .rodata, set before load.
 * What is off is a constant false to the verifier, which removes it: a
 * scheduler without defects runs the very code it would have without this
 * table. src/defects.rs holds the other half (flag and description).
 */
enum ktstr_defect {
	KTSTR_DEFECT_DEGRADE = 0,
	KTSTR_DEFECT_SCATTERSHOT = 1,
	KTSTR_DEFECT_SLOW = 2,
	KTSTR_DEFECT_FAIL_VERIFY = 3,
	KTSTR_DEFECT_VERIFY_LOOP = 4,
	KTSTR_DEFECT_FORGET = 5,
	KTSTR_DEFECT_STARVE_CGROUP = 6,
	KTSTR_DEFECT_STARVE_NICE = 7,
	KTSTR_DEFECT_IGNORE_AFFINITY = 8,
	KTSTR_DEFECT_STALE_CPUSET = 9,
	KTSTR_DEFECT_WRONG_CPU = 10,
	KTSTR_DEFECT_IDLE_CPU = 11,
	KTSTR_DEFECT_IDLE_LLC = 12,
	KTSTR_DEFECT_SLOW_WAKE = 13,
	KTSTR_DEFECT_INVERT_PRIORITY = 14,
	KTSTR_DEFECT_SLICE_LONG = 15,
	KTSTR_DEFECT_SWITCH_STORM = 16,
	KTSTR_DEFECT_LOST_WAKEUP = 17,
	KTSTR_DEFECT_LEAK_QUEUES = 18,
	KTSTR_DEFECT_CPUSET_UNFAIR = 19,
	KTSTR_DEFECT_LIVELOCK = 20,
	KTSTR_DEFECT_MIGRATE_VTIME = 21,
	KTSTR_DEFECT_NO_STEAL = 22,
	KTSTR_DEFECT_FAVOUR_CGROUP = 23,
	KTSTR_DEFECT_FIRST_WEIGHT = 24,
	KTSTR_DEFECT_WRAP_VTIME = 25,
	KTSTR_DEFECT_STARVE_KTHREADS = 26,
	KTSTR_DEFECT_HOARD = 27,
	KTSTR_DEFECT_LATE_NEWCOMERS = 28,
	KTSTR_DEFECT_NEWEST_FIRST = 29,
	KTSTR_DEFECT_LEAVE_ON_HOTPLUG = 30,
	KTSTR_NR_DEFECTS = 31,
};

/* Why the kernel let go of the scheduler; kind is written last. */
struct ktstr_exit {
	s32 kind;
	s64 code;
	char reason[128];
	char msg[1024];
	char dump[32768];
};

#endif /* KTSTR_INTF_H */
