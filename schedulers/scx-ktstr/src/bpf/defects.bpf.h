/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The defects that can be planted in this scheduler. main.bpf.c asks a question
 * at each place where a scheduler can go wrong. All answers are here, in the
 * order of a task's life: select_cpu, enqueue, dispatch, running.
 *
 * To add a defect: add a bit in intf.h, an entry in src/defects.rs, and code
 * here (and a question in main.bpf.c if none of the existing ones fits). A
 * defect must be a plausible mistake, and leave the scheduler working
 * otherwise. Most defects spare kernel threads, because the machine would
 * otherwise hang before anybody could notice.
 */
#ifndef KTSTR_DEFECTS_BPF_H
#define KTSTR_DEFECTS_BPF_H

/* `slow` skips all but one of this many dispatches. */
#define SLOW_PERIOD 4
/* One of this many tasks whose slice ends is forgotten. */
#define FORGET_PERIOD 200
/* One of this many wakeups is lost. */
#define LOST_WAKEUP_PERIOD 10000
/* How far behind the others a woken task is queued. */
#define SLOW_WAKE_NS 100000000ULL
/* How far behind the others a task that lost its CPU is queued. */
#define CPUSET_UNFAIR_NS 3000000000ULL
/* A slice so long that it hardly ever ends within a test. */
#define SLICE_LONG_NS 10000000000ULL
/* All but one of this many starts of a task are preempted at once. */
#define STORM_PERIOD 64
/* The favoured cgroup is charged this fraction of its CPU time: 1 / FAVOUR. */
#define FAVOUR 4
/* Time from the scheduler's start until the clocks wrap. */
#define WRAP_AFTER_NS 500000000ULL
/* Number of tasks that a hoarding CPU takes at once. */
#define HOARD_TASKS 4
/* How far behind the others a new task is queued. */
#define LATE_NEWCOMERS_NS 2000000000ULL

static __always_inline bool degraded(void)
{
	return has_defect(DEGRADE) || degrade_rt;
}

/*
 * While stalled, nothing leaves the shared queues. Kernel threads still run:
 * if they were stopped too, the watchdog's own worker would hang, and with all
 * CPUs idle there would be no tick left that could notice the stall.
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
 * Returns whether the task is in migrate_disable() and must stay on its CPU. A
 * BPF program itself runs with migration disabled, which is counted for the
 * current task. At the end of a slice, the current task is `p`.
 */
static __always_inline bool must_stay(const struct task_struct *p)
{
	return p->migration_disabled > (p == bpf_get_current_task_btf());
}

/*
 * Returns a pseudorandom number that is derived from the time. Calls come at
 * the tick's period, so the bits of the time are mixed until equal steps leave
 * no trace (the finalizer of SplitMix64: Steele, Lea, Flood, OOPSLA 2014).
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

/* ---- second-class tasks ---- */

/* The cgroup of a test's task; 0 for the tasks of the system, which are higher in the tree. */
static __always_inline u64 test_cgroup(struct task_struct *p)
{
	struct cgroup *cgroup = BPF_CORE_READ(p, cgroups, dfl_cgrp);

	if (BPF_CORE_READ(cgroup, level) < 2)
		return 0;
	return BPF_CORE_READ(cgroup, kn, id);
}

/* Is the task in the first test cgroup that was ever seen? */
static __always_inline bool in_starved_cgroup(struct task_struct *p)
{
	u64 cgroup = test_cgroup(p);

	if (!cgroup)
		return false;
	__sync_val_compare_and_swap(&starved_cgroup, 0, cgroup);
	return starved_cgroup == cgroup;
}

/* Is no queue left for the task's cgroup? Cgroups get queues as they appear, and never release them. */
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

/* Is the task one that runs only when no other task wants to run? */
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

/* Must a waking task go through the queue although `cpu` is idle? */
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

	/* Use the neighbour, whatever it is doing, while the chosen CPU stays claimed. */
	if (has_defect(WRONG_CPU) && is_user_task(p) && !must_stay(p) &&
	    bpf_cpumask_test_cpu(other, p->cpus_ptr))
		return SCX_VAL(scx_dsq_id_flags, SCX_DSQ_LOCAL_ON) | other;
	return SCX_VAL(scx_dsq_id_flags, SCX_DSQ_LOCAL);
}

/* ---- enqueue ---- */

/* Is the task so urgent that it precedes all others on its CPU? */
static __always_inline bool is_urgent(struct task_struct *p)
{
	if (is_user_task(p))
		return false;
	return stalled() || (p->nr_cpus_allowed == 1 && !parked(p));
}

