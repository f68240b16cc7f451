//! QEMU's plugin interface, as far as it is used: API version 4 (QEMU 10.0), and what was there
//! before. The functions are QEMU's and GLib's own; they are found when QEMU loads the plugin.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr::NonNull;

/// A block while it is translated.
#[repr(C)]
pub struct Block {
    _opaque: [u8; 0],
}

/// An instruction while it is translated.
#[repr(C)]
pub struct Instruction {
    _opaque: [u8; 0],
}

/// What a callback may do: nothing with registers (`QEMU_PLUGIN_CB_NO_REGS`), so that none is saved for it.
const NO_REGISTERS: c_uint = 0;
/// What a callback may do: read registers (`QEMU_PLUGIN_CB_R_REGS`).
const READS_REGISTERS: c_uint = 1;

/// Start of `qemu_info_t`.
#[repr(C)]
pub struct Info {
    pub target: *const c_char,
    pub oldest_api: c_int,
    pub newest_api: c_int,
    pub system: bool,
}

/// `GArray` and `GByteArray` of GLib: what is public of them.
#[repr(C)]
struct GArray {
    data: *mut u8,
    len: c_uint,
}

/// `qemu_plugin_reg_descriptor`.
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

/// The right to move QEMU's clock, which is used only to end turns. A machine whose plugin has it cannot be saved.
pub struct TimeControl(*const c_void);

// SAFETY: the address of a static of QEMU's, which is compared and never written through.
unsafe impl Send for TimeControl {}
// SAFETY: as above.
unsafe impl Sync for TimeControl {}

impl TimeControl {
    /// Asks for it; `None` if another plugin has it.
    pub fn request() -> Option<Self> {
        // SAFETY: no arguments; called while the plugin is installed.
        let handle = unsafe { qemu_plugin_request_time_control() };
        (!handle.is_null()).then_some(Self(handle))
    }

    /// Ends the turn of the CPU that executes the callback, when its block ends. QEMU moves its clock in work for that
    /// CPU and kicks it for that (`qemu_plugin_update_ns` in plugins/api-system.c, QEMU 10.0); the clock never goes
    /// back, so a time in the past moves nothing.
    pub fn end_turn(&self) {
        // SAFETY: QEMU's own handle; called in a callback of a virtual CPU.
        unsafe { qemu_plugin_update_ns(self.0, 0) }
    }
}

/// Calls `callback` for each virtual CPU once it exists.
pub fn on_vcpu(plugin: u64, callback: OnVcpu) {
    // SAFETY: a registration; the callback is a function of this plugin, which is never unloaded.
    unsafe { qemu_plugin_register_vcpu_init_cb(plugin, callback) }
}

/// Calls `callback` for each block that is translated.
pub fn on_translation(plugin: u64, callback: OnTranslation) {
    // SAFETY: as in `on_vcpu`.
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(plugin, callback) }
}

/// A block, for as long as its translation callback runs.
pub struct Translation(*mut Block);

impl Translation {
    /// # Safety
    /// `block` must be the argument of the translation callback that is running.
    pub unsafe fn new(block: *mut Block) -> Self {
        Self(block)
    }

    /// Calls `callback` before the block each time it is executed.
    pub fn on_block(&self, callback: OnExecution) {
        // SAFETY: the block lives (`new`); the callback gets no data.
        unsafe {
            qemu_plugin_register_vcpu_tb_exec_cb(
                self.0,
                callback,
                READS_REGISTERS,
                std::ptr::null_mut(),
            );
        }
    }

    /// Calls `callback` with the number of its instructions before the block each time it is executed.
    pub fn on_count(&self, callback: OnExecution) {
        // SAFETY: the block lives (`new`); the data is a number, never dereferenced.
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

    /// Its instructions in order.
    pub fn instructions(&self) -> impl Iterator<Item = Translated> + '_ {
        // SAFETY: the block lives (`new`), and so do its instructions; one that does not exist
        // is a null pointer.
        (0..unsafe { qemu_plugin_tb_n_insns(self.0) })
            .filter_map(|i| NonNull::new(unsafe { qemu_plugin_tb_get_insn(self.0, i) }))
            .map(Translated)
    }
}

