//! Reads and writes of kernel memory that a test requests. The location is a variable, an address, or a member of a per-CPU
//! variable or of a task; this module finds its address, and its place in the guest's RAM.
// The numbers come from a guest and may be arbitrarily large, so the compiler warns of each cast that could change a number.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

use ktstr_introspect::btf::Kind;
use ktstr_introspect::kernel::{KernelError, KernelView};
use ktstr_introspect::narrow;
use ktstr_introspect::paging::PAGE_SIZE;
use ktstr_introspect::symbols::Symbols;
use ktstr_machine::{Machine, MachineError};
use ktstr_record::brief::counted;
use ktstr_scenario::ops::{
    KernelTarget, KernelValue, KernelValueWidth, MAX_KERNEL_BYTES, validate_writes,
};

use super::captures::{KernelInfo, RamView};

/// The largest number of tasks among which a pid is searched for.
const MOST_TASKS: usize = 1 << 16;
/// The length of a tick of the times in `/proc/PID/stat`, in nanoseconds (`USER_HZ` is 100).
const USER_TICK_NS: u64 = 10_000_000;
/// The start of the direct mapping on a kernel that has no variable for it (`__PAGE_OFFSET_BASE_L4`).
const DIRECT_MAPPING: u64 = 0xffff_8880_0000_0000;

type View<'a, 'm> = KernelView<'a, RamView<'m>>;
/// A result whose inner error is reported to the test, while the outer one ends the run.
type Done<T> = Result<Result<T, String>, MachineError>;

/// Writes all of `writes`, or nothing if one of the locations cannot be found, does not fit its value, or is in the kernel's
/// code. If `cold`, no CPU runs meanwhile.
pub(super) fn write(
    machine: &mut Machine,
    info: Result<&KernelInfo, &str>,
    writes: &[(KernelTarget, KernelValue)],
    cold: bool,
) -> Done<()> {
    if let Err(why) = validate_writes(writes) {
        return Ok(Err(why));
    }
    still(machine, cold, |machine| {
        let view = RamView(machine.ram());
        let view = view_of(&view, info)?;
        let mut places = Vec::new();
        for (target, value) in writes {
            let kva = place(&view, target, value.width())?;
            let len = value.width().len();
            no_text(&view, target, kva, len as u64)?;
            places.push(pages(&view, kva, len).map_err(|e| of(target, e))?);
        }
        for ((_, value), pages) in writes.iter().zip(places) {
            put(machine, value, &pages).map_err(|e| e.to_string())?;
        }
        Ok(())
    })
}

/// Returns the physical addresses and lengths of the bytes from `kva` on, split at page boundaries, because consecutive
/// pages need not be consecutive in physical memory.
fn pages(view: &View, kva: u64, len: usize) -> Result<Vec<(u64, usize)>, KernelError> {
    let (mut at, mut pages) = (0, Vec::new());
    while at < len {
        let kva = kva.wrapping_add(at as u64);
        let room = narrow::length(PAGE_SIZE - kva % PAGE_SIZE);
        let part = room.min(len - at);
        pages.push((view.translate(kva)?, part));
        at += part;
    }
    Ok(pages)
}

/// Writes a value to the bytes at these physical addresses.
fn put(machine: &Machine, value: &KernelValue, pages: &[(u64, usize)]) -> Result<(), MachineError> {
    let mut bytes = match value {
        KernelValue::U32(value) => value.to_le_bytes().to_vec(),
        KernelValue::U64(value) => value.to_le_bytes().to_vec(),
        KernelValue::Bytes(bytes) => bytes.clone(),
        KernelValue::OrU32(bits) => bits.to_le_bytes().to_vec(),
    };
    let mut rest = bytes.as_mut_slice();
    for (gpa, len) in pages {
        let (part, more) = rest.split_at_mut((*len).min(rest.len()));
        if let KernelValue::OrU32(_) = value {
            let mut old = vec![0; part.len()];
            machine.ram().read(*gpa, &mut old)?;
            part.iter_mut().zip(old).for_each(|(new, old)| *new |= old);
        }
        machine.ram().write(*gpa, part)?;
        rest = more;
    }
    Ok(())
}

