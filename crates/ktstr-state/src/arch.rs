//! The architecture, which is the same for the host and the guest: the names and settings that depend on it. Code of the host
//! takes them from here, also for its messages.
//!
//! # Another architecture
//!
//! ktstr runs on x86-64 only. For another architecture each constant below needs a second value, selected by `target_arch`,
//! and each of these files needs code for it. No other file may depend on the architecture:
//! `cargo-ktstr/tests/docs/arch.rs` reads this list, and looks for names of the architecture everywhere else.
//!
//! The machine:
//!
//! - `crates/ktstr-machine/src/cpu.rs`: QEMU's CPU model, under TCG and under KVM. The guest must see the declared dies and
//!   caches. On x86-64 CPUID announces them, on other architectures the device tree or ACPI's PPTT.
//! - `crates/ktstr-machine/src/tsc.rs`: the counter that the guest's clock counts, and the kernel parameter for its rate. On
//!   other architectures the guest reads the rate from a register of its timer.
//! - `crates/ktstr-machine/src/process.rs`: the system calls in which a thread of QEMU waits. Newer architectures lack
//!   `poll`.
//! - `crates/ktstr/src/run/kvm.rs` and `crates/ktstr-record/src/host.rs`: the lines of `/proc/cpuinfo` that identify the
//!   host's processor.
//! - `crates/ktstr-mailbox/src/lib.rs`: the kernel parameter that reserves the mailbox's memory, and the address of that
//!   range, which must be RAM that the kernel's image does not use. On an architecture without `memmap=`, a node in
//!   the device tree has to reserve the range.
//!
//! The virtual clock:
//!
//! - `crates/ktstr-machine/plugin/lib.rs`: QEMU's name of the target, which the plugin checks when it is loaded, and the
//!   function that switches tasks.
//! - `crates/ktstr-machine/plugin/control.rs`: the bytes of the instruction by which the guest calls the host. It must have
//!   no effect, and compilers must not emit it.
//! - `crates/ktstr-machine/plugin/qemu.rs`: QEMU's names of the registers that hold a function's arguments, of the one that
//!   identifies the call, and of the base of the CPU's own data.
//! - `crates/ktstr-machine/plugin/gate.rs` and `crates/ktstr-machine/plugin/shared.rs`: the numbers of system calls, and the
//!   version of a symbol of the C library.
//! - `crates/ktstr-guest/src/mail.rs`: the instruction by which the guest calls the host, with its registers.
//! - `crates/ktstr/src/run/captures.rs`: the kernel's functions that send an interrupt to another CPU.
//!
//! The kernel:
//!
//! - `crates/ktstr-kernel/src/image.rs`: how the boot image contains the ELF file, and which ELF file QEMU can boot.
//! - `crates/ktstr-kernel/src/kallsyms.rs`: the lowest address of the kernel, and how the table of symbols encodes addresses.
//! - `crates/ktstr-kernel/src/build/ktstr.config` and `crates/ktstr-kernel/src/build/config.rs`: the options for the
//!   processor, the interrupt controller, the console and the entry point, and which of them newer versions have renamed.
//!
//! The guest's memory:
//!
//! - `crates/ktstr-introspect/src/paging.rs`: the walk of the page tables.
//! - `crates/ktstr-introspect/src/kernel/mod.rs`: where the kernel's image is mapped, and the symbol of its page table.
//! - `crates/ktstr/src/run/kernel_memory.rs`: where the direct mapping of the memory starts.
//! - `crates/ktstr/src/run/verdict/fault.rs`: the line of the kernel's log that names the faulting function. The stack itself
//!   is never walked: the frames are those that the kernel prints.
//! - `crates/ktstr/src/run/verdict/mod.rs`: the kernel's message about a breakpoint that has been removed.
//!
//! The workers:
//!
//! - `crates/ktstr-guest/src/workers/arch.rs`: the work loops. The loops in Rust that this file has for other architectures
//!   work, but the number of instructions in an iteration then depends on the compiler. A width of vectors that only the new
//!   architecture has needs a new variant of `AluWidth`.
//!
//! Outside of the crates, `scripts/deps.sh` names Debian's packages and checks the architecture of the host, and
//! `scripts/kernels.sh` splits releases of Debian's kernels. README.md and the table of environment variables
//! (`env/table.rs`) name QEMU and the boot image for users.

