//! BPF objects in the kernel: maps and programs.
//!
//! All of them are found through two id allocators, `map_idr` and `prog_idr` (kernel/bpf/syscall.c).

pub mod arena;
pub mod hash;
pub mod maps;
pub mod progs;
pub mod storage;
pub mod variable;
