//! BPF objects in the kernel: maps and programs.
//!
//! Everything is found from two id allocators, `map_idr` and `prog_idr` (kernel/bpf/syscall.c).

pub mod hash;
pub mod maps;
pub mod progs;
pub mod storage;
pub mod variable;
