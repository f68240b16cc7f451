/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel functions that this scheduler calls, with a wrapper for each
 * whose name or signature changed between 6.12 and 7.3.
 *
 * Every variant is declared weak, and the wrapper tests which one the running
 * kernel has. The verifier drops the branches of the missing ones. libbpf
 * strips the last `___suffix` from a local name before it looks the symbol up,
 * so two prototypes of one kernel function can be declared side by side.
 *
 * From 7.1 on most of them have a hidden last argument (KF_IMPLICIT_ARGS). The
 * kernel's build is supposed to give each of them two entries in the BTF: the
 * public prototype, and `<name>_impl` with that argument. It does so only for
 * functions that pahole has tagged as kfuncs, and a pahole before 1.31 misses
 * some, different ones in each build: Debian's 7.1.13 lacks 21 in the cloud
 * flavour, 8 in the plain one, and 6 in the PREEMPT_RT one. The verifier
 * rejects every call of such a function, so no other prototype would help: the
 * function counts as missing, and its wrapper does without it.
 */
#ifndef KTSTR_KFUNCS_H
#define KTSTR_KFUNCS_H

/* These have no hidden argument. */
s32 scx_bpf_task_cpu(const struct task_struct *p) __ksym;
bool bpf_cpumask_test_cpu(u32 cpu, const struct cpumask *mask) __ksym;

s32 scx_bpf_create_dsq(u64 dsq_id, s32 node) __ksym __weak;
s32 scx_bpf_dsq_nr_queued(u64 dsq_id) __ksym __weak;
s32 scx_bpf_pick_idle_cpu(const struct cpumask *allowed, u64 flags) __ksym __weak;
s32 scx_bpf_pick_any_cpu(const struct cpumask *allowed, u64 flags) __ksym __weak;
bool scx_bpf_test_and_clear_cpu_idle(s32 cpu) __ksym __weak;
void scx_bpf_kick_cpu(s32 cpu, u64 flags) __ksym __weak;
void scx_bpf_error_bstr(char *fmt, unsigned long long *data, u32 data__sz) __ksym __weak;
void scx_bpf_dump_bstr(char *fmt, unsigned long long *data, u32 data__sz) __ksym __weak;

/* Without its own queues, the scheduler uses the kernel's global one: see main.bpf.c. */
static __always_inline bool has_queues(void)
{
	return bpf_ksym_exists(scx_bpf_create_dsq);
}

static __always_inline s32 create_dsq(u64 dsq_id)
{
	return has_queues() ? scx_bpf_create_dsq(dsq_id, -1) : 0;
}

/* Returns 0 if the kernel cannot report the length: every queue then looks equally long. */
static __always_inline s32 dsq_nr_queued(u64 dsq_id)
{
	if (has_queues() && bpf_ksym_exists(scx_bpf_dsq_nr_queued))
		return scx_bpf_dsq_nr_queued(dsq_id);
	return 0;
}

static __always_inline s32 pick_any_cpu(const struct cpumask *allowed)
{
	if (bpf_ksym_exists(scx_bpf_pick_any_cpu))
		return scx_bpf_pick_any_cpu(allowed, 0);
	return -1;
}

static __always_inline bool test_and_clear_cpu_idle(s32 cpu)
{
	if (bpf_ksym_exists(scx_bpf_test_and_clear_cpu_idle))
		return scx_bpf_test_and_clear_cpu_idle(cpu);
	return false;
}

static __always_inline bool can_kick(void)
{
	return bpf_ksym_exists(scx_bpf_kick_cpu);
}

static __always_inline void kick_cpu(s32 cpu, u64 flags)
{
	if (can_kick())
		scx_bpf_kick_cpu(cpu, flags);
}

/*
 * The kernel takes printf arguments as an array of u64. The format is not
 * const, because the verifier requires writable memory.
 */
#define ktstr_printf(kfunc, fmt, args...)					\
({										\
	static char fmt_text[] = fmt;						\
	unsigned long long fmt_args[___bpf_narg(args) ?: 1] = {};		\
	___bpf_fill(fmt_args, args);						\
	kfunc(fmt_text, fmt_args, ___bpf_narg(args) * sizeof(u64));		\
})

