// SPDX-License-Identifier: GPL-2.0-only
/*
 * ktstr: a small sched_ext scheduler. It has one queue for each last-level
 * cache, ordered by weighted virtual time. A CPU takes tasks from its own LLC's
 * queue first and then from the others; now and then from the longest queue.
 *
 * Deliberately left out: cgroup weights (tasks of all cgroups compete by their
 * own weight, so moves between cgroups and cpuset changes need no code here),
 * preemption of running tasks, and NUMA distance.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "kfuncs.h"
#include "intf.h"
#include "state.bpf.h"
#include "pointers.bpf.h"
#include "defects.bpf.h"

char _license[] SEC("license") = "GPL";

/* Each CPU compares the queues of all LLCs once in this many dispatches. */
#define BALANCE_PERIOD 8

/* The longest slice of a task in the kernel's global queue. */
#define GLOBAL_SLICE_MAX_NS 50000000ULL

#define OPS(name) SEC("struct_ops/ktstr_" #name)

/* Moves a task's vtime to the clock of `llc`. The task stays as far ahead or behind as it was. */
static __always_inline void follow_llc(struct task_struct *p, struct task_ctx *tctx, u32 llc)
{
	if (tctx->llc == llc)
		return;
	if (!keeps_foreign_vtime())
		task_set_vtime(p, p->scx.dsq_vtime - clock_of(tctx->llc) + clock_of(llc));
	tctx->llc = llc;
}

/*
 * The vtime to queue the task with. A task that slept may be at most one slice
 * ahead, because otherwise it would save up time. A task that never slept keeps
 * its place among its competitors, up to lag_max_ns. That limit is needed
 * because tasks bound to a crowded CPU fall behind the LLC's clock, and a task
 * that joins them from a quieter CPU has to wait until they have caught up.
 */
static __always_inline u64 place(struct task_struct *p, struct task_ctx *tctx, u32 llc,
				 u64 enq_flags)
{
	bool woken = enq_flags & SCX_VAL(scx_enq_flags, SCX_ENQ_WAKEUP);
	u64 floor = clock_of(llc) - (woken ? slice_ns : lag_max_ns);
	u64 vtime = p->scx.dsq_vtime;
	u64 delay = defect_delay_ns(p, tctx, woken);

	if (newest_first(p))
		return -bpf_ktime_get_ns();
	if (before(vtime, floor) || delay) {
		if (before(vtime, floor))
			vtime = floor;
		vtime += delay;
		task_set_vtime(p, vtime);
	}
	return vtime;
}

OPS(select_cpu)
s32 ktstr_select_cpu(u64 *args)
{
	struct task_struct *p = (void *)args[0];
	s32 prev_cpu = args[1];
	u64 wake_flags = args[2];
	bool idle = false;
	s32 cpu;

	bump(&nr_select_cpu);
	cpu = select_cpu_dfl(p, prev_cpu, wake_flags, &idle);
	if (idle && !idle_path_closed(p, cpu))
		dsq_insert(p, idle_dsq(p, cpu), slice_of(p), 0);
	return cpu;
}

/*
 * On a kernel that does not let schedulers create queues (see kfuncs.h), all
 * tasks share the kernel's global queue, which is first in, first out; weights
 * then determine the length of the slices. The kernel itself dispatches from
 * that queue and wakes idle CPUs for it, so a stall has to keep the tasks out.
 */
static __always_inline void enqueue_global(struct task_struct *p, u64 enq_flags)
{
	u64 slice = slice_of(p) * (p->scx.weight ?: 1) / 100;

	if (stalled())
		return;
	if (slice > GLOBAL_SLICE_MAX_NS)
		slice = GLOBAL_SLICE_MAX_NS;
	dsq_insert(p, SCX_VAL(scx_dsq_id_flags, SCX_DSQ_GLOBAL), slice ?: 1, enq_flags);
}

