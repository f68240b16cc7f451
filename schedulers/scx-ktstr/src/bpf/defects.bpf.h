/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The defects this scheduler can be told to have. main.bpf.c asks one question
 * at each place where a scheduler can go wrong; the answers are all here, in
 * the order of a task's life: select_cpu, enqueue, dispatch, running.
 *
 * To add one: a bit in intf.h, its entry in src/defects.rs, its code here (and
 * a question in main.bpf.c if no present one fits). It has to be a mistake that
 * somebody could make, and to leave the scheduler working otherwise: kernel
 * threads are spared, or the machine would die before anybody could notice.
 */
#ifndef KTSTR_DEFECTS_BPF_H
#define KTSTR_DEFECTS_BPF_H

/* Out of four dispatches, how many does `slow` leave out? */
#define SLOW_PERIOD 4
/* Of so many slices that end, the task of one is forgotten. */
#define FORGET_PERIOD 200
/* Of so many wakeups, one is lost. */
#define LOST_WAKEUP_PERIOD 10000
/* How far behind everybody a woken task is put. */
#define SLOW_WAKE_NS 100000000ULL
/* How far behind a task is put whose CPU was taken away. */
#define CPUSET_UNFAIR_NS 3000000000ULL
/* A slice nobody sees the end of. */
#define SLICE_LONG_NS 10000000000ULL
/* Of so many starts of a task, one is not preempted at once. */
#define STORM_PERIOD 64
/* What a task of the favoured cgroup pays of its CPU time: one part of so many. */
#define FAVOUR 4
/* How long after the scheduler's start the clocks wrap. */
#define WRAP_AFTER_NS 500000000ULL
/* How many tasks a CPU takes at once that hoards. */
#define HOARD_TASKS 4
/* How far behind everybody a new task is put. */
#define LATE_NEWCOMERS_NS 2000000000ULL

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

static __always_inline bool is_user_task(const struct task_struct *p)
{
	return !(p->flags & PF_KTHREAD);
}

/*
 * Whether the task is in migrate_disable(), and must stay where it is. A BPF
 * program runs with migration disabled itself, which counts for the task that
 * it runs in: at the end of a slice that is the task in question.
 */
static __always_inline bool must_stay(const struct task_struct *p)
{
	return p->migration_disabled > (p == bpf_get_current_task_btf());
}

/*
 * A number that differs from call to call and from run to run. Calls come at
 * the tick's period, so the time is mixed until equal steps leave no trace
 * (the finalizer of SplitMix64: Steele, Lea, Flood, OOPSLA 2014).
 */
static __always_inline u32 dice(void)
{
	u64 x = bpf_ktime_get_ns() + 0x9e3779b97f4a7c15ULL;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return (x ^ (x >> 31)) >> 32;
}

static __always_inline s32 last_cpu_of_all(void)
{
	return nr_cpus - 1;
}

/* ---- who is second class ---- */

/* The cgroup of a task of a test; 0 for those of the system, which lie higher. */
static __always_inline u64 test_cgroup(struct task_struct *p)
{
	struct cgroup *cgroup = BPF_CORE_READ(p, cgroups, dfl_cgrp);

	if (BPF_CORE_READ(cgroup, level) < 2)
		return 0;
	return BPF_CORE_READ(cgroup, kn, id);
}

/* Is it of the first cgroup that was ever seen? */
static __always_inline bool in_starved_cgroup(struct task_struct *p)
{
	u64 cgroup = test_cgroup(p);

	if (!cgroup)
		return false;
	__sync_val_compare_and_swap(&starved_cgroup, 0, cgroup);
	return starved_cgroup == cgroup;
}

/* Queues are given to cgroups as they come, and never given back. */
static __always_inline bool without_queue(struct task_struct *p)
{
	u64 cgroup = test_cgroup(p);

	if (!cgroup)
		return false;
	for (u32 i = 0; i < KTSTR_CGROUP_SLOTS; i++) {
		u64 owner = __sync_val_compare_and_swap(&cgroup_slots[i], 0, cgroup);

		if (!owner || owner == cgroup)
			return false;
	}
	return true;
}

