//! The QEMU plugin of the virtual clock. It holds the guest at agreed points, follows its context switches, and records
//! the calls that make up its schedule, without executing a guest instruction and without using any guest time.
//!
//! The plugin requires a QEMU with one thread for all virtual CPUs and with instruction counting (`-accel
//! tcg,thread=single -icount …`): nothing in the guest advances until a callback returns. It is loaded with `-plugin
//! file=THIS,control=FILE`, where `FILE` is a [`control::Control`] that the host writes before QEMU starts.
//!
//! The CPU index that QEMU passes to a callback is not used: with one thread for all CPUs it is the index of the CPU
//! for which the block was first translated. The CPU's number is read from the guest instead.
//!
//! The plugin has no dependencies, so that `rustc` alone can build it. It makes no decisions: it reads guest memory only
//! where the host requested it. A read that fails is counted, with two exceptions: a watched word is read again at the next
//! observation, and the event of a hook is recorded with an unknown CPU or clock if these cannot be read.

mod control;
mod events;
mod gate;
mod qemu;
mod shared;
mod turns;

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::{Mutex, OnceLock, PoisonError};

use control::{MARKER, MARKER_CODE, MOMENTS, NO_CPU, Reason, fold};
use qemu::{Block, Info, Reader, Register, Translation};
use shared::Shared;

/// The version of QEMU's plugin interface that the plugin requires.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = 4;

struct Plugin {
    shared: Shared,
    events: events::Recorder,
    turns: Option<turns::Turns>,
    /// The addresses of the functions at whose entries the guest is held; 0 for unused entries.
    moments: [u64; MOMENTS],
    /// `None` until the first virtual CPU exists.
    reader: Mutex<Option<Reader>>,
    /// Whether the guest still has to be held before its first block. False from the start if the host does not request it.
    first: Mutex<bool>,
}

static PLUGIN: OnceLock<Plugin> = OnceLock::new();

/// Called by QEMU when it has loaded the plugin.
///
/// # Safety
/// `info` and the `argc` strings at `argv` must be valid during the call, as QEMU promises.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: u64,
    info: *const Info,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: QEMU guarantees this, see above.
    let arguments = (0..argc.max(0) as usize)
        .map(|i| unsafe { CStr::from_ptr(*argv.add(i)) }.to_string_lossy());
    // SAFETY: as above.
    let installed = install(id, unsafe { &*info }, arguments);
    match installed {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("ktstr plugin: {why}");
            1
        }
    }
}

fn install<'a>(
    id: u64,
    info: &Info,
    arguments: impl Iterator<Item = std::borrow::Cow<'a, str>>,
) -> Result<(), String> {
    // SAFETY: this is a C string of QEMU, which is valid during the installation.
    let target = unsafe { CStr::from_ptr(info.target) };
    if target != c"x86_64" || !info.system {
        return Err(format!(
            "this plugin supports x86_64 machines only, not {target:?}"
        ));
    }
    if !gate::is_first() {
        return Err(
            "this system does not load the plugin before the C library (LD_PRELOAD), without which two runs of \
             the same seed can differ: set KTSTR_CLOCK=real"
                .into(),
        );
    }
    let mut path = None;
    for argument in arguments {
        match argument.strip_prefix("control=") {
            Some(value) => path = Some(value.to_owned()),
            None => return Err(format!("unknown argument {argument}")),
        }
    }
    let shared = Shared::map(&path.ok_or("control=FILE is missing")?)?;
    let first = shared.control().hold_first.load(Relaxed) != 0;
    let plugin = Plugin {
        events: events::Recorder::new(&shared),
        turns: turns::Turns::new(&shared)?,
        moments: std::array::from_fn(|place| shared.control().moments[place].address.load(Relaxed)),
        shared,
        reader: Mutex::new(None),
        first: Mutex::new(first),
    };
    if PLUGIN.set(plugin).is_err() {
        return Err("loaded twice".into());
    }
    qemu::on_vcpu(id, on_vcpu);
    qemu::on_translation(id, on_translation);
    Ok(())
}

extern "C" fn on_vcpu(_plugin: u64, _vcpu: c_uint) {
    gate::is_vcpus();
    let Some(plugin) = PLUGIN.get() else { return };
    let mut reader = lock(&plugin.reader);
    if reader.is_none() {
        *reader = Reader::new();
    }
}

