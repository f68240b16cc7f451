/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * All state of the scheduler: settings (.rodata), counters and switches that
 * are accessed from outside (.bss), per-task and per-CPU maps, and the exit
 * record (in a separate section, so that reading .bss stays cheap).
 *
 * The names in .bss are an interface: tests read and write these variables. None
 * is static, so that all of them are in the object's BTF.
 */
#ifndef KTSTR_STATE_BPF_H
#define KTSTR_STATE_BPF_H

/* ---- .rodata: set by userspace before load ---- */

const volatile u64 defects;
const volatile u32 nr_cpus = 1;
const volatile u32 nr_llcs = 1;
const volatile u32 cpu_llc[KTSTR_MAX_CPUS];
const volatile u64 slice_ns = 5000000;
/* How far a task that keeps running may fall behind its LLC's clock. */
const volatile u64 lag_max_ns = 40000000;

/* ---- .bss: counters ---- */

/* Calls of ops.dispatch, whether or not a queue has tasks. */
u64 nr_dispatched;
u64 nr_enqueued;
u64 nr_select_cpu;
u64 nr_yielded;
/* Number of task contexts created. */
u64 ktstr_alloc_count;
/* KTSTR_STATS_MAGIC once ops.init has run. */
u64 stats_magic;

/* 1 if the kernel does not let schedulers create queues; set by ops.init. */
u32 no_queues;

/* ---- .bss: switches, 0 = off; may be written at any time, also by the host ---- */

u32 stall;
u32 crash;
u32 degrade_rt;

/* ---- .bss: on how many occasions a defect could take effect ---- */

/* Dispatches while degraded, and dispatches with the defect slow. */
u32 degrade_cnt;
u32 slow_cnt;
/* Lost wakeups, and occasions of forget and switch-storm; no other defect counts here. */
u32 defect_cnt;

/* ---- .bss: test data for readers of typed pointers, as in pointers.bpf.h ---- */

u32 scx_arena_verify_once;

struct ktstr_arena_holder {
	u64 bss_plain_counter;
	/* The address of the list in the arena, as a number. */
	u64 arena_target;
} ktstr_bss_arena_holder;

/* ---- .bss: the clocks ---- */

/*
 * One virtual clock per LLC: the greatest vtime with which a task of that LLC
 * has started to run. The clocks of different LLCs are unrelated (the clock of a
 * crowded LLC is slower); follow_llc() converts the vtime of a task that moves.
 */
u64 llc_vtime[KTSTR_MAX_LLCS];

/* ---- .bss: state of the defects ---- */

u64 starved_cgroup;
u64 cgroup_slots[KTSTR_CGROUP_SLOTS];

/* ---- maps ---- */

struct task_ctx {
	/* se.sum_exec_runtime when the task was put on a CPU. */
	u64 exec_start;
	/* The LLC whose clock dsq_vtime is relative to. */
	u32 llc;
	/* The task yielded: charge it for the whole slice. */
	u32 yielded;
	/* Only defects use the rest. The CPU that the task ran on last, plus 1; 0 if unknown. */
	s32 last_cpu;
	/* The CPU that the task first ran on while its affinity was restricted, plus 1. */
	s32 home_cpu;
	u32 wakeup_lost;
	/* The weight that the task had when it came to this scheduler. */
	u32 first_weight;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct task_ctx);
} ktstr_task_ctx SEC(".maps");

struct ktstr_pcpu {
	u64 magic;
	u64 nr_dispatched;
	u64 nr_stolen;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct ktstr_pcpu);
} ktstr_pcpu_fix SEC(".maps");

struct ktstr_exit exit_record SEC(".data.exit");

/* ---- access ---- */

static __always_inline void bump(u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
}

static __always_inline u32 llc_of(s32 cpu)
{
	u64 index = (u32)cpu;
	u32 llc = 0;

	/* Keeps the compiler from checking one copy of the index and using another. */
	asm volatile("" : "+r"(index));
	if (index < KTSTR_MAX_CPUS)
		llc = cpu_llc[index];
	return llc < KTSTR_MAX_LLCS ? llc : 0;
}

static __always_inline u64 clock_of(u32 llc)
{
	return llc < KTSTR_MAX_LLCS ? llc_vtime[llc] : 0;
}

/* Is this defect planted? All but one of the uses are in defects.bpf.h. */
#define has_defect(name) (defects & (1ULL << KTSTR_DEFECT_##name))

/* vtime wraps, so only differences are meaningful. */
static __always_inline bool before(u64 a, u64 b)
{
	if (has_defect(WRAP_VTIME))
		return a < b;
	return (s64)(a - b) < 0;
}

static __always_inline struct task_ctx *ctx_of(struct task_struct *p)
{
	return bpf_task_storage_get(&ktstr_task_ctx, p, 0, 0);
}

#endif /* KTSTR_STATE_BPF_H */
