//! Bindings to the parts of QEMU's plugin interface that the plugin uses: functions of API version 4 (QEMU 10.0) and of
//! earlier versions. The functions belong to QEMU and GLib, and are bound at their first call (see `build.rs`).

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr::NonNull;

/// A block of guest instructions during its translation by TCG.
#[repr(C)]
pub struct Block {
    _opaque: [u8; 0],
}

/// An instruction during its translation.
#[repr(C)]
pub struct Instruction {
    _opaque: [u8; 0],
}

/// The flag of a callback that does not access registers (`QEMU_PLUGIN_CB_NO_REGS`), so that QEMU saves none for it.
const NO_REGISTERS: c_uint = 0;
/// The flag of a callback that may read registers (`QEMU_PLUGIN_CB_R_REGS`).
const READS_REGISTERS: c_uint = 1;

/// The first fields of `qemu_info_t`.
#[repr(C)]
pub struct Info {
    pub target: *const c_char,
    pub oldest_api: c_int,
    pub newest_api: c_int,
    pub system: bool,
}

/// The public part of GLib's `GArray` and `GByteArray`.
#[repr(C)]
struct GArray {
    data: *mut u8,
    len: c_uint,
}

/// QEMU's description of a register (`qemu_plugin_reg_descriptor` in its header qemu-plugin.h).
#[repr(C)]
struct RegisterDescriptor {
    handle: *mut c_void,
    name: *const c_char,
    feature: *const c_char,
}

pub type OnExecution = extern "C" fn(c_uint, *mut c_void);
pub type OnTranslation = extern "C" fn(u64, *mut Block);
pub type OnVcpu = extern "C" fn(u64, c_uint);

unsafe extern "C" {
    fn qemu_plugin_register_vcpu_init_cb(id: u64, callback: OnVcpu);
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: u64, callback: OnTranslation);
    fn qemu_plugin_register_vcpu_tb_exec_cb(
        block: *mut Block,
        callback: OnExecution,
        flags: c_uint,
        data: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_insn_exec_cb(
        instruction: *mut Instruction,
        callback: OnExecution,
        flags: c_uint,
        data: *mut c_void,
    );
    fn qemu_plugin_tb_n_insns(block: *const Block) -> usize;
    fn qemu_plugin_tb_get_insn(block: *const Block, index: usize) -> *mut Instruction;
    fn qemu_plugin_insn_data(from: *const Instruction, to: *mut c_void, len: usize) -> usize;
    fn qemu_plugin_insn_size(instruction: *const Instruction) -> usize;
    fn qemu_plugin_insn_vaddr(instruction: *const Instruction) -> u64;
    fn qemu_plugin_get_registers() -> *mut GArray;
    fn qemu_plugin_read_register(handle: *mut c_void, into: *mut GArray) -> c_int;
    fn qemu_plugin_read_memory_vaddr(address: u64, into: *mut GArray, len: usize) -> bool;
    fn qemu_plugin_request_time_control() -> *const c_void;
    fn qemu_plugin_update_ns(handle: *const c_void, ns: i64);

    fn g_byte_array_new() -> *mut GArray;
    fn g_byte_array_set_size(array: *mut GArray, len: c_uint) -> *mut GArray;
    fn g_array_free(array: *mut GArray, free_data: c_int) -> *mut c_char;
}

/// The right to set QEMU's clock, which the plugin uses only to end turns. QEMU does not save a machine whose plugin holds this
/// right.
pub struct TimeControl(*const c_void);

// SAFETY: this is the address of a static variable of QEMU, which is only compared.
unsafe impl Send for TimeControl {}
// SAFETY: as above.
unsafe impl Sync for TimeControl {}

impl TimeControl {
    /// Requests the right; `None` if another plugin holds it.
    pub fn request() -> Option<Self> {
        // SAFETY: the function has no arguments, and is called while the plugin is installed.
        let handle = unsafe { qemu_plugin_request_time_control() };
        (!handle.is_null()).then_some(Self(handle))
    }