static __always_inline bool any_parked(void)
{
	return has_defect(STARVE_CGROUP) || has_defect(STARVE_NICE) || has_defect(LEAK_QUEUES) ||
	       has_defect(STARVE_KTHREADS);
}

/* Tasks that are only served when nobody else wants to run. */
static __always_inline bool parked(struct task_struct *p)
{
	if (!any_parked() || !has_queues())
		return false;
	if (has_defect(STARVE_KTHREADS))
		return !is_user_task(p) && p->nr_cpus_allowed == 1;
	if (!is_user_task(p))
		return false;
	if (has_defect(STARVE_CGROUP))
		return in_starved_cgroup(p);
	if (has_defect(STARVE_NICE))
		return p->scx.weight < 100;
	return without_queue(p);
}

static __always_inline s32 defect_init(void)
{
	if (has_defect(WRAP_VTIME))
		for (u32 llc = 0; llc < KTSTR_MAX_LLCS && llc < nr_llcs; llc++)
			llc_vtime[llc] = -WRAP_AFTER_NS;
	return any_parked() ? create_dsq(KTSTR_PARKED_DSQ) : 0;
}

/* ---- select_cpu ---- */

/* May a waking task skip the queue when `cpu` is idle? */
static __always_inline bool idle_path_closed(struct task_struct *p, s32 cpu)
{
	if (stalled() || degraded() || has_defect(SCATTERSHOT))
		return true;
	if (has_defect(LOST_WAKEUP) && is_user_task(p) && dice() % LOST_WAKEUP_PERIOD == 0) {
		struct task_ctx *tctx = ctx_of(p);

		if (tctx)
			tctx->wakeup_lost = 1;
		return true;
	}
	if (has_defect(SLOW_WAKE) && is_user_task(p))
		return true;
	if (has_defect(IDLE_CPU) && cpu == last_cpu_of_all() && is_user_task(p))
		return true;
	if (has_defect(IDLE_LLC) && llc_of(cpu) && is_user_task(p))
		return true;
	return false;
}

/* The queue for a task whose chosen CPU is idle. */
static __always_inline u64 idle_dsq(struct task_struct *p, s32 cpu)
{
	s32 other = cpu + 1 < nr_cpus ? cpu + 1 : 0;

	/* The neighbour, whatever it is doing, while the chosen one stays claimed. */
	if (has_defect(WRONG_CPU) && is_user_task(p) && !must_stay(p) &&
	    bpf_cpumask_test_cpu(other, p->cpus_ptr))
		return SCX_VAL(scx_dsq_id_flags, SCX_DSQ_LOCAL_ON) | other;
	return SCX_VAL(scx_dsq_id_flags, SCX_DSQ_LOCAL);
}

/* ---- enqueue ---- */

/* Is a task's work so urgent that it goes before all others on its CPU? */
static __always_inline bool is_urgent(struct task_struct *p)
{
	if (is_user_task(p))
		return false;
	return stalled() || (p->nr_cpus_allowed == 1 && !parked(p));
}

/*
 * On a random allowed CPU's own queue instead of the shared one, however busy
 * that CPU is. Affinity is kept, or the kernel would eject us.
 */
static __always_inline bool scatter(struct task_struct *p, u64 enq_flags)
{
	s32 cpu;

	if (must_stay(p) || p->nr_cpus_allowed == 1) {
		dsq_insert(p, SCX_VAL(scx_dsq_id_flags, SCX_DSQ_LOCAL), slice_ns, enq_flags);
		return true;
	}
	cpu = bpf_get_prandom_u32() % nr_cpus;
	if (!bpf_cpumask_test_cpu(cpu, p->cpus_ptr))
		cpu = pick_any_cpu(p->cpus_ptr);
	if (cpu < 0)
		return false;
	dsq_insert(p, SCX_VAL(scx_dsq_id_flags, SCX_DSQ_LOCAL_ON) | cpu, slice_ns, enq_flags);
	kick_cpu(cpu, SCX_VAL(scx_kick_flags, SCX_KICK_IDLE));
	return true;
}