/// An instruction of a [`Translation`].
pub struct Translated(NonNull<Instruction>);

impl Translated {
    /// Guest-virtual address.
    pub fn address(&self) -> u64 {
        // SAFETY: it lives as long as its `Translation`.
        unsafe { qemu_plugin_insn_vaddr(self.0.as_ptr()) }
    }

    /// Whether these are its bytes.
    pub fn is<const N: usize>(&self, bytes: [u8; N]) -> bool {
        let mut found = [0u8; N];
        // SAFETY: as above; QEMU stores at most `N` bytes.
        unsafe {
            qemu_plugin_insn_size(self.0.as_ptr()) == N
                && qemu_plugin_insn_data(self.0.as_ptr(), found.as_mut_ptr().cast(), N) == N
                && found == bytes
        }
    }

    /// Calls `callback` with `data` before each execution.
    pub fn on_execution(&self, callback: OnExecution, data: usize) {
        // SAFETY: as above; the data is a number, never dereferenced.
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

/// Handles of the registers that are read, and QEMU's kind of buffer to read into.
pub struct Reader {
    handles: [*mut c_void; REGISTERS.len()],
    buffer: *mut GArray,
}

// SAFETY: handles are numbers in disguise, good for every CPU and thread; the buffer is reached
// through `&mut self` only.
unsafe impl Send for Reader {}

/// A register that is read: its place in [`REGISTERS`].
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

/// Their names in QEMU's description for gdb.
const REGISTERS: [&CStr; 7] = [c"rax", c"rdi", c"rsi", c"rdx", c"rcx", c"r8", c"gs_base"];

impl Register {
    /// The register of a function's argument, counted from 0.
    pub fn argument(number: u32) -> Option<Self> {
        [Self::Rdi, Self::Rsi, Self::Rdx, Self::Rcx, Self::R8]
            .get(number as usize)
            .copied()
    }
}

impl Reader {
    /// Finds the registers of the current CPU: to be called in a callback that has one.
    pub fn new() -> Option<Self> {
        // SAFETY: the array is QEMU's answer and is freed here once; names are interned
        // strings, which live for ever; the size is that of `qemu_plugin_reg_descriptor`.
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

    /// Value of `register` on the current CPU.
    pub fn register(&mut self, register: Register) -> Option<u64> {
        let handle = self.handles[register as usize];
        // SAFETY: the handle is QEMU's, the buffer ours; callers run in callbacks registered
        // with `READS_REGISTERS`.
        unsafe {
            g_byte_array_set_size(self.buffer, 0);
            qemu_plugin_read_register(handle, self.buffer);
        }
        self.bytes().map(u64::from_le_bytes)
    }

    /// 8 bytes at guest-virtual `address`.
    pub fn u64(&mut self, address: u64) -> Option<u64> {
        self.memory(address).map(u64::from_le_bytes)
    }

    /// 4 bytes at guest-virtual `address`.
    pub fn u32(&mut self, address: u64) -> Option<u32> {
        self.memory(address).map(u32::from_le_bytes)
    }

    fn memory<const N: usize>(&mut self, address: u64) -> Option<[u8; N]> {
        // SAFETY: QEMU walks the guest's page tables and fills the buffer, or says no.
        let read = unsafe { qemu_plugin_read_memory_vaddr(address, self.buffer, N) };
        if read { self.bytes() } else { None }
    }

    /// The buffer's bytes, if there are as many as asked for.
    fn bytes<const N: usize>(&self) -> Option<[u8; N]> {
        // SAFETY: `buffer` is a live GByteArray; its length is checked before its data is used.
        unsafe {
            let buffer = &*self.buffer;
            (buffer.len as usize == N && !buffer.data.is_null())
                .then(|| buffer.data.cast::<[u8; N]>().read_unaligned())
        }
    }
}