    /// Ends the turn of the CPU that executes the callback, at the end of its block. QEMU sets its clock in a work item
    /// for that CPU, for which it kicks the CPU (`qemu_plugin_update_ns` in plugins/api-system.c, QEMU 10.0). The clock
    /// never goes backwards, so a time in the past does not change it.
    pub fn end_turn(&self) {
        // SAFETY: the handle is QEMU's own, and this is called in a callback of a virtual CPU.
        unsafe { qemu_plugin_update_ns(self.0, 0) }
    }
}

/// Calls `callback` for each virtual CPU after its creation.
pub fn on_vcpu(plugin: u64, callback: OnVcpu) {
    // SAFETY: this registers a function of this plugin, which is never unloaded.
    unsafe { qemu_plugin_register_vcpu_init_cb(plugin, callback) }
}

/// Calls `callback` for each block that is translated.
pub fn on_translation(plugin: u64, callback: OnTranslation) {
    // SAFETY: as in `on_vcpu`.
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(plugin, callback) }
}

/// A block, which is valid while its translation callback runs.
pub struct Translation(*mut Block);

impl Translation {
    /// # Safety
    /// `block` must be the argument of the translation callback that is running.
    pub unsafe fn new(block: *mut Block) -> Self {
        Self(block)
    }

    /// Calls `callback`, which may read registers, before each execution of the block.
    pub fn on_block(&self, callback: OnExecution) {
        // SAFETY: the block is valid (`new`), and the callback gets no data.
        unsafe {
            qemu_plugin_register_vcpu_tb_exec_cb(
                self.0,
                callback,
                READS_REGISTERS,
                std::ptr::null_mut(),
            );
        }
    }

    /// Calls `callback`, which may not read registers, before each execution of the block. Its data is the number of
    /// instructions in the block.
    pub fn on_count(&self, callback: OnExecution) {
        // SAFETY: the block is valid (`new`), and the data is a number that is never dereferenced.
        unsafe {
            let count = qemu_plugin_tb_n_insns(self.0);
            qemu_plugin_register_vcpu_tb_exec_cb(
                self.0,
                callback,
                NO_REGISTERS,
                count as *mut c_void,
            );
        }
    }

    /// Returns the instructions of the block in order.
    pub fn instructions(&self) -> impl Iterator<Item = Translated> + '_ {
        // SAFETY: the block is valid (`new`), and so are its instructions. An instruction that does not exist is a null
        // pointer.
        (0..unsafe { qemu_plugin_tb_n_insns(self.0) })
            .filter_map(|i| NonNull::new(unsafe { qemu_plugin_tb_get_insn(self.0, i) }))
            .map(Translated)
    }
}

/// An instruction of a [`Translation`].
pub struct Translated(NonNull<Instruction>);

impl Translated {
    /// Returns the guest-virtual address of the instruction.
    pub fn address(&self) -> u64 {
        // SAFETY: the instruction is valid as long as its `Translation`.
        unsafe { qemu_plugin_insn_vaddr(self.0.as_ptr()) }
    }

    /// Returns whether the instruction consists of these bytes.
    pub fn is<const N: usize>(&self, bytes: [u8; N]) -> bool {
        let mut found = [0u8; N];
        // SAFETY: as above; QEMU stores at most `N` bytes.
        unsafe {
            qemu_plugin_insn_size(self.0.as_ptr()) == N
                && qemu_plugin_insn_data(self.0.as_ptr(), found.as_mut_ptr().cast(), N) == N
                && found == bytes
        }
    }

    /// Calls `callback`, which may read registers, with `data` before each execution of the instruction.
    pub fn on_execution(&self, callback: OnExecution, data: usize) {
        // SAFETY: as above, and the data is a number that is never dereferenced.
        unsafe {
            qemu_plugin_register_vcpu_insn_exec_cb(
                self.0.as_ptr(),
                callback,
                READS_REGISTERS,
                data as *mut c_void,
            );
        }
    }
}

