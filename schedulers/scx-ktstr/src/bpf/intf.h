/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the BPF and the Rust part share: sizes, names of defects, the exit
 * record. The Rust part gets these types from the object's BTF (the generated
 * skeleton), so there is no second copy to keep in sync.
 */
#ifndef KTSTR_INTF_H
#define KTSTR_INTF_H

/* Limits on CPUs and LLCs. CPUs beyond the first limit, or of LLCs beyond the second, count as LLC 0. */
#define KTSTR_MAX_CPUS 1024
#define KTSTR_MAX_LLCS 128

/*
 * The queue for tasks that a defect treats as second class. A CPU serves it
 * only if the CPU would otherwise be idle. Only defective schedulers create it.
 */
#define KTSTR_PARKED_DSQ KTSTR_MAX_LLCS

/* Number of cgroups, in total, that a scheduler with leaking queues can serve. */
#define KTSTR_CGROUP_SLOTS 4

/* "STATstat" in ASCII: the counters are in use. */
#define KTSTR_STATS_MAGIC 0x5354415473746174ULL

/*
 * Planted defects. Each is one bit of `defects` in .rodata, which is set before
 * load. To the verifier, a defect that is off is constant false, so it removes
 * the defect's code. A scheduler without defects therefore runs exactly the code
 * that it would have without this table. src/defects.rs has the flags and descriptions.
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

/* Why the kernel detached the scheduler; kind is written last. */
struct ktstr_exit {
	s32 kind;
	s64 code;
	char reason[128];
	char msg[1024];
	char dump[32768];
};

#endif /* KTSTR_INTF_H */