OPS(enqueue)
void ktstr_enqueue(u64 *args)
{
	struct task_struct *p = (void *)args[0];
	u64 enq_flags = args[1];
	s32 cpu = scx_bpf_task_cpu(p);
	u32 llc = queue_of(cpu);
	struct task_ctx *tctx = ctx_of(p);

	bump(&nr_enqueued);
	if (defect_crash())
		return;

	/*
	 * Per-CPU kernel threads would only burden a shared queue, where every
	 * other CPU has to skip them. Their work is urgent and short.
	 */
	if (is_urgent(p)) {
		dsq_insert(p, SCX_VAL(scx_dsq_id_flags, SCX_DSQ_LOCAL), slice_ns, enq_flags);
		return;
	}
	if (!stalled() && defect_enqueue(p, tctx, enq_flags))
		return;

	if (!has_queues()) {
		enqueue_global(p, enq_flags);
		return;
	}
	/* If CPUs cannot be kicked, insert the task directly on an idle one, which wakes it. */
	if (!can_kick() && !stalled() && !kick_forgotten(p)) {
		cpu = claim_idle_cpu(p, cpu);
		if (cpu >= 0) {
			dsq_insert(p, SCX_VAL(scx_dsq_id_flags, SCX_DSQ_LOCAL_ON) | cpu,
				   slice_of(p), enq_flags);
			return;
		}
	}
	if (tctx)
		follow_llc(p, tctx, llc);
	dsq_insert_vtime(p, llc, slice_of(p), place(p, tctx, llc, enq_flags), enq_flags);

	/*
	 * A CPU may have gone idle since select_cpu looked, or select_cpu was
	 * not called at all (end of slice, change of affinity). Such a CPU saw
	 * empty queues, and nobody else would wake it for this task.
	 */
	if (!can_kick() || kick_forgotten(p))
		return;
	cpu = claim_idle_cpu(p, cpu);
	if (cpu >= 0)
		kick_cpu(cpu, SCX_VAL(scx_kick_flags, SCX_KICK_IDLE));
}

/*
 * Should `prev` continue although others wait? It is not in the queue while
 * the next task is chosen. Without this check, two tasks would always
 * alternate, whatever their weights.
 */
static __always_inline bool is_due(struct task_struct *prev, u32 llc)
{
	struct task_ctx *tctx = ctx_of(prev);
	struct task_struct *next;
	u64 used;

	if (!tctx || tctx->yielded || never_goes_on() ||
	    !(prev->scx.flags & SCX_VAL(scx_ent_flags, SCX_TASK_QUEUED)))
		return false;
	next = dsq_peek(llc);
	if (!next)
		return false;
	used = prev->se.sum_exec_runtime - tctx->exec_start;
	return before(prev->scx.dsq_vtime + charge(prev, used), next->scx.dsq_vtime);
}

/*
 * Takes a task from the longest queue if that is longer than our own. Nothing
 * else would move tasks between busy LLCs. A difference of one is enough, so
 * tasks that cannot be divided evenly take turns in the longer queue.
 */
static __always_inline bool balance(u32 own)
{
	s32 longest = dsq_nr_queued(own);
	u32 from = own;

	for (u32 llc = 0; llc < KTSTR_MAX_LLCS && llc < nr_llcs; llc++) {
		s32 queued = dsq_nr_queued(llc);

		if (queued > longest) {
			longest = queued;
			from = llc;
		}
	}
	return from != own && dsq_move_to_local(from);
}

OPS(dispatch)
void ktstr_dispatch(u64 *args)
{
	s32 cpu = args[0];
	struct task_struct *prev = (void *)args[1];
	u32 zero = 0, own = llc_of(cpu);
	struct ktstr_pcpu *pcpu = bpf_map_lookup_elem(&ktstr_pcpu_fix, &zero);

	bump(&nr_dispatched);
	if (pcpu) {
		pcpu->magic = KTSTR_STATS_MAGIC;
		pcpu->nr_dispatched++;
	}
	if (defect_crash() || defect_dispatch(cpu))
		return;

	if (nr_llcs > 1 && !never_steals() && pcpu && pcpu->nr_dispatched % BALANCE_PERIOD == 0 &&
	    balance(own)) {
		pcpu->nr_stolen++;
		return;
	}
	if (prev && is_due(prev, own)) {
		task_set_slice(prev, slice_of(prev));
		return;
	}
	if (dsq_move_to_local(own)) {
		hoard(own);
		return;
	}
	for (u32 i = 1; i < KTSTR_MAX_LLCS && i < nr_llcs && !never_steals(); i++) {
		u32 llc = own + i;

		if (llc >= nr_llcs)
			llc -= nr_llcs;
		if (dsq_move_to_local(llc)) {
			if (pcpu)
				pcpu->nr_stolen++;
			return;
		}
	}
	if (dispatch_parked(prev))
		return;

	/*
	 * No other task waits, so prev gets another slice without stopping if it
	 * wants one. CPU time that nobody else wanted is not charged, because
	 * prev would later have to wait until new tasks have used as much.
	 */
	if (prev) {
		struct task_ctx *tctx = ctx_of(prev);

		if (tctx)
			tctx->exec_start = prev->se.sum_exec_runtime;
	}
}

OPS(running)
void ktstr_running(u64 *args)
{
	struct task_struct *p = (void *)args[0];
	u32 llc = llc_of(scx_bpf_task_cpu(p));
	struct task_ctx *tctx = ctx_of(p);
	u64 vtime;

	if (!tctx)
		return;
	follow_llc(p, tctx, llc);
	defect_running(p, tctx, scx_bpf_task_cpu(p));
	tctx->exec_start = p->se.sum_exec_runtime;

	/* Racing CPUs may lose an update; the next task to run makes up for it. */
	vtime = p->scx.dsq_vtime;
	if (llc < KTSTR_MAX_LLCS && before(llc_vtime[llc], vtime))
		llc_vtime[llc] = vtime;
}

