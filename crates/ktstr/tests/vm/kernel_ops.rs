//! Tests of operations on the kernel's memory from outside: the guest's files show what the host writes, the host reads what
//! the guest has, a change of a variable is noticed, and a pinned BPF map outlives its scheduler.

use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ktstr::prelude::*;

const TWO_CPUS: Topology = Topology::new(1, 1, 2, 1);
const MS: Duration = Duration::from_millis(1);
const SHORT: HoldSpec = HoldSpec::fixed(MS);
const SWAPPINESS: &str = "/proc/sys/vm/swappiness";

fn passes(entry: &'static KtstrTestEntry) -> VmResult {
    let finished = ktstr::run::run(entry);
    assert_eq!(finished.exit_code(), 0, "{}", finished.text);
    assert!(finished.result.is_pass(), "{:?}", finished.result.outcomes);
    finished.vm.expect("it ran in a machine")
}

fn swappiness() -> KernelTarget {
    KernelTarget::symbol("vm_swappiness")
}

/// The contents of the guest's files after each step.
static SEEN: Mutex<Vec<[String; 2]>> = Mutex::new(Vec::new());

fn look(_: &Ctx) -> Vec<CgroupDef> {
    let read = |file| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.trim().to_owned()
    };
    let seen = [SWAPPINESS, "/proc/self/timerslack_ns"].map(read);
    SEEN.lock()
        .expect("no thread panics while it holds the lock")
        .push(seen);
    Vec::new()
}

/// Returns a step with the operations, and one that reads the files afterwards.
fn then_look(ops: Vec<Op>) -> [Step; 2] {
    let looking = Step {
        setup: Setup::with_factory(look),
        ops: Vec::new(),
        hold: HoldSpec::fixed(Duration::ZERO),
    };
    [Step::new(ops, SHORT), looking]
}

/// Returns the virtual address of a kernel variable, and its address in the direct mapping.
fn addresses(name: &str) -> Result<[u64; 2]> {
    let symbols = std::fs::read_to_string("/proc/kallsyms")?;
    let line = symbols
        .lines()
        .find(|line| line.split_whitespace().nth(2) == Some(name));
    let word = line.and_then(|line| line.split_whitespace().next());
    let kva = u64::from_str_radix(word.unwrap_or_default(), 16)?;
    let five_levels = std::fs::read_to_string("/proc/cpuinfo")?.contains(" la57");
    // The direct mapping starts at these addresses (Documentation/arch/x86/x86_64/mm.rst). The image is mapped from
    // 0xffffffff80000000 on, which is physical address 0, because the guest boots with `nokaslr`.
    let direct: u64 = match five_levels {
        true => 0xff11_0000_0000_0000,
        false => 0xffff_8880_0000_0000,
    };
    Ok([kva, direct + (kva - 0xffff_ffff_8000_0000)])
}