/* Takes the task off the scheduler's hands; false if it is to be queued as usual. */
static __always_inline bool defect_enqueue(struct task_struct *p, struct task_ctx *tctx,
					   u64 enq_flags)
{
	bool woken = enq_flags & SCX_VAL(scx_enq_flags, SCX_ENQ_WAKEUP);
	s32 cpu;

	if (degraded() || has_defect(SCATTERSHOT))
		return scatter(p, enq_flags);
	if (!tctx || (!is_user_task(p) && !parked(p)))
		return false;
	if (has_defect(LOST_WAKEUP) &&
	    (tctx->wakeup_lost || (woken && dice() % LOST_WAKEUP_PERIOD == 0))) {
		tctx->wakeup_lost = 0;
		__sync_fetch_and_add(&defect_cnt, 1);
		return true;
	}
	if (has_defect(FORGET) && !woken && dsq_nr_queued(tctx->llc) > 0)
		return __sync_fetch_and_add(&defect_cnt, 1) % FORGET_PERIOD == FORGET_PERIOD - 1;
	/* Any CPU is as good as another, says this one. The kernel differs. */
	if (has_defect(IGNORE_AFFINITY) && p->nr_cpus_allowed < nr_cpus && !must_stay(p)) {
		cpu = dice() % nr_cpus;
		dsq_insert(p, SCX_VAL(scx_dsq_id_flags, SCX_DSQ_LOCAL_ON) | cpu, slice_ns,
			   enq_flags);
		return true;
	}
	/* Home, if nobody is there: but nobody asked whether home is still allowed. */
	if (has_defect(STALE_CPUSET) && tctx->home_cpu && !must_stay(p)) {
		cpu = tctx->home_cpu - 1;
		if (test_and_clear_cpu_idle(cpu)) {
			dsq_insert(p, SCX_VAL(scx_dsq_id_flags, SCX_DSQ_LOCAL_ON) | cpu, slice_ns,
				   enq_flags);
			return true;
		}
	}
	if (parked(p)) {
		dsq_insert(p, KTSTR_PARKED_DSQ, slice_ns, enq_flags);
		cpu = claim_idle_cpu(p, scx_bpf_task_cpu(p));
		if (cpu >= 0)
			kick_cpu(cpu, SCX_VAL(scx_kick_flags, SCX_KICK_IDLE));
		return true;
	}
	return false;
}

/* How far behind its due place a task is queued. */
static __always_inline u64 defect_delay_ns(struct task_struct *p, struct task_ctx *tctx, bool woken)
{
	if (!tctx || !is_user_task(p))
		return 0;
	if (has_defect(SLOW_WAKE) && woken)
		return SLOW_WAKE_NS;
	/* It lost the CPU it was on: back to the end of the line, a line too long. */
	if (has_defect(CPUSET_UNFAIR) && tctx->last_cpu &&
	    !bpf_cpumask_test_cpu(tctx->last_cpu - 1, p->cpus_ptr)) {
		tctx->last_cpu = 0;
		return CPUSET_UNFAIR_NS;
	}
	return 0;
}

/* Is the line served from its end? */
static __always_inline bool newest_first(struct task_struct *p)
{
	return has_defect(NEWEST_FIRST) && is_user_task(p);
}

/* Is a task's vtime left as it is when it changes to an LLC with another clock? */
static __always_inline bool keeps_foreign_vtime(void)
{
	return has_defect(MIGRATE_VTIME);
}

static __always_inline u64 slice_of(struct task_struct *p)
{
	return has_defect(SLICE_LONG) && is_user_task(p) ? SLICE_LONG_NS : slice_ns;
}

/* Which LLC's queue is a task for that is on `cpu`? */
static __always_inline u32 queue_of(s32 cpu)
{
	return has_defect(IDLE_LLC) ? 0 : llc_of(cpu);
}

/* Is no idle CPU told of a task that was queued? */
static __always_inline bool kick_forgotten(struct task_struct *p)
{
	return has_defect(SLOW_WAKE) && is_user_task(p);
}

/* ---- dispatch ---- */

/*
 * Leave this one out? A CPU that is left with nothing would sleep on queued
 * work for ever; the kick makes it come back and ask again: late, which is the
 * defect, but not never, which is another one.
 */