OPS(stopping)
void ktstr_stopping(u64 *args)
{
	struct task_struct *p = (void *)args[0];
	struct task_ctx *tctx = ctx_of(p);
	u64 used;

	if (!tctx)
		return;
	used = p->se.sum_exec_runtime - tctx->exec_start;
	/* sched_yield() gives up the rest of the slice; otherwise the same task would be next again. */
	if (tctx->yielded && used < slice_ns)
		used = slice_ns;
	tctx->yielded = 0;
	tctx->exec_start = p->se.sum_exec_runtime;
	task_set_vtime(p, p->scx.dsq_vtime + charge(p, used));
}

OPS(yield)
bool ktstr_yield(u64 *args)
{
	struct task_struct *from = (void *)args[0];
	struct task_struct *to = (void *)args[1];
	struct task_ctx *tctx = ctx_of(from);

	bump(&nr_yielded);
	/* yield_to(): this scheduler cannot promise the CPU to the other task. */
	if (to)
		return false;
	if (tctx)
		tctx->yielded = 1;
	task_set_slice(from, 0);
	return false;
}

OPS(init_task)
s32 ktstr_init_task(u64 *args)
{
	struct task_struct *p = (void *)args[0];

	if (!bpf_task_storage_get(&ktstr_task_ctx, p, 0, BPF_LOCAL_STORAGE_GET_F_CREATE))
		return -ENOMEM;
	bump(&ktstr_alloc_count);
	return 0;
}

OPS(enable)
void ktstr_enable(u64 *args)
{
	struct task_struct *p = (void *)args[0];
	struct task_ctx *tctx = ctx_of(p);
	u32 llc = llc_of(scx_bpf_task_cpu(p));
	u64 behind = 0;

	if (tctx) {
		tctx->llc = llc;
		behind = defect_enable(p, tctx);
	}
	task_set_vtime(p, clock_of(llc) + behind);
}

SEC("struct_ops.s/ktstr_init")
s32 ktstr_init(u64 *args)
{
	s32 err;

	defect_verify();
	no_queues = !has_queues();
	for (u32 llc = 0; llc < KTSTR_MAX_LLCS && llc < nr_llcs; llc++) {
		err = create_dsq(llc);
		if (err) {
			ktstr_error("ktstr: cannot create queue %u: error %d", llc, err);
			return err;
		}
	}
	err = defect_init();
	if (err)
		return err;
	create_pointers();
	bump(&ktstr_bss_arena_holder.bss_plain_counter);
	stats_magic = KTSTR_STATS_MAGIC;
	return 0;
}

OPS(exit)
void ktstr_exit(u64 *args)
{
	struct scx_exit_info *ei = (void *)args[0];

	bpf_probe_read_kernel_str(exit_record.reason, sizeof(exit_record.reason), ei->reason);
	bpf_probe_read_kernel_str(exit_record.msg, sizeof(exit_record.msg), ei->msg);
	bpf_probe_read_kernel_str(exit_record.dump, sizeof(exit_record.dump), ei->dump);
	exit_record.code = ei->exit_code;
	/* User space waits for this field; the atomic orders it after the others. */
	__sync_val_compare_and_swap(&exit_record.kind, 0, ei->kind);
}

OPS(dump)
void ktstr_dump(u64 *args)
{
	ktstr_dump_line("ktstr: dispatched=%llu enqueued=%llu select_cpu=%llu yielded=%llu",
			nr_dispatched, nr_enqueued, nr_select_cpu, nr_yielded);
	ktstr_dump_line("ktstr: injected faults: stall=%u crash=%u degrade=%u defects=0x%llx",
			stall, crash, degrade_rt, defects);
	for (u32 llc = 0; llc < KTSTR_MAX_LLCS && llc < nr_llcs; llc++)
		ktstr_dump_line("ktstr: llc %u: vtime=%llu queued=%d", llc, clock_of(llc),
				dsq_nr_queued(llc));
}

SEC(".struct_ops.link")
struct sched_ext_ops ktstr_ops = {
	.select_cpu = (void *)ktstr_select_cpu,
	.enqueue = (void *)ktstr_enqueue,
	.dispatch = (void *)ktstr_dispatch,
	.running = (void *)ktstr_running,
	.stopping = (void *)ktstr_stopping,
	.yield = (void *)ktstr_yield,
	.init_task = (void *)ktstr_init_task,
	.enable = (void *)ktstr_enable,
	.dump = (void *)ktstr_dump,
	.init = (void *)ktstr_init,
	.exit = (void *)ktstr_exit,
	.timeout_ms = 20000,
	.name = "ktstr",
};