/* Ends the scheduler with a message, or, if that is impossible, by kicking a CPU that does not exist. */
#define ktstr_error(fmt, args...)						\
({										\
	if (bpf_ksym_exists(scx_bpf_error_bstr))				\
		ktstr_printf(scx_bpf_error_bstr, fmt, ##args);			\
	else									\
		kick_cpu(-1, 0);						\
})

#define ktstr_dump_line(fmt, args...)						\
({										\
	if (bpf_ksym_exists(scx_bpf_dump_bstr))					\
		ktstr_printf(scx_bpf_dump_bstr, fmt "\n", ##args);		\
})

/* 6.12: "dispatch"; 6.13: "dsq_insert"; 6.19: a variant that returns whether it succeeded. */
bool scx_bpf_dsq_insert___v2___now(struct task_struct *p, u64 dsq_id, u64 slice,
				   u64 enq_flags) __ksym __weak;
void scx_bpf_dsq_insert___v613(struct task_struct *p, u64 dsq_id, u64 slice,
			       u64 enq_flags) __ksym __weak;
void scx_bpf_dispatch___v612(struct task_struct *p, u64 dsq_id, u64 slice,
			     u64 enq_flags) __ksym __weak;

static __always_inline void dsq_insert(struct task_struct *p, u64 dsq_id, u64 slice,
				       u64 enq_flags)
{
	if (bpf_ksym_exists(scx_bpf_dsq_insert___v2___now))
		scx_bpf_dsq_insert___v2___now(p, dsq_id, slice, enq_flags);
	else if (bpf_ksym_exists(scx_bpf_dsq_insert___v613))
		scx_bpf_dsq_insert___v613(p, dsq_id, slice, enq_flags);
	else
		scx_bpf_dispatch___v612(p, dsq_id, slice, enq_flags);
}

/* 6.19 packs the scalars into a structure, since a kfunc has at most five arguments; the old form remains. */
struct scx_bpf_dsq_insert_vtime_args {
	u64 dsq_id;
	u64 slice;
	u64 vtime;
	u64 enq_flags;
} __attribute__((preserve_access_index));

bool __scx_bpf_dsq_insert_vtime(struct task_struct *p,
				struct scx_bpf_dsq_insert_vtime_args *args) __ksym __weak;
void scx_bpf_dsq_insert_vtime___v613(struct task_struct *p, u64 dsq_id, u64 slice, u64 vtime,
				     u64 enq_flags) __ksym __weak;
void scx_bpf_dispatch_vtime___v612(struct task_struct *p, u64 dsq_id, u64 slice, u64 vtime,
				   u64 enq_flags) __ksym __weak;

static __always_inline void dsq_insert_vtime(struct task_struct *p, u64 dsq_id, u64 slice,
					     u64 vtime, u64 enq_flags)
{
	if (bpf_ksym_exists(__scx_bpf_dsq_insert_vtime)) {
		struct scx_bpf_dsq_insert_vtime_args args = {
			.dsq_id = dsq_id,
			.slice = slice,
			.vtime = vtime,
			.enq_flags = enq_flags,
		};

		__scx_bpf_dsq_insert_vtime(p, &args);
	} else if (bpf_ksym_exists(scx_bpf_dsq_insert_vtime___v613)) {
		scx_bpf_dsq_insert_vtime___v613(p, dsq_id, slice, vtime, enq_flags);
	} else {
		scx_bpf_dispatch_vtime___v612(p, dsq_id, slice, vtime, enq_flags);
	}
}

/* 6.12: "consume"; 6.13: "dsq_move_to_local"; 7.1: the same with flags. */
bool scx_bpf_dsq_move_to_local___v2___now(u64 dsq_id, u64 enq_flags) __ksym __weak;
bool scx_bpf_dsq_move_to_local___v613(u64 dsq_id) __ksym __weak;
bool scx_bpf_consume___v612(u64 dsq_id) __ksym __weak;

static __always_inline bool dsq_move_to_local(u64 dsq_id)
{
	if (!has_queues())
		return false;
	if (bpf_ksym_exists(scx_bpf_dsq_move_to_local___v2___now))
		return scx_bpf_dsq_move_to_local___v2___now(dsq_id, 0);
	if (bpf_ksym_exists(scx_bpf_dsq_move_to_local___v613))
		return scx_bpf_dsq_move_to_local___v613(dsq_id);
	return scx_bpf_consume___v612(dsq_id);
}

/*
 * Finds and claims an idle CPU for `p` by the kernel's own policy: whole cores
 * first, then the same LLC, then the same node. Returns a negative value if
 * there is none. ops.enqueue can call this policy since 6.16 (6.19 packed the
 * arguments); before, it can only call scx_bpf_pick_idle_cpu().
 */
struct scx_bpf_select_cpu_and_args {
	s32 prev_cpu;
	u64 wake_flags;
	u64 flags;
} __attribute__((preserve_access_index));

s32 __scx_bpf_select_cpu_and(struct task_struct *p, const struct cpumask *allowed,
			     struct scx_bpf_select_cpu_and_args *args) __ksym __weak;
s32 scx_bpf_select_cpu_and___v616(struct task_struct *p, s32 prev_cpu, u64 wake_flags,
				  const struct cpumask *allowed, u64 flags) __ksym __weak;

static __always_inline s32 claim_idle_cpu(struct task_struct *p, s32 near_cpu)
{
	if (bpf_ksym_exists(__scx_bpf_select_cpu_and)) {
		struct scx_bpf_select_cpu_and_args args = { .prev_cpu = near_cpu };

		return __scx_bpf_select_cpu_and(p, p->cpus_ptr, &args);
	}
	if (bpf_ksym_exists(scx_bpf_select_cpu_and___v616))
		return scx_bpf_select_cpu_and___v616(p, near_cpu, 0, p->cpus_ptr, 0);
	if (bpf_ksym_exists(scx_bpf_pick_idle_cpu))
		return scx_bpf_pick_idle_cpu(p->cpus_ptr, 0);
	return -1;
}

/* Selects a CPU for a waking task by the kernel's own policy. If that CPU is idle, claims it and sets `*is_idle`. */
s32 scx_bpf_select_cpu_dfl(struct task_struct *p, s32 prev_cpu, u64 wake_flags,
			   bool *is_idle) __ksym __weak;

static __always_inline s32 select_cpu_dfl(struct task_struct *p, s32 prev_cpu, u64 wake_flags,
					  bool *is_idle)
{
	s32 cpu;

	if (bpf_ksym_exists(scx_bpf_select_cpu_dfl))
		return scx_bpf_select_cpu_dfl(p, prev_cpu, wake_flags, is_idle);
	cpu = claim_idle_cpu(p, prev_cpu);
	*is_idle = cpu >= 0;
	return cpu >= 0 ? cpu : prev_cpu;
}

/* Returns the task that would be moved next; 0 before 6.19, where the kernel cannot report it. */
struct task_struct *scx_bpf_dsq_peek(u64 dsq_id) __ksym __weak;

static __always_inline struct task_struct *dsq_peek(u64 dsq_id)
{
	if (has_queues() && bpf_ksym_exists(scx_bpf_dsq_peek))
		return scx_bpf_dsq_peek(dsq_id);
	return 0;
}

/* 6.19 replaced direct writes to a task's slice and vtime by two functions. */
bool scx_bpf_task_set_slice(struct task_struct *p, u64 slice) __ksym __weak;
bool scx_bpf_task_set_dsq_vtime(struct task_struct *p, u64 vtime) __ksym __weak;

static __always_inline void task_set_slice(struct task_struct *p, u64 slice)
{
	if (bpf_ksym_exists(scx_bpf_task_set_slice))
		scx_bpf_task_set_slice(p, slice);
	else
		p->scx.slice = slice;
}

static __always_inline void task_set_vtime(struct task_struct *p, u64 vtime)
{
	if (bpf_ksym_exists(scx_bpf_task_set_dsq_vtime))
		scx_bpf_task_set_dsq_vtime(p, vtime);
	else
		p->scx.dsq_vtime = vtime;
}

#endif /* KTSTR_KFUNCS_H */