/// Tests each way to name a target, with operations that are hot or cold ([`Op::WriteKernelHot`]), single or in a batch.
fn memory(ctx: &Ctx) -> Result<AssertResult> {
    let pid = i32::try_from(std::process::id())?;
    let [kva, direct] = addresses("vm_swappiness")?;
    let u32 = KernelValueWidth::u32();
    let slack = || KernelTarget::task_field(pid, 0, "timer_slack_ns");
    let cpu = |cpu| KernelTarget::per_cpu_field("runqueues", "cpu", cpu);
    let steps = [
        then_look(vec![Op::write_kernel_hot(
            swappiness(),
            KernelValue::u32(41),
        )]),
        then_look(vec![Op::write_kernel_cold(
            KernelTarget::kva(kva),
            KernelValue::u32(42),
        )]),
        then_look(vec![Op::write_kernel_hot(
            KernelTarget::direct(direct),
            KernelValue::bytes(43u32.to_le_bytes()),
        )]),
        // The writes of a batch are in order: the bits of the second write are set in the value of the first write.
        then_look(vec![Op::write_kernel_cold_batch(vec![
            (swappiness(), KernelValue::u32(32)),
            (swappiness(), KernelValue::or_u32(12)),
            (slack(), KernelValue::u64(61_234)),
        ])]),
        then_look(vec![
            Op::read_kernel_hot("swappiness", swappiness(), u32),
            Op::read_kernel_cold("bytes", KernelTarget::kva(kva), KernelValueWidth::bytes(4)),
            Op::read_kernel_hot("slack", slack(), KernelValueWidth::u64()),
            Op::read_kernel_cold("cpu 0", cpu(0), u32),
            Op::read_kernel_hot("cpu 1", cpu(1), u32),
        ]),
    ];
    let mut result = execute_steps(ctx, steps.into_iter().flatten().collect())?;
    let seen = SEEN
        .lock()
        .expect("no thread panics while it holds the lock");
    let found: Vec<&str> = seen.iter().map(|seen| seen[0].as_str()).collect();
    if found != ["41", "42", "43", "44", "44"] {
        result.merge(AssertResult::fail_msg(format!("swappiness was {found:?}")));
    }
    let found: Vec<&str> = seen.iter().map(|seen| seen[1].as_str()).collect();
    if found[3..] != ["61234", "61234"] || found[..3].contains(&"61234") {
        result.merge(AssertResult::fail_msg(format!("the slack was {found:?}")));
    }
    Ok(result)
}

case!(MEMORY = "kernel_memory", memory, topology: TWO_CPUS, duration: Duration::from_millis(100));

#[test]
fn the_guest_sees_what_is_written_and_the_host_reads_it_back() {
    let bridge = passes(&MEMORY).snapshot_bridge;
    let read = |tag| bridge.kernel_op_value(tag);
    assert_eq!(read("swappiness"), Some(KernelValue::u32(44)));
    assert_eq!(read("bytes"), Some(KernelValue::bytes([44, 0, 0, 0])));
    assert_eq!(read("slack"), Some(KernelValue::u64(61_234)));
    assert_eq!(read("cpu 0"), Some(KernelValue::u32(0)));
    assert_eq!(read("cpu 1"), Some(KernelValue::u32(1)));
    assert_eq!(read("cpu 2"), None);
    assert_eq!(bridge.drain_kernel_ops().len(), 5);
}

case!(MEMORY_REAL = "kernel_memory_real", memory, topology: TWO_CPUS, duration: Duration::from_millis(100),
    clock: ClockMode::Real);

#[test]
fn a_kernel_under_the_real_clock_is_read_and_written_too() {
    let bridge = passes(&MEMORY_REAL).snapshot_bridge;
    let slack = bridge.kernel_op_value("slack");
    assert_eq!(slack, Some(KernelValue::u64(61_234)));
}

fn clock_rate(ctx: &Ctx) -> Result<AssertResult> {
    let rate = KernelTarget::symbol("tsc_khz");
    let read = Op::read_kernel_hot("tsc_khz", rate, KernelValueWidth::u32());
    execute_steps(ctx, vec![Step::new(vec![read], SHORT)])
}

case!(CLOCK_RATE = "clock_rate", clock_rate, topology: Topology::new(1, 1, 1, 1), duration: Duration::from_millis(100),
    clock: ClockMode::Real);