static __always_inline bool defect_dispatch(s32 cpu)
{
	bool skip = false;

	if (stalled())
		return true;
	if (has_defect(IDLE_CPU) && cpu == last_cpu_of_all())
		return true;
	if (has_defect(IDLE_LLC) && llc_of(cpu))
		return true;
	/* With many waiting, each CPU makes room for the next one, politely. */
	if (has_defect(LIVELOCK) && dsq_nr_queued(llc_of(cpu)) > 2 * nr_cpus) {
		kick_cpu(cpu + 1 < nr_cpus ? cpu + 1 : 0,
				 SCX_VAL(scx_kick_flags, SCX_KICK_PREEMPT));
		return true;
	}
	if (degraded())
		skip = __sync_fetch_and_add(&degrade_cnt, 1) % 2;
	else if (has_defect(SLOW))
		skip = __sync_fetch_and_add(&slow_cnt, 1) % SLOW_PERIOD;
	if (skip && dsq_nr_queued(llc_of(cpu)) > 0)
		kick_cpu(cpu, 0);
	return skip;
}

/* Takes more than one task to the CPU's own queue, where no other CPU can get at them. */
static __always_inline void hoard(u32 llc)
{
	if (has_defect(HOARD))
		for (u32 i = 1; i < HOARD_TASKS; i++)
			dsq_move_to_local(llc);
}

/* Is a CPU content with its own LLC's queue? */
static __always_inline bool never_steals(void)
{
	return has_defect(NO_STEAL);
}

/* Must a task go back into the queue, however far it is behind? */
static __always_inline bool never_goes_on(void)
{
	return has_defect(SWITCH_STORM);
}

/* Nobody first class wants the CPU. */
static __always_inline bool dispatch_parked(struct task_struct *prev)
{
	if (!any_parked())
		return false;
	if (prev && !parked(prev) &&
	    (prev->scx.flags & SCX_VAL(scx_ent_flags, SCX_TASK_QUEUED)))
		return false;
	return dsq_move_to_local(KTSTR_PARKED_DSQ);
}

static __always_inline bool defect_crash(void)
{
	if (!crash)
		return false;
	ktstr_error("ktstr: host-triggered crash");
	return true;
}

/* ---- running, stopping ---- */

static __always_inline void defect_running(struct task_struct *p, struct task_ctx *tctx, s32 cpu)
{
	if (has_defect(CPUSET_UNFAIR))
		tctx->last_cpu = cpu + 1;
	if (has_defect(STALE_CPUSET) && !tctx->home_cpu && p->nr_cpus_allowed < nr_cpus)
		tctx->home_cpu = cpu + 1;
	/* "A task was put on this CPU: make it look." It is that task it interrupts. */
	if (has_defect(SWITCH_STORM) && is_user_task(p) &&
	    __sync_fetch_and_add(&defect_cnt, 1) % STORM_PERIOD)
		kick_cpu(cpu, SCX_VAL(scx_kick_flags, SCX_KICK_PREEMPT));
}

/* The weight that counts: it can change at any time. */
static __always_inline u32 weight_of(struct task_struct *p)
{
	struct task_ctx *tctx = has_defect(FIRST_WEIGHT) ? ctx_of(p) : NULL;

	if (tctx && tctx->first_weight)
		return tctx->first_weight;
	return p->scx.weight ?: 1;
}

/* What `used` of CPU time costs in vtime. */
static __always_inline u64 charge(struct task_struct *p, u64 used)
{
	u32 weight = weight_of(p);

	if (has_defect(FAVOUR_CGROUP) && in_starved_cgroup(p))
		used /= FAVOUR;
	if (has_defect(INVERT_PRIORITY))
		return used * weight / 100;
	return used * 100 / weight;
}

/* ---- enable ---- */

/* How far behind the clock a new task begins. */
static __always_inline u64 defect_enable(struct task_struct *p, struct task_ctx *tctx)
{
	if (has_defect(FIRST_WEIGHT))
		tctx->first_weight = p->scx.weight;
	return has_defect(LATE_NEWCOMERS) && is_user_task(p) ? LATE_NEWCOMERS_NS : 0;
}

/* ---- load ---- */

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
