//! Kernel memory that operations read and write from outside the guest: the address, the value and its width.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The largest number of bytes that one operation may read, or write in total.
pub const MAX_KERNEL_BYTES: usize = 4096;

/// A place in the memory of the guest's kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelTarget {
    /// A variable of the kernel image by its exact name in `/proc/kallsyms`. For a per-CPU variable use
    /// [`KernelTarget::PerCpuField`].
    Symbol(Cow<'static, str>),
    /// A virtual address in the kernel's direct mapping of physical memory.
    Direct(u64),
    /// Any virtual address that the kernel has mapped.
    Kva(u64),
    /// A per-CPU variable, or a member of it, in the copy of one CPU.
    PerCpuField {
        /// The variable, such as `runqueues`.
        symbol: Cow<'static, str>,
        /// The member inside it, with dots between the parts; empty for the whole variable.
        field: Cow<'static, str>,
        /// The number of the CPU.
        cpu: u32,
    },
    /// A member of a task's `struct task_struct`.
    TaskField {
        /// The pid of the task in the guest's root pid namespace.
        pid: i32,
        /// The start time of the task, which distinguishes it from a later task with the same pid. The value is the task's
        /// `start_time` or `start_boottime` in nanoseconds, or its `start_boottime` rounded down to 10 ms, as in
        /// `/proc/PID/stat`. 0 accepts any task.
        expected_start_time_ns: u64,
        /// The member, with dots between the parts.
        field: Cow<'static, str>,
    },
}

impl KernelTarget {
    /// The variable of this name.
    pub fn symbol(name: impl Into<Cow<'static, str>>) -> Self {
        Self::Symbol(name.into())
    }

    /// The memory at this address in the direct mapping.
    pub const fn direct(address: u64) -> Self {
        Self::Direct(address)
    }

    /// The memory at this kernel virtual address.
    pub const fn kva(address: u64) -> Self {
        Self::Kva(address)
    }

    /// A member of CPU `cpu`'s copy of a per-CPU variable.
    pub fn per_cpu_field(
        symbol: impl Into<Cow<'static, str>>,
        field: impl Into<Cow<'static, str>>,
        cpu: u32,
    ) -> Self {
        Self::PerCpuField {
            symbol: symbol.into(),
            field: field.into(),
            cpu,
        }
    }

    /// A member of the `struct task_struct` of task `pid`; see [`KernelTarget::TaskField`] for the start time.
    pub fn task_field(
        pid: i32,
        expected_start_time_ns: u64,
        field: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::TaskField {
            pid,
            expected_start_time_ns,
            field: field.into(),
        }
    }
}

impl fmt::Display for KernelTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol(name) => write!(f, "the kernel's variable {name:?}"),
            Self::Direct(address) => write!(f, "the address {address:#x} of the direct mapping"),
            Self::Kva(address) => write!(f, "the kernel address {address:#x}"),
            Self::PerCpuField { symbol, field, cpu } => {
                write!(f, "{field:?} of {symbol:?} on CPU {cpu}")
            }
            Self::TaskField { pid, field, .. } => write!(f, "{field:?} of task {pid}"),
        }
    }
}

/// A value to be written, or a value that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelValue {
    /// A word of four bytes, least significant byte first in memory.
    U32(u32),
    /// A word of eight bytes, least significant byte first in memory.
    U64(u64),
    /// These bytes, from 1 to [`MAX_KERNEL_BYTES`] of them.
    Bytes(Vec<u8>),
    /// Sets these bits in the four bytes at the target and keeps the others. A read never returns this variant.
    OrU32(u32),
}

impl KernelValue {
    /// A value of four bytes.
    pub const fn u32(value: u32) -> Self {
        Self::U32(value)
    }

    /// A value of eight bytes.
    pub const fn u64(value: u64) -> Self {
        Self::U64(value)
    }

    /// Bytes in the order of memory, from 1 to [`MAX_KERNEL_BYTES`] of them.
    pub fn bytes(value: impl Into<Vec<u8>>) -> Self {
        Self::Bytes(value.into())
    }

    /// A write that sets these bits in a word of four bytes and keeps the others.
    pub const fn or_u32(bits: u32) -> Self {
        Self::OrU32(bits)
    }

    /// Returns the width of the memory that a write of the value covers.
    pub const fn width(&self) -> KernelValueWidth {
        match self {
            Self::U32(_) | Self::OrU32(_) => KernelValueWidth::U32,
            Self::U64(_) => KernelValueWidth::U64,
            Self::Bytes(bytes) => KernelValueWidth::Bytes(bytes.len()),
        }
    }
}

/// The width of a read, or of the value of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelValueWidth {
    /// A word of four bytes, least significant byte first in memory.
    U32,
    /// A word of eight bytes, least significant byte first in memory.
    U64,
    /// This number of bytes, from 1 to [`MAX_KERNEL_BYTES`].
    Bytes(usize),
}

impl KernelValueWidth {
    /// A word of four bytes, least significant byte first in memory.
    pub const fn u32() -> Self {
        Self::U32
    }

    /// A word of eight bytes, least significant byte first in memory.
    pub const fn u64() -> Self {
        Self::U64
    }

    /// This number of bytes, from 1 to [`MAX_KERNEL_BYTES`].
    pub const fn bytes(count: usize) -> Self {
        Self::Bytes(count)
    }

    /// Returns the width in bytes.
    pub const fn len(self) -> usize {
        match self {
            Self::U32 => 4,
            Self::U64 => 8,
            Self::Bytes(count) => count,
        }
    }

    /// Returns whether the width is 0, which cannot be read.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Checks that this width can be read or written at once.
    ///
    /// # Errors
    /// A sentence with the number of bytes and the bounds.
    pub fn validate(self) -> Result<(), String> {
        in_bounds(self.len())
    }
}

/// Checks that one operation can do these writes: each of them has at least one byte, and all of them together have at most
/// [`MAX_KERNEL_BYTES`].
///
/// # Errors
/// A sentence that names the target for which no bytes are given, or that gives the number of bytes of all writes and the bounds.
pub fn validate_writes(writes: &[(KernelTarget, KernelValue)]) -> Result<(), String> {
    if let Some((target, _)) = writes.iter().find(|(_, v)| v.width().is_empty()) {
        return Err(format!("no bytes are given for {target}"));
    }
    let lengths = writes.iter().map(|(_, value)| value.width().len());
    in_bounds(lengths.fold(0, usize::saturating_add))
}

fn in_bounds(bytes: usize) -> Result<(), String> {
    if (1..=MAX_KERNEL_BYTES).contains(&bytes) {
        return Ok(());
    }
    Err(format!(
        "{bytes} bytes of kernel memory in one operation: an operation can read or write 1 to {MAX_KERNEL_BYTES}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_has_some_bytes_and_not_too_many() {
        let at = KernelTarget::symbol("jiffies");
        let write = |value| validate_writes(&[(at.clone(), value)]);
        assert_eq!(write(KernelValue::u64(1)), Ok(()));
        assert_eq!(write(KernelValue::bytes(vec![0; 4096])), Ok(()));
        assert!(write(KernelValue::bytes(vec![0; 4097])).is_err());
        let none = write(KernelValue::bytes([])).expect_err("no bytes");
        assert!(none.contains("\"jiffies\""), "{none}");
        assert!(validate_writes(&[]).is_err());
        assert!(KernelValueWidth::bytes(0).validate().is_err());
        assert_eq!(KernelValue::or_u32(1).width(), KernelValueWidth::u32());
    }
}