/// The handles of the registers that are read, and a buffer of QEMU's type.
pub struct Reader {
    handles: [*mut c_void; REGISTERS.len()],
    buffer: *mut GArray,
}

// SAFETY: the handles are numbers in pointer form, which are valid for every CPU and thread. The buffer is accessed
// through `&mut self` only.
unsafe impl Send for Reader {}

/// A register that is read. The value is its index in [`REGISTERS`].
#[derive(Clone, Copy)]
pub enum Register {
    Rax,
    Rdi,
    Rsi,
    Rdx,
    Rcx,
    R8,
    GsBase,
}

/// The names of the registers in QEMU's description for gdb.
const REGISTERS: [&CStr; 7] = [c"rax", c"rdi", c"rsi", c"rdx", c"rcx", c"r8", c"gs_base"];

impl Register {
    /// Returns the register that holds a function's argument `number`, counted from 0; `None` from number 5 on.
    pub fn argument(number: u32) -> Option<Self> {
        [Self::Rdi, Self::Rsi, Self::Rdx, Self::Rcx, Self::R8]
            .get(number as usize)
            .copied()
    }
}

impl Reader {
    /// Locates the registers of the current CPU; `None` if QEMU lacks one of them. This must be called in a callback of a
    /// virtual CPU.
    pub fn new() -> Option<Self> {
        // SAFETY: the array is QEMU's answer and is freed here once. Names are interned strings, which are never freed.
        // The size is that of `qemu_plugin_reg_descriptor`.
        unsafe {
            let all = qemu_plugin_get_registers();
            let slice = match all.as_ref() {
                Some(array) if !array.data.is_null() => std::slice::from_raw_parts(
                    array.data.cast::<RegisterDescriptor>(),
                    array.len as usize,
                ),
                _ => return None,
            };
            let handles = REGISTERS.map(|name| {
                slice
                    .iter()
                    .find(|r| !r.name.is_null() && CStr::from_ptr(r.name) == name)
                    .map_or(std::ptr::null_mut(), |r| r.handle)
            });
            g_array_free(all, 1);
            if handles.contains(&std::ptr::null_mut()) {
                return None;
            }
            Some(Self {
                handles,
                buffer: g_byte_array_new(),
            })
        }
    }

    /// Returns the value of `register` on the current CPU; `None` if it does not have eight bytes.
    pub fn register(&mut self, register: Register) -> Option<u64> {
        let handle = self.handles[register as usize];
        // SAFETY: the handle is QEMU's and the buffer is ours. Callers run in callbacks that were registered with
        // `READS_REGISTERS`.
        unsafe {
            g_byte_array_set_size(self.buffer, 0);
            qemu_plugin_read_register(handle, self.buffer);
        }
        self.bytes().map(u64::from_le_bytes)
    }

    /// Reads 8 bytes at the guest-virtual `address`; `None` if it is not mapped.
    pub fn u64(&mut self, address: u64) -> Option<u64> {
        self.memory(address).map(u64::from_le_bytes)
    }

    /// Reads 4 bytes at the guest-virtual `address`; `None` if it is not mapped.
    pub fn u32(&mut self, address: u64) -> Option<u32> {
        self.memory(address).map(u32::from_le_bytes)
    }

    fn memory<const N: usize>(&mut self, address: u64) -> Option<[u8; N]> {
        // SAFETY: QEMU walks the guest's page tables and fills the buffer, or returns false.
        let read = unsafe { qemu_plugin_read_memory_vaddr(address, self.buffer, N) };
        if read { self.bytes() } else { None }
    }

    /// Returns the bytes of the buffer; `None` if it does not hold exactly `N`.
    fn bytes<const N: usize>(&self) -> Option<[u8; N]> {
        // SAFETY: `buffer` is a valid GByteArray, and its length is checked before its data is used.
        unsafe {
            let buffer = &*self.buffer;
            (buffer.len as usize == N && !buffer.data.is_null())
                .then(|| buffer.data.cast::<[u8; N]>().read_unaligned())
        }
    }
}
