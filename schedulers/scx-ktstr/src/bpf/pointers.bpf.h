/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pointers of each kind that schedulers keep in their maps, as test data for
 * readers of this scheduler's memory. No scheduling decision depends on them. A
 * pointer that the kernel cannot provide stays NULL.
 */
#ifndef KTSTR_POINTERS_BPF_H
#define KTSTR_POINTERS_BPF_H

#define __arena __attribute__((address_space(1)))
#define NUMA_NO_NODE (-1)

/* ---- references to objects of the kernel ---- */

struct ktstr_kptrs {
	/* The CPUs of the first LLC. */
	struct bpf_cpumask __kptr *first_llc;
	/* The task that ran ops.init. */
	struct task_struct __kptr *initiator;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct ktstr_kptrs);
} ktstr_kptrs SEC(".maps");

struct bpf_cpumask *bpf_cpumask_create(void) __ksym __weak;
void bpf_cpumask_set_cpu(u32 cpu, struct bpf_cpumask *mask) __ksym __weak;
void bpf_cpumask_release(struct bpf_cpumask *mask) __ksym __weak;
struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym __weak;
void bpf_task_release(struct task_struct *p) __ksym __weak;

static __always_inline void keep_mask(struct ktstr_kptrs *kptrs)
{
	struct bpf_cpumask *mask;

	if (!bpf_ksym_exists(bpf_cpumask_create) || !bpf_ksym_exists(bpf_cpumask_set_cpu) ||
	    !bpf_ksym_exists(bpf_cpumask_release))
		return;
	mask = bpf_cpumask_create();
	if (!mask)
		return;
	for (u32 cpu = 0; cpu < KTSTR_MAX_CPUS && cpu < nr_cpus; cpu++) {
		if (cpu_llc[cpu] == 0)
			bpf_cpumask_set_cpu(cpu, mask);
	}
	mask = bpf_kptr_xchg(&kptrs->first_llc, mask);
	if (mask)
		bpf_cpumask_release(mask);
}

static __always_inline void keep_task(struct ktstr_kptrs *kptrs)
{
	struct task_struct *task;

	if (!bpf_ksym_exists(bpf_task_acquire) || !bpf_ksym_exists(bpf_task_release))
		return;
	task = bpf_task_acquire(bpf_get_current_task_btf());
	if (!task)
		return;
	task = bpf_kptr_xchg(&kptrs->initiator, task);
	if (task)
		bpf_task_release(task);
}

/* ---- a list in an arena ---- */

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	/* The number of pages. */
	__uint(max_entries, 1);
} ktstr_arena SEC(".maps");

struct ktstr_arena_node {
	u64 number;
	struct ktstr_arena_node __arena *next;
};

/* Two nodes with the numbers 1 and 2. */
struct ktstr_arena_node __arena *ktstr_arena_list;

void __arena *bpf_arena_alloc_pages(void *map, void __arena *addr, u32 page_cnt, int node_id,
				    u64 flags) __ksym __weak;

static __always_inline void create_arena_list(void)
{
	struct ktstr_arena_node __arena *node;

	if (!bpf_ksym_exists(bpf_arena_alloc_pages))
		return;
	node = bpf_arena_alloc_pages(&ktstr_arena, NULL, 1, NUMA_NO_NODE, 0);
	if (!node)
		return;
	node[0].number = 1;
	node[0].next = &node[1];
	node[1].number = 2;
	node[1].next = NULL;
	ktstr_arena_list = node;
	ktstr_bss_arena_holder.arena_target = (u64)node;
}

static __always_inline void create_pointers(void)
{
	u32 zero = 0;
	struct ktstr_kptrs *kptrs = bpf_map_lookup_elem(&ktstr_kptrs, &zero);

	if (kptrs) {
		keep_mask(kptrs);
		keep_task(kptrs);
	}
	create_arena_list();
}

#endif /* KTSTR_POINTERS_BPF_H */
