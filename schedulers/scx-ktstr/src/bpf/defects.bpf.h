/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The defects this scheduler can be told to have. main.bpf.c asks one question
 * at each place where a scheduler can go wrong; the answers are all here.
 *
 * To add one: a bit in intf.h, its entry in src/defects.rs, its code here (and
 * a question in main.bpf.c if no present one fits).
 */
#ifndef KTSTR_DEFECTS_BPF_H
#define KTSTR_DEFECTS_BPF_H

#define has_defect(name) (defects & (1ULL << KTSTR_DEFECT_##name))

/* Out of four dispatches, how many does `slow` leave out? */
#define SLOW_PERIOD 4

static __always_inline bool degraded(void)
{
	return has_defect(DEGRADE) || degrade_rt;
}

/*
 * Stalled: nothing leaves the shared queues. Kernel threads still run: were
 * they stopped too, the watchdog's own worker would hang, and with every CPU
 * idle there is no tick left to notice.
 */
static __always_inline bool stalled(void)
{
	return stall;
}

/* May a waking task skip the queue when a CPU is idle? */
static __always_inline bool idle_path_closed(void)
{
	return stalled() || degraded() || has_defect(SCATTERSHOT);
}

/*
 * Enqueue: on a random allowed CPU's own queue instead of the shared one,
 * however busy that CPU is. Affinity is kept, or the kernel would eject us.
 */
static __always_inline bool defect_enqueue(struct task_struct *p, u64 enq_flags)
{
	s32 cpu;

	if (!degraded() && !has_defect(SCATTERSHOT))
		return false;
	/* A task in migrate_disable() must stay where it is. */
	if (p->migration_disabled || p->nr_cpus_allowed == 1) {
		dsq_insert(p, SCX_VAL(scx_dsq_id_flags, SCX_DSQ_LOCAL), slice_ns, enq_flags);
		return true;
	}
	cpu = bpf_get_prandom_u32() % nr_cpus;
	if (!bpf_cpumask_test_cpu(cpu, p->cpus_ptr))
		cpu = scx_bpf_pick_any_cpu(p->cpus_ptr, 0);
	if (cpu < 0)
		return false;
	dsq_insert(p, SCX_VAL(scx_dsq_id_flags, SCX_DSQ_LOCAL_ON) | cpu, slice_ns, enq_flags);
	scx_bpf_kick_cpu(cpu, SCX_VAL(scx_kick_flags, SCX_KICK_IDLE));
	return true;
}

/*
 * Dispatch: leave this one out? A CPU that is left with nothing would sleep on
 * queued work for ever; the kick makes it come back and ask again: late, which
 * is the defect, but not never, which is another one.
 */
static __always_inline bool defect_dispatch(s32 cpu)
{
	bool skip = false;

	if (stalled())
		return true;
	if (degraded())
		skip = __sync_fetch_and_add(&degrade_cnt, 1) % 2;
	else if (has_defect(SLOW))
		skip = __sync_fetch_and_add(&slow_cnt, 1) % SLOW_PERIOD;
	if (skip && scx_bpf_dsq_nr_queued(llc_of(cpu)) > 0)
		scx_bpf_kick_cpu(cpu, 0);
	return skip;
}

static __always_inline bool defect_crash(void)
{
	if (!crash)
		return false;
	ktstr_error("ktstr: host-triggered crash");
	return true;
}

/* A read through a number that is no pointer: no verifier accepts it. */
#define READ_THROUGH_SCALAR()						\
	asm volatile("r1 = 64; r1 = *(u64 *)(r1 + 0);" ::: "r1")

/* Refused by the verifier; the loop first repeats itself into the log. */
static __always_inline void defect_verify(void)
{
	if (has_defect(FAIL_VERIFY))
		READ_THROUGH_SCALAR();
	if (has_defect(VERIFY_LOOP)) {
#pragma clang loop unroll(disable)
		for (u32 i = 0; i < 64; i++)
			bump(&ktstr_bss_arena_holder.bss_plain_counter);
		READ_THROUGH_SCALAR();
	}
}

#endif /* KTSTR_DEFECTS_BPF_H */