/// Reads a value of this width at a location. If `cold`, no CPU runs meanwhile.
pub(super) fn read(
    machine: &mut Machine,
    info: Result<&KernelInfo, &str>,
    target: &KernelTarget,
    width: KernelValueWidth,
    cold: bool,
) -> Done<KernelValue> {
    if let Err(why) = width.validate() {
        return Ok(Err(why));
    }
    still(machine, cold, |machine| {
        let view = RamView(machine.ram());
        let view = view_of(&view, info)?;
        let kva = place(&view, target, width)?;
        let read = match width {
            KernelValueWidth::U32 => view.read_u32(kva).map(KernelValue::U32),
            KernelValueWidth::U64 => view.read_u64(kva).map(KernelValue::U64),
            KernelValueWidth::Bytes(count) => view
                .read_bytes(kva, count as u64, MAX_KERNEL_BYTES as u64)
                .map(KernelValue::Bytes),
        };
        read.map_err(|e| of(target, e))
    })
}

/// Returns the address of a kernel variable that is not per-CPU.
pub(super) fn variable(symbols: &Symbols, name: &str) -> Result<u64, String> {
    let symbol = |name: &str| symbols.address(name);
    let kva = symbol(name).ok_or_else(|| {
        format!(
            "the kernel has no symbol {name:?}: take the name of a variable from /proc/kallsyms"
        )
    })?;
    let mut others = symbols
        .addresses(name)
        .filter(|other| *other != kva)
        .peekable();
    if others.peek().is_some() {
        let all: Vec<String> = [kva]
            .into_iter()
            .chain(others)
            .map(|at| format!("{at:#x}"))
            .collect();
        return Err(format!(
            "the kernel has several symbols {name:?}, at {}: an operation that takes a KernelTarget can name one by its address (KernelTarget::kva)",
            all.join(", ")
        ));
    }
    let own = symbol("__per_cpu_start").zip(symbol("__per_cpu_end"));
    if own.is_some_and(|(start, end)| (start..end).contains(&kva)) {
        return Err(format!(
            "{name:?} is a per-CPU variable: name one CPU's copy with KernelTarget::per_cpu_field"
        ));
    }
    Ok(kva)
}

/// Calls `work`, and if `cold` stops all CPUs meanwhile. Under the virtual clock the guest is held already.
fn still<T>(
    machine: &mut Machine,
    cold: bool,
    work: impl FnOnce(&Machine) -> Result<T, String>,
) -> Done<T> {
    let stop = cold && machine.virtual_clock().is_none();
    if stop {
        machine.stop()?;
    }
    let done = work(machine);
    if stop {
        machine.run()?;
    }
    Ok(done)
}

fn view_of<'a, 'm>(
    memory: &'a RamView<'m>,
    info: Result<&'a KernelInfo, &str>,
) -> Result<View<'a, 'm>, String> {
    let info = info.map_err(|why| format!("the kernel's memory cannot be interpreted: {why}"))?;
    KernelView::new(memory, &info.symbols, &info.btf).map_err(|e| e.to_string())
}

fn of(target: &KernelTarget, error: impl std::fmt::Display) -> String {
    format!("{target}: {error}")
}

/// Returns the address of a location, if a value of this width fits there.
fn place(view: &View, target: &KernelTarget, width: KernelValueWidth) -> Result<u64, String> {
    let failed = |error: &dyn std::fmt::Display| of(target, error);
    let (kva, size) = match target {
        KernelTarget::Symbol(name) => (variable(view.symbols(), name)?, None),
        KernelTarget::Kva(kva) => (*kva, None),
        KernelTarget::Direct(kva) => {
            let start = view.read_symbol_u64("page_offset_base");
            let start = start.unwrap_or(DIRECT_MAPPING);
            let gpa = view.translate(*kva).map_err(|e| failed(&e))?;
            if kva.checked_sub(start) != Some(gpa) {
                return Err(failed(&format!(
                    "the direct mapping begins at {start:#x}, and this address is not in it: use KernelTarget::kva"
                )));
            }
            (*kva, None)
        }
        KernelTarget::PerCpuField { symbol, field, cpu } => {
            let span = of_variable(view, symbol, field).map_err(|e| failed(&e))?;
            let count = view.cpu_count().map_err(|e| failed(&e))?;
            if *cpu >= count {
                return Err(failed(&format!(
                    "the guest has {}, from 0 on",
                    counted(count, "CPU")
                )));
            }
            let base = view.symbol(symbol).and_then(|at| view.per_cpu(at, *cpu));
            let base = base.map_err(|e| failed(&e))?;
            (base.wrapping_add(span.offset), Some(span.size))
        }
        KernelTarget::TaskField {
            pid,
            expected_start_time_ns,
            field,
        } => {
            let task = task(view, *pid, *expected_start_time_ns).map_err(|e| failed(&e))?;
            let span = of_struct(view, "task_struct", field).map_err(|e| failed(&e))?;
            (task.wrapping_add(span.offset), Some(span.size))
        }
    };
    let len = width.len() as u64;
    let fits = match (size, width) {
        (None, _) => true,
        (Some(size), KernelValueWidth::Bytes(_)) => len <= size,
        (Some(size), _) => len == size,
    };
    match (fits, size) {
        (false, Some(size)) => Err(failed(&format!(
            "it has {size} bytes, and {len} were asked for"
        ))),
        _ => Ok(kva),
    }
}