/// Installs callbacks on the requested points. They do not change how guest code is divided into blocks, because QEMU
/// counts guest instructions only.
extern "C" fn on_translation(_plugin: u64, block: *mut Block) {
    gate::is_vcpus();
    let Some(plugin) = PLUGIN.get() else { return };
    let control = plugin.shared.control();
    // SAFETY: this is the argument of this callback.
    let block = unsafe { Translation::new(block) };
    if *lock(&plugin.first) {
        block.on_block(on_first);
    }
    if plugin.turns.is_some() {
        block.on_count(on_count);
    }
    let markers = control.hold_markers.load(Relaxed) != 0;
    let switch_to = control.switch_to.load(Relaxed);
    let timer = control.timer.load(Relaxed);
    for instruction in block.instructions() {
        let address = instruction.address();
        if markers && instruction.is(MARKER_CODE) {
            instruction.on_execution(on_marker, 0);
        }
        if address == 0 {
            continue;
        }
        if address == switch_to {
            instruction.on_execution(on_switch, 0);
        }
        if address == timer {
            instruction.on_execution(on_timer, 0);
        }
        if let Some(turns) = &plugin.turns
            && turns.is_sender(address)
        {
            instruction.on_execution(on_sender, 0);
        }
        if let Some(index) = plugin.events.hook_at(address) {
            instruction.on_execution(on_hook, index);
        }
        // This comes after the hook of the same function, so that its event is in the buffer when the guest is held.
        if let Some(index) = plugin.moments.iter().position(|moment| *moment == address) {
            instruction.on_execution(on_moment, index);
        }
    }
}

extern "C" fn on_first(_index: c_uint, _data: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else { return };
    if std::mem::take(&mut *lock(&plugin.first)) {
        plugin.shared.hold(Reason::First, NO_CPU, [0; 2]);
    }
}

extern "C" fn on_count(_index: c_uint, count: *mut c_void) {
    if let Some(turns) = PLUGIN.get().and_then(|plugin| plugin.turns.as_ref()) {
        turns.count(count as u64);
    }
}

extern "C" fn on_sender(_index: c_uint, _data: *mut c_void) {
    if let Some(turns) = PLUGIN.get().and_then(|plugin| plugin.turns.as_ref()) {
        turns.sends();
    }
}

extern "C" fn on_marker(_index: c_uint, _data: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else { return };
    let call = plugin.read(|reader| Some((reader.register(Register::Rax)?, arguments(reader)?)));
    if let Some((MARKER, args)) = call {
        plugin.shared.hold(Reason::Marker, NO_CPU, args);
    }
}

extern "C" fn on_hook(_index: c_uint, hook: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else { return };
    let clock = lock(&plugin.reader)
        .as_mut()
        .and_then(|reader| plugin.events.observe(&plugin.shared, reader, hook as usize));
    plugin.look_at_watches();
    plugin.look_at_clock(clock.unwrap_or(0));
}

extern "C" fn on_moment(_index: c_uint, moment: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else { return };
    let control = plugin.shared.control();
    let Some(moment) = control.moments.get(moment as usize) else {
        return;
    };
    if let Some(number) = moment.condition.load(Relaxed).checked_sub(1) {
        let argument = plugin.read(|reader| reader.register(Register::argument(number)?));
        // Only the lowest byte of a register with a `bool` argument is defined.
        if argument.is_none_or(|value| value & 0xff == 0) {
            return;
        }
    }
    let args = [
        u64::from(moment.kind.load(Relaxed)),
        control.timer_ns.load(Relaxed),
    ];
    plugin.shared.hold(Reason::Moment, plugin.cpu(), args);
}

/// `hrtimer_interrupt(struct clock_event_device *dev)` (kernel/time/hrtimer.c): at its entry `dev->next_event` is still
/// the time for which this interrupt was set.
extern "C" fn on_timer(_index: c_uint, _data: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else { return };
    let control = plugin.shared.control();
    let offset = u64::from(control.next_event_offset.load(Relaxed));
    let time = plugin.read(|reader| {
        let [device, _] = arguments(reader)?;
        reader.u64(device.wrapping_add(offset))
    });
    // With KTIME_MAX no timer was set, so the interrupt is spurious.
    let Some(time) = time.filter(|&ns| ns < i64::MAX as u64) else {
        return;
    };
    control.timer_ns.fetch_max(time, Relaxed);
    plugin.look_at_watches();
    if time >= control.due_ns.load(Relaxed) {
        plugin.shared.hold(Reason::Due, plugin.cpu(), [time, 0]);
    }
}