/// The name of the architecture in messages.
pub const NAME: &str = "x86-64";
/// Debian's name of the architecture, which is also the end of the releases of Debian's kernels.
pub const DEBIAN: &str = "amd64";
/// The number of the architecture in the header of an ELF file (`e_machine`). Programs and kernels are 64-bit and little-endian.
pub const ELF_MACHINE: u16 = 62;

/// The name of QEMU's program.
pub const QEMU: &str = "qemu-system-x86_64";
/// Debian's package with [`QEMU`].
pub const QEMU_PACKAGE: &str = "qemu-system-x86";
/// The value of QEMU's option `-machine`: the type of the machine, and the devices that are switched off.
///
/// Without `hpet=off` the HPET's timers keep firing, hundreds of times a second, although Linux has switched to the timers of
/// its CPUs. Without the HPET, an idle second of the virtual clock takes a seventh of the time on the host. The machine has no
/// disks, so it does not need the SATA controller, which costs 400 page faults at each start of QEMU.
pub const MACHINE: &str = "q35,smm=off,vmport=off,hpet=off,sata=off";
/// The end of the name of a CPU in QEMU's option `-device`, after the name of the model.
pub const CPU_DEVICE: &str = "-x86_64-cpu";
/// The name of the console's serial port in QEMU's option `-device`.
pub const SERIAL_DEVICE: &str = "isa-serial";

/// The kernel parameter that selects the console at [`SERIAL_DEVICE`].
pub const CONSOLE: &str = "console=ttyS0";
/// Kernel parameters for an emulated CPU. Its clock is that of the machine's other timers, so the kernel does not have to verify
/// it.
pub const EMULATED: &[&str] = &[
    "tsc=reliable",
    "no_timer_check",
    "lpj=1000000",
    // An emulated CPU has none of the vulnerabilities that mitigations address, and mitigations slow it down more than a real
    // CPU: a change of page tables at each entry to the kernel discards the address translations and the links between
    // translated blocks.
    "mitigations=off",
];

/// The file name of a kernel's boot image in its build tree, which is also the target of `make` that builds it.
pub const IMAGE: &str = "bzImage";
/// The path of the boot image in a build tree.
pub const IMAGE_PATH: &str = "arch/x86/boot/bzImage";
/// The folder of a kernel's source that only this architecture needs.
pub const SOURCE: &str = "arch/x86";
/// The file in [`SOURCE`] that every kernel's source has.
pub const SOURCE_KCONFIG: &str = "arch/x86/Kconfig";
/// The folder in [`SOURCE`] that configuring or building in the source leaves behind.
pub const SOURCE_GENERATED: &str = "arch/x86/include/generated";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_the_architecture_is_that_of_this_program() {
        let program = std::fs::read("/proc/self/exe").expect("our binary");
        assert_eq!(&program[..6], b"\x7fELF\x02\x01");
        assert_eq!(program[18..20], ELF_MACHINE.to_le_bytes());
    }

    #[test]
    fn the_paths_in_the_source_agree() {
        let below = |path: &str| path.strip_prefix(SOURCE).map(str::to_owned);
        assert_eq!(below(IMAGE_PATH), Some(format!("/boot/{IMAGE}")));
        assert_eq!(below(SOURCE_KCONFIG).as_deref(), Some("/Kconfig"));
        let generated = below(SOURCE_GENERATED);
        assert_eq!(generated.as_deref(), Some("/include/generated"));
    }
}
