/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's types, as far as this scheduler uses them.
 *
 * Every structure is `preserve_access_index`: libbpf relocates field offsets
 * against the BTF of the running kernel, so only the names matter, not the
 * layout. A short list of what is used is more readable than a 3 MB vmlinux.h,
 * and cannot silently tie the build to one kernel's layout.
 *
 * This file does not declare kfuncs (kfuncs.h does) or our own types (state.bpf.h).
 */
#ifndef KTSTR_KERNEL_H
#define KTSTR_KERNEL_H

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __s32 s32;
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __s64 s64;
typedef __u64 u64;
/* bpf_helper_defs.h uses these in prototypes. */
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;

enum { false = 0, true = 1 };

/* uapi/linux/bpf.h: the map types and flags used by state.bpf.h and pointers.bpf.h. */
enum bpf_map_type {
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
	BPF_MAP_TYPE_ARENA = 33,
};

#define BPF_F_NO_PREALLOC 1
#define BPF_F_MMAPABLE 0x400
#define BPF_LOCAL_STORAGE_GET_F_CREATE 1

/* include/linux/sched.h */
#define PF_KTHREAD 0x00200000

#define ENOMEM 12
#define NULL ((void *)0)

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* This is only passed on, but an incomplete type would not match the kfuncs' prototypes. */
struct cpumask {
	unsigned long bits[1];
};

/* kernel/bpf/cpumask.c */
struct bpf_cpumask {
	struct cpumask cpumask;
};

struct sched_entity {
	u64 sum_exec_runtime;
};

struct kernfs_node {
	u64 id;
};

struct cgroup {
	int level;
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct sched_ext_entity {
	u32 flags;
	u32 weight;
	u64 slice;
	u64 dsq_vtime;
};

struct task_struct {
	unsigned int flags;
	int pid;
	char comm[16];
	int nr_cpus_allowed;
	const struct cpumask *cpus_ptr;
	unsigned short migration_disabled;
	struct sched_entity se;
	struct sched_ext_entity scx;
	struct css_set *cgroups;
};

struct scx_init_task_args {
	bool fork;
};

/* Passed on as a number; src/exit.rs knows the values. */
enum scx_exit_kind {
	SCX_EXIT_NONE = 0,
};

struct scx_exit_info {
	enum scx_exit_kind kind;
	s64 exit_code;
	const char *reason;
	char *msg;
	char *dump;
};

struct scx_dump_ctx {
	u64 at_ns;
};

#pragma clang attribute pop

/*
 * kernel/sched/ext_internal.h (kernel/sched/ext.c before 6.18). libbpf copies
 * the members by name into the kernel's own structure, so their order does not
 * matter and unused members are left out.
 */
struct sched_ext_ops {
	s32 (*select_cpu)(struct task_struct *p, s32 prev_cpu, u64 wake_flags);
	void (*enqueue)(struct task_struct *p, u64 enq_flags);
	void (*dispatch)(s32 cpu, struct task_struct *prev);
	void (*running)(struct task_struct *p);
	void (*stopping)(struct task_struct *p, bool runnable);
	bool (*yield)(struct task_struct *from, struct task_struct *to);
	s32 (*init_task)(struct task_struct *p, struct scx_init_task_args *args);
	void (*enable)(struct task_struct *p);
	void (*dump)(struct scx_dump_ctx *ctx);
	s32 (*init)(void);
	void (*exit)(struct scx_exit_info *ei);
	u64 flags;
	u32 timeout_ms;
	u64 hotplug_seq;
	char name[128];
};

/*
 * These values have changed between kernels (SCX_ENQ_HEAD follows
 * ENQUEUE_HEAD, which changed), so each use goes through SCX_VAL(), a CO-RE
 * relocation that reads the running kernel's value.
 */
enum scx_dsq_id_flags {
	SCX_DSQ_GLOBAL = 0x8000000000000001ULL,
	SCX_DSQ_LOCAL = 0x8000000000000002ULL,
	SCX_DSQ_LOCAL_ON = 0xc000000000000000ULL,
};

enum scx_enq_flags {
	SCX_ENQ_WAKEUP = 1,
	/* Makes the enum 64 bits wide, like the kernel's. */
	SCX_ENQ_PREEMPT = 1ULL << 32,
};

enum scx_kick_flags {
	SCX_KICK_IDLE = 1,
	SCX_KICK_PREEMPT = 2,
};

enum scx_ent_flags {
	SCX_TASK_QUEUED = 1,
};

#define SCX_VAL(type, name) bpf_core_enum_value(enum type, name)

#endif /* KTSTR_KERNEL_H */