/// `__switch_to(struct task_struct *prev, struct task_struct *next)` (arch/x86/kernel/process_64.c). `__schedule()` has
/// updated `rq->clock` before it calls this function.
extern "C" fn on_switch(_index: c_uint, _data: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else { return };
    let control = plugin.shared.control();
    let offset = u64::from(control.pid_offset.load(Relaxed));
    let clock = control.this_rq_clock.load(Relaxed);
    let seen = plugin.read(|reader| {
        let [prev, next] = arguments(reader)?;
        let clock = match clock {
            0 => 0,
            symbol => {
                let address = this_cpu(reader, symbol)?;
                reader.u64(address)?
            }
        };
        Some((
            reader.u32(prev.wrapping_add(offset))?,
            reader.u32(next.wrapping_add(offset))?,
            clock,
        ))
    });
    let Some((prev, next, clock)) = seen else {
        return;
    };
    let cpu = plugin.cpu();
    let tasks = u64::from(prev) << 32 | u64::from(next);
    let mut digest = control.digest.load(Relaxed);
    for word in [u64::from(cpu), tasks, clock] {
        digest = fold(digest, word);
    }
    let number = control.switches.load(Relaxed);
    let place = usize::try_from(number).ok();
    if let Some(entry) = place.and_then(|place| plugin.shared.trace().get(place)) {
        entry.clock_ns.store(clock, Relaxed);
        entry.digest.store(digest, Relaxed);
        entry.prev.store(prev, Relaxed);
        entry.next.store(next, Relaxed);
        entry.cpu.store(cpu, Relaxed);
    }
    control.digest.store(digest, Relaxed);
    control.switches.store(number.wrapping_add(1), Release);
    if control.record.load(Relaxed) != 0 {
        plugin
            .events
            .switch(&plugin.shared, cpu, clock, [prev, next]);
    }
    plugin.look_at_watches();
    plugin.look_at_clock(clock);
}

/// Returns the first two arguments of the function at whose entry the guest is.
fn arguments(reader: &mut Reader) -> Option<[u64; 2]> {
    Some([
        reader.register(Register::Rdi)?,
        reader.register(Register::Rsi)?,
    ])
}

/// Returns the address of the current CPU's copy of a per-CPU variable. The address is valid in kernel mode only: user mode
/// has another `gs`, and page tables without the kernel's data.
fn this_cpu(reader: &mut Reader, symbol: u64) -> Option<u64> {
    let base = reader.register(Register::GsBase)?;
    Some(base.wrapping_add(symbol))
}

impl Plugin {
    /// Returns the guest's number of the current CPU; [`NO_CPU`] if it is unknown. The number is valid in kernel mode only.
    fn cpu(&self) -> u32 {
        match self.shared.control().this_rq_cpu.load(Relaxed) {
            0 => NO_CPU,
            symbol => self
                .read(|reader| {
                    let address = this_cpu(reader, symbol)?;
                    reader.u32(address)
                })
                .unwrap_or(NO_CPU),
        }
    }

    /// Holds the guest for each watched word that has changed since the last comparison. This is called in kernel mode only,
    /// where the kernel's data is mapped. A word that cannot be read is compared the next time.
    fn look_at_watches(&self) {
        let control = self.shared.control();
        for (number, watch) in control.watches.iter().enumerate() {
            let address = watch.address.load(Relaxed);
            if address == 0 {
                continue;
            }
            let word = lock(&self.reader)
                .as_mut()
                .and_then(|reader| reader.u32(address));
            if let Some(word) = word
                && watch.value.swap(word, Relaxed) != word
            {
                let args = [control.timer_ns.load(Relaxed), number as u64];
                self.shared.hold(Reason::Changed, self.cpu(), args);
            }
        }
    }

    /// Holds the guest, once, if `clock`, which is the time on a runqueue's clock, has reached the time that the host has set.
    fn look_at_clock(&self, clock: u64) {
        let control = self.shared.control();
        if clock >= control.clock_due_ns.load(Relaxed) {
            control.clock_due_ns.store(u64::MAX, Relaxed);
            let args = [clock, control.timer_ns.load(Relaxed)];
            self.shared.hold(Reason::Clock, self.cpu(), args);
        }
    }

    /// Calls `read` with the reader of the current CPU, and counts a failure if it returns `None`.
    fn read<T>(&self, read: impl FnOnce(&mut Reader) -> Option<T>) -> Option<T> {
        let value = lock(&self.reader).as_mut().and_then(read);
        if value.is_none() {
            self.shared.control().failures.fetch_add(1, Relaxed);
        }
        value
    }
}

/// Locks a mutex. A panic ends QEMU (`panic=abort`), so a poisoned lock is never seen.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