/// A part of a variable or a structure, in bytes.
struct Span {
    offset: u64,
    size: u64,
}

/// Returns the offset and the size of a member of a per-CPU variable, or of the whole variable if `field` is empty.
fn of_variable(view: &View, symbol: &str, field: &str) -> Result<Span, String> {
    let btf = view.btf();
    let variable = btf
        .find(symbol, Kind::Var)
        .ok_or("the kernel's types have no per-CPU variable of this name")?;
    let target = variable.target().ok_or("the variable has no type")?;
    if field.is_empty() {
        let size = btf.size_of(target).ok_or("its type has no size")?;
        return Ok(Span { offset: 0, size });
    }
    let inner = btf.resolve(target).ok_or("the variable has no type")?;
    of_struct(view, inner.name(), field)
}

/// Returns the offset and the size of a member of a structure.
fn of_struct(view: &View, name: &str, field: &str) -> Result<Span, String> {
    let member = view.member(name, field).map_err(|e| e.to_string())?;
    match member.bitfield_bits {
        Some(bits) => Err(format!(
            "it is a bit-field of {bits} bits, which has no address"
        )),
        None => Ok(Span {
            offset: member.offset(),
            size: member.size,
        }),
    }
}

/// Returns the address of the `task_struct` of a pid. `expected` is the task's start time in nanoseconds, by which a reused pid
/// is detected, or 0 for any task.
fn task(view: &View, pid: i32, expected: u64) -> Result<u64, String> {
    let (tasks, _) = view.tasks(MOST_TASKS).map_err(|e| e.to_string())?;
    let found = tasks.iter().find(|task| task.pid == pid);
    let task = found.ok_or("the guest has no such task")?.task_kva;
    if expected == 0 {
        return Ok(task);
    }
    let time = |name| {
        let member = view.member("task_struct", name);
        member.and_then(|member| view.read_member(task, &member))
    };
    let start = time("start_time").map_err(|e| e.to_string())?;
    let boot = time("start_boottime").map_err(|e| e.to_string())?;
    // A test that takes the time from `/proc/PID/stat` knows it in ticks.
    if [start, boot, boot - boot % USER_TICK_NS].contains(&expected) {
        return Ok(task);
    }
    Err(format!(
        "the task was started at {start} ns, but the expected one at {expected} ns: its pid has been reused"
    ))
}

/// Refuses addresses in the kernel's code. The compiler may have inlined the code elsewhere, and QEMU's TCG executes code that
/// it has translated before, so a write would have no effect, or only part of one.
fn no_text(view: &View, target: &KernelTarget, kva: u64, len: u64) -> Result<(), String> {
    let (Ok(start), Ok(end)) = (view.symbol("_stext"), view.symbol("_etext")) else {
        return Ok(());
    };
    if kva < end && kva.saturating_add(len) > start {
        return Err(of(
            target,
            "this is the kernel's code, which cannot be written",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_several_variables_have_is_refused() {
        let all = [(0x10, "one"), (0x20, "twice"), (0x30, "twice")];
        let all = all.map(|(at, name)| (at, name.to_owned()));
        let symbols = Symbols::from_entries(all.to_vec()).expect("a table");
        assert_eq!(variable(&symbols, "one"), Ok(0x10));
        let error = variable(&symbols, "twice").expect_err("two variables");
        assert!(
            error.contains("0x20, 0x30") && error.contains("KernelTarget::kva"),
            "{error}"
        );
    }
}