/*
 * Queues the task on a random allowed CPU's local queue instead of the shared
 * one, however busy that CPU is. Affinity is respected, because the kernel
 * would eject the scheduler otherwise.
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

/* Handles the task in a defective way. Returns false if the task is to be queued as usual. */
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
	/* The mistake: any CPU is chosen, even if the affinity excludes it. The kernel then ejects the scheduler. */
	if (has_defect(IGNORE_AFFINITY) && p->nr_cpus_allowed < nr_cpus && !must_stay(p)) {
		cpu = dice() % nr_cpus;
		dsq_insert(p, SCX_VAL(scx_dsq_id_flags, SCX_DSQ_LOCAL_ON) | cpu, slice_ns,
			   enq_flags);
		return true;
	}
	/* Back to the home CPU if it is idle, without checking whether it is still allowed. */
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

/* How far behind its proper place the task is queued. */
static __always_inline u64 defect_delay_ns(struct task_struct *p, struct task_ctx *tctx, bool woken)
{
	if (!tctx || !is_user_task(p))
		return 0;
	if (has_defect(SLOW_WAKE) && woken)
		return SLOW_WAKE_NS;
	/* The task may no longer use the CPU that it was on: queue it much too far behind the others. */
	if (has_defect(CPUSET_UNFAIR) && tctx->last_cpu &&
	    !bpf_cpumask_test_cpu(tctx->last_cpu - 1, p->cpus_ptr)) {
		tctx->last_cpu = 0;
		return CPUSET_UNFAIR_NS;
	}
	return 0;
}

/* Is the task queued before all those that wait already? */
static __always_inline bool newest_first(struct task_struct *p)
{
	return has_defect(NEWEST_FIRST) && is_user_task(p);
}

/* Does a task keep its vtime when it moves to an LLC with a different clock? */
static __always_inline bool keeps_foreign_vtime(void)
{
	return has_defect(MIGRATE_VTIME);
}

static __always_inline u64 slice_of(struct task_struct *p)
{
	return has_defect(SLICE_LONG) && is_user_task(p) ? SLICE_LONG_NS : slice_ns;
}

/* The LLC whose queue a task on `cpu` goes to. */
static __always_inline u32 queue_of(s32 cpu)
{
	return has_defect(IDLE_LLC) ? 0 : llc_of(cpu);
}

/* Is no idle CPU kicked for a task that was queued? */
static __always_inline bool kick_forgotten(struct task_struct *p)
{
	return has_defect(SLOW_WAKE) && is_user_task(p);
}

/* ---- dispatch ---- */

/*
 * Is this dispatch skipped? A CPU that is left without a task would sleep for
 * ever despite queued work. For `degrade` and `slow` a kick makes the CPU ask
 * again, so that tasks run late. Tasks that never run are another defect.
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
	/* When many tasks wait, each CPU preempts its neighbour instead of taking one of the tasks. */
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

/* Takes more than one task to the CPU's local queue, where no other CPU can reach them. */
static __always_inline void hoard(u32 llc)
{
	if (has_defect(HOARD))
		for (u32 i = 1; i < HOARD_TASKS; i++)
			dsq_move_to_local(llc);
}

/* Does a CPU never take tasks from another LLC's queue? */
static __always_inline bool never_steals(void)
{
	return has_defect(NO_STEAL);
}

/* Must a task go back into the queue even if it is due next? */
static __always_inline bool never_goes_on(void)
{
	return has_defect(SWITCH_STORM);
}

/* Runs a second-class task if no first-class task wants the CPU. */
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
	/* The mistake: the CPU is kicked for a task that it has just started, and preempts that very task. */
	if (has_defect(SWITCH_STORM) && is_user_task(p) &&
	    __sync_fetch_and_add(&defect_cnt, 1) % STORM_PERIOD)
		kick_cpu(cpu, SCX_VAL(scx_kick_flags, SCX_KICK_PREEMPT));
}

/* The weight to charge by. The weight of a task can change at any time. */
static __always_inline u32 weight_of(struct task_struct *p)
{
	struct task_ctx *tctx = has_defect(FIRST_WEIGHT) ? ctx_of(p) : NULL;

	if (tctx && tctx->first_weight)
		return tctx->first_weight;
	return p->scx.weight ?: 1;
}

/* The vtime that `used` ns of CPU time cost. */
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

/* How far behind the clock a new task starts. */
static __always_inline u64 defect_enable(struct task_struct *p, struct task_ctx *tctx)
{
	if (has_defect(FIRST_WEIGHT))
		tctx->first_weight = p->scx.weight;
	return has_defect(LATE_NEWCOMERS) && is_user_task(p) ? LATE_NEWCOMERS_NS : 0;
}

/* ---- load ---- */

/* A read through a scalar, which no verifier accepts. */
#define READ_THROUGH_SCALAR()						\
	asm volatile("r1 = 64; r1 = *(u64 *)(r1 + 0);" ::: "r1")

/* The verifier rejects both reads; before the second one, the loop fills its log with repetitions. */
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