/// A guest whose kernel believes in a lower rate of its counter than the real one has clocks that are too fast.
#[test]
fn under_the_real_clock_the_guest_knows_the_rate_of_its_counter() {
    let bridge = passes(&CLOCK_RATE).snapshot_bridge;
    let Some(KernelValue::U32(guest)) = bridge.kernel_op_value("tsc_khz") else {
        panic!("the rate was not read");
    };
    // The width of a reading is far below 1 % of the time between the readings, even on a busy host.
    let reading = || {
        let attempts = (0..100).map(|_| {
            let time = Instant::now();
            // SAFETY: reading the counter has no effect on memory.
            let count = unsafe { std::arch::x86_64::_rdtsc() };
            (time.elapsed(), time, count)
        });
        attempts.min().expect("there are attempts")
    };
    let (_, began, first) = reading();
    std::thread::sleep(Duration::from_millis(300));
    let (_, ended, last) = reading();
    let host = (last - first) as f64 / (ended - began).as_secs_f64() / 1000.0;
    let guest = f64::from(guest);
    assert!(
        (guest / host - 1.0).abs() < 0.01,
        "{guest} kHz in the guest, {host} kHz on the host"
    );
}

/// In each case an operation is refused, and its step fails with the reason.
fn refusals(ctx: &Ctx) -> Result<AssertResult> {
    let pid = i32::try_from(std::process::id())?;
    let write = |target| Op::write_kernel_hot(target, KernelValue::u32(0));
    let field = |field| KernelTarget::task_field(pid, 0, field);
    let watch = Op::watch_snapshot;
    let cases = [
        (
            vec![write(KernelTarget::symbol("no_such_symbol"))],
            "no symbol",
        ),
        (
            vec![write(KernelTarget::symbol("runqueues"))],
            "per_cpu_field",
        ),
        (
            vec![write(KernelTarget::symbol("schedule"))],
            "the kernel's code",
        ),
        (vec![write(KernelTarget::kva(0x1000))], "not mapped"),
        (
            vec![write(KernelTarget::direct(addresses("vm_swappiness")?[0]))],
            "KernelTarget::kva",
        ),
        (vec![write(field("timer_slack_ns"))], "8 bytes, and 4"),
        (vec![write(field("no_such_member"))], "no_such_member"),
        (
            vec![write(KernelTarget::task_field(-5, 0, "prio"))],
            "no such task",
        ),
        (
            vec![write(KernelTarget::task_field(pid, 7, "prio"))],
            "its pid has been reused",
        ),
        (
            vec![write(KernelTarget::per_cpu_field("runqueues", "cpu", 2))],
            "2 CPUs",
        ),
        (vec![watch("no_such_symbol")], "no symbol"),
        (vec![watch("runqueues")], "per_cpu_field"),
        (
            vec![
                watch("vm_swappiness"),
                watch("vm_dirty_ratio"),
                watch("vm_swappiness"),
            ],
            "watched already",
        ),
        // The watches of the scenario before have ended with it.
        (
            vec![
                watch("vm_swappiness"),
                watch("vm_dirty_ratio"),
                watch("dirty_background_ratio"),
                watch("max_threads"),
            ],
            "at most 3 variables can be watched",
        ),
        (
            vec![Op::pin_bpf_map("no_such_map")],
            "no BPF map \"no_such_map\"",
        ),
    ];
    let mut result = AssertResult::pass();
    for (ops, expected) in cases {
        let asked = format!("{ops:?}");
        let failed = execute_steps(ctx, vec![Step::new(ops, SHORT)])?;
        let printed: Vec<&str> = failed
            .failure_details()
            .map(|d| d.message.as_str())
            .collect();
        if !printed.join("\n").contains(expected) {
            let text = format!("{asked} should say {expected:?}, and says {printed:?}");
            result.merge(AssertResult::fail_msg(text));
        }
    }
    Ok(result)
}

case!(REFUSALS = "kernel_refusals", refusals, topology: TWO_CPUS, duration: Duration::from_millis(100));

#[test]
fn what_cannot_be_read_written_or_watched_is_named() {
    passes(&REFUSALS);
}

/// Changes the variable twice, ten milliseconds apart.
fn writer(ctx: &WorkerCtx) -> WorkerReport {
    let spin = |time: Duration| {
        let began = std::time::Instant::now();
        while began.elapsed() < time {
            std::hint::spin_loop();
        }
    };
    spin(20 * MS);
    for value in ["37", "38"] {
        let _ = std::fs::write(SWAPPINESS, value);
        spin(10 * MS);
    }
    while !ctx.stop().load(Relaxed) {
        std::thread::sleep(MS);
    }
    WorkerReport::default()
}

fn watching(ctx: &Ctx) -> Result<AssertResult> {
    let writes = CgroupDef::named("w").work_type(WorkType::custom("writer", writer));
    let steps = vec![
        Step::new(
            vec![
                Op::watch_snapshot("vm_swappiness"),
                Op::watch_snapshot("vm_dirty_ratio"),
            ],
            HoldSpec::fixed(50 * MS),
        ),
        Step::with_defs(vec![writes.workers(1)], HoldSpec::fixed(150 * MS)),
        Step::hold(HoldSpec::fixed(50 * MS)),
    ];
    execute_steps(ctx, steps)
}

case!(WATCHING = "kernel_watch", watching, topology: TWO_CPUS, duration: Duration::from_millis(250));

#[test]
fn a_variable_that_changes_is_captured_each_time() {
    let vm = passes(&WATCHING);
    let bridge = &vm.snapshot_bridge;
    assert_eq!(bridge.watch_count(), 2);
    assert_eq!(bridge.watch_hits("vm_swappiness"), Some(2));
    assert_eq!(bridge.watch_hits("vm_dirty_ratio"), Some(0));
    assert_eq!(bridge.watch_hits("nr_threads"), None);
    let captures = vm.captures_series().entries();
    let tags: Vec<_> = captures
        .iter()
        .map(|entry| (entry.tag.as_str(), entry.step_index))
        .collect();
    // The second capture replaced the first, and was taken at once, in the step of the change.
    assert_eq!(tags, [("vm_swappiness", Some(2))]);
    let elapsed = captures[0].elapsed_ms.expect("in the window");
    assert!((80..=140).contains(&elapsed), "{elapsed} ms");
    // The captures are the same in each run with the same seed, and so is the run.
    let again = passes(&WATCHING);
    assert_eq!(again.digest, vm.digest);
    assert_eq!(again.captures_digest, vm.captures_digest);
}

const OWN: Scheduler = Scheduler::named("scx_ktstr").binary(SchedulerSpec::Discover("scx-ktstr"));
const MAP: &str = "bpf_bpf.bss";

/// Stops the scheduler, waits, and looks for its map by pinning it.
fn after_the_scheduler(ctx: &Ctx, before: Vec<Op>) -> Result<AssertResult> {
    let stop = before.into_iter().chain([Op::detach_scheduler()]);
    let steps = vec![
        Step::new(stop.collect(), HoldSpec::fixed(500 * MS)),
        Step::with_op(Op::pin_bpf_map(MAP), SHORT),
    ];
    execute_steps(ctx, steps)
}

fn pinned(ctx: &Ctx) -> Result<AssertResult> {
    after_the_scheduler(ctx, vec![Op::pin_bpf_map(MAP)])
}

fn not_pinned(ctx: &Ctx) -> Result<AssertResult> {
    let result = after_the_scheduler(ctx, vec![])?;
    let printed: Vec<_> = result.failure_details().map(|d| &d.message).collect();
    ensure!(
        printed.len() == 1 && printed[0].contains("no BPF map \"bpf_bpf.bss\""),
        "{printed:?}"
    );
    Ok(AssertResult::pass())
}

case!(PINNED = "kernel_pinned", pinned, topology: TWO_CPUS, scheduler: &OWN);
case!(NOT_PINNED = "kernel_not_pinned", not_pinned, topology: TWO_CPUS, scheduler: &OWN);

#[test]
fn a_pinned_map_outlives_its_scheduler() {
    passes(&PINNED);
}

#[test]
fn a_map_that_is_not_pinned_ends_with_its_scheduler() {
    passes(&NOT_PINNED);
}
