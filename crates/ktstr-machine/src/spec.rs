//! The specification of a machine, and the QEMU command line for it.

use std::path::PathBuf;

use ktstr_mailbox::Layout;
use ktstr_state::arch;

use crate::{Shape, cpu, tsc};

/// The component that executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accelerator {
    /// QEMU's binary translator, which works on every host.
    Tcg,
    /// The host's hardware virtualization.
    Kvm,
}

impl Accelerator {
    /// Returns the name in records and in keys of templates.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        }
    }
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The time source of the guest's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClockMode {
    /// The host's clock: how long the guest's code takes depends on the host and on its load.
    Real,
    /// The number of instructions that all CPUs together have executed, at 2^`shift` nanoseconds each; idle time is skipped.
    /// This mode requires [`Accelerator::Tcg`].
    Virtual {
        /// The binary logarithm of the nanoseconds that an instruction takes.
        shift: u8,
    },
}

/// The specification of a machine that has not been started yet.
#[derive(Debug, Clone)]
pub struct MachineSpec {
    /// The bootable image: a compressed boot image, or a vmlinux with a PVH note, which the guest does not have to decompress.
    pub kernel: PathBuf,
    /// Kernel parameters in addition to those that the machine itself needs.
    pub kernel_arguments: Vec<String>,
    /// The CPUs and the memory.
    pub shape: Shape,
    /// The component that executes the guest's instructions.
    pub accelerator: Accelerator,
    /// The time source of the guest's clocks.
    pub clock: ClockMode,
    /// Under TCG and the real clock: whether each CPU has its own host thread, instead of one thread that executes all
    /// CPUs in turn. When a CPU stores to code, QEMU drops the translation of that code a moment before the store. Another
    /// CPU that translates the code in between keeps a translation of the old code. A kernel that patches its text may
    /// then hit a breakpoint that no longer exists ("Oops: int3"). With a single thread this cannot happen.
    pub parallel: bool,
}

/// The numbers of the descriptors that QEMU inherits.
#[derive(Debug, Clone)]
pub(crate) struct Descriptors {
    pub(crate) monitor: i32,
    /// The initramfs; `None` for a machine that is restored.
    pub(crate) initramfs: Option<i32>,
    /// The memory of each node.
    pub(crate) ram: Vec<i32>,
    /// Whether the guest's writes to its memory go to the files of `ram`.
    pub(crate) share: bool,
    /// Under the virtual clock: the plugin, the page that it shares with the host, and the console's file.
    pub(crate) clock: Option<[i32; 3]>,
}

impl MachineSpec {
    /// Returns the kernel's command line.
    ///
    /// A panic or a reset stops the machine (see `-action`), so that the host can still read what the guest left in
    /// memory. Addresses are not randomized, so symbols are at the addresses in the image.
    pub fn kernel_command_line(&self) -> String {
        let own = [
            arch::CONSOLE,
            "loglevel=4",
            "panic=-1",
            "nokaslr",
            Layout::KERNEL_ARGUMENT,
            // Disables self-tests that continue for seconds after PID 1 has started.
            "cryptomgr.notests",
            // Disables statistics of memory use that nothing reads, and that are taken 30 times a second
            // (mm/damon/stat.c).
            "damon_stat.enabled=0",
        ];
        let emulated = match self.accelerator {
            Accelerator::Tcg => arch::EMULATED,
            Accelerator::Kvm => &[],
        };
        let rate = self.is_told_the_rate().then(tsc::parameter);
        // QEMU also announces the slots without a CPU, but no CPU will ever be plugged into them.
        let possible =
            (!self.shape.uneven.is_empty()).then(|| format!("possible_cpus={}", self.shape.cpus()));
        own.iter()
            .chain(emulated)
            .copied()
            .chain(rate)
            .chain(possible.as_deref())
            .chain(self.kernel_arguments.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Returns as text everything in this specification on which a saved machine depends. The contents of the kernel image
    /// and the version of QEMU are not part of it.
    pub fn fingerprint(&self) -> String {
        let descriptors = Descriptors {
            monitor: 0,
            initramfs: Some(0),
            ram: vec![0; self.shape.memory_mib.len()],
            share: true,
            clock: matches!(self.clock, ClockMode::Virtual { .. }).then_some([0; 3]),
        };
        let arguments = self.arguments(&descriptors).join(" ");
        match self.is_told_the_rate() {
            true => arguments.replace(tsc::parameter(), tsc::of_host()),
            false => arguments,
        }
    }

    /// Returns whether the kernel is told the rate of its counter ([`tsc::parameter`]). Under the virtual clock it measures the
    /// right rate, since the host's load has no effect on it. Under KVM it has a clock of KVM's own (kvm-clock).
    fn is_told_the_rate(&self) -> bool {
        self.accelerator == Accelerator::Tcg && self.clock == ClockMode::Real
    }

    /// Returns the command line with which QEMU builds this machine.
    pub(crate) fn arguments(&self, descriptors: &Descriptors) -> Vec<String> {
        let mut arguments: Vec<String> = Vec::new();
        let mut option = |name: &str, value: String| {
            arguments.push(format!("-{name}"));
            if !value.is_empty() {
                arguments.push(value);
            }
        };
        option("nodefaults", String::new());
        option("no-user-config", String::new());
        option("display", "none".into());
        // The guest does not run until the host starts it. When it ends it is paused, so that RAM can still be read.
        option("S", String::new());
        option(
            "action",
            "reboot=shutdown,shutdown=pause,panic=pause".into(),
        );
        let memory = if self.shape.memory_mib.len() == 1 {
            ",memory-backend=ram0"
        } else {
            ""
        };
        let hmat = if self.shape.hmat.is_empty() {
            ""
        } else {
            ",hmat=on"
        };
        option("machine", format!("{}{hmat}{memory}", arch::MACHINE));
        match (self.accelerator, self.clock) {
            (_, ClockMode::Virtual { shift }) => {
                option("accel", "tcg,thread=single".into());
                option("icount", format!("shift={shift},sleep=off"));
                option("rtc", "base=2020-01-01,clock=vm".into());
                // The seed for QEMU's own random numbers (boot data, RDRAND). The run's seed is set later.
                option("seed", "0".into());
            }
            (Accelerator::Tcg, _) => {
                let thread = if self.parallel { "multi" } else { "single" };
                option("accel", format!("tcg,thread={thread}"));
            }
            (Accelerator::Kvm, _) => option("accel", "kvm".into()),
        }
        let model = cpu::model(self.accelerator);
        option("cpu", format!("{model},{}", cpu::FEATURES));
        // The files of a template are mapped so that the guest's writes stay private. Without `readonly=on`, QEMU would
        // still open them for writing, which their mode 0400 forbids even to their owner. With `rom=off`, the guest can
        // write to its RAM nevertheless.
        let mapping = if descriptors.share {
            "share=on"
        } else {
            "share=off,readonly=on,rom=off"
        };
        for (node, (fd, mib)) in descriptors
            .ram
            .iter()
            .zip(&self.shape.memory_mib)
            .enumerate()
        {
            option(
                "object",
                format!(
                    "memory-backend-file,id=ram{node},size={mib}M,mem-path=/proc/self/fd/{fd},{mapping}",
                ),
            );
        }
        arguments.extend(self.shape.arguments(cpu::name(model)));
        let mut option = |name: &str, value: String| arguments.extend([format!("-{name}"), value]);
        match descriptors.initramfs {
            Some(fd) => {
                option("kernel", self.kernel.display().to_string());
                option("initrd", format!("/proc/self/fd/{fd}"));
                option("append", self.kernel_command_line());
            }
            // The kernel is already in the restored RAM.
            None => option("incoming", "defer".into()),
        }
        match descriptors.clock {
            None => option("chardev", "file,id=console,path=/proc/self/fd/1".into()),
            Some([plugin, page, console]) => {
                option(
                    "plugin",
                    format!("file=/proc/self/fd/{plugin},control=/proc/self/fd/{page}"),
                );
                // A file accepts every byte at once. A pipe may be full, depending on the speed of the host.
                option(
                    "chardev",
                    format!("file,id=console,path=/proc/self/fd/{console}"),
                );
            }
        }
        option("device", format!("{},chardev=console", arch::SERIAL_DEVICE));
        option(
            "chardev",
            format!("socket,id=monitor,fd={}", descriptors.monitor),
        );
        option("mon", "chardev=monitor,mode=control".into());
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a machine of two CPUs under TCG and the real clock.
    fn spec() -> MachineSpec {
        MachineSpec {
            kernel: "/k/vmlinux".into(),
            kernel_arguments: Vec::new(),
            shape: Shape::uniform(1, 2, 1, 512),
            accelerator: Accelerator::Tcg,
            clock: ClockMode::Real,
            parallel: true,
        }
    }

    #[test]
    fn the_whole_command_line() {
        let spec = MachineSpec {
            kernel_arguments: vec!["sysctl.kernel.x=1".into()],
            ..spec()
        };
        let descriptors = Descriptors {
            monitor: 3,
            initramfs: Some(4),
            ram: vec![5],
            share: true,
            clock: None,
        };
        let arguments = spec.arguments(&descriptors).join("\n");
        insta::assert_snapshot!(arguments.replace(tsc::parameter(), "RATE"), @r"
        -nodefaults
        -no-user-config
        -display
        none
        -S
        -action
        reboot=shutdown,shutdown=pause,panic=pause
        -machine
        q35,smm=off,vmport=off,hpet=off,sata=off,memory-backend=ram0
        -accel
        tcg,thread=multi
        -cpu
        max,erms=off,fsrm=off,vendor=GenuineIntel,l3-cache=on,level=0x20
        -object
        memory-backend-file,id=ram0,size=512M,mem-path=/proc/self/fd/5,share=on
        -smp
        2,sockets=1,dies=1,cores=2,threads=1
        -m
        512M
        -kernel
        /k/vmlinux
        -initrd
        /proc/self/fd/4
        -append
        console=ttyS0 loglevel=4 panic=-1 nokaslr memmap=8M$8M cryptomgr.notests damon_stat.enabled=0 tsc=reliable no_timer_check lpj=1000000 mitigations=off RATE sysctl.kernel.x=1
        -chardev
        file,id=console,path=/proc/self/fd/1
        -device
        isa-serial,chardev=console
        -chardev
        socket,id=monitor,fd=3
        -mon
        chardev=monitor,mode=control
        ");
    }

    #[test]
    fn only_an_emulated_cpu_under_the_real_clock_is_told_its_rate() {
        let is_told = |accelerator, clock| {
            let spec = MachineSpec {
                accelerator,
                clock,
                ..spec()
            };
            let is_told = spec.kernel_command_line().contains("tsc_early_khz=");
            // The key of a template must not depend on the measurement.
            let key = spec.fingerprint();
            assert!(!key.contains("tsc_early_khz="), "{key}");
            assert_eq!(key.contains("bogomips"), is_told, "{key}");
            is_told
        };
        assert!(is_told(Accelerator::Tcg, ClockMode::Real));
        assert!(!is_told(Accelerator::Tcg, ClockMode::Virtual { shift: 2 }));
        assert!(!is_told(Accelerator::Kvm, ClockMode::Real));
    }

    #[test]
    fn only_the_real_clock_has_parallel_cpus() {
        let threads = |clock, parallel| {
            let spec = MachineSpec {
                clock,
                parallel,
                ..spec()
            };
            spec.fingerprint().contains("-accel tcg,thread=multi")
        };
        assert!(threads(ClockMode::Real, true));
        assert!(!threads(ClockMode::Real, false));
        assert!(!threads(ClockMode::Virtual { shift: 2 }, true));
    }

    #[test]
    fn a_restored_machine_differs_only_in_where_it_comes_from() {
        let spec = spec();
        let booted = Descriptors {
            monitor: 3,
            initramfs: Some(4),
            ram: vec![5],
            share: true,
            clock: None,
        };
        let restored = Descriptors {
            initramfs: None,
            share: false,
            ..booted.clone()
        };
        let (booted, restored) = (spec.arguments(&booted), spec.arguments(&restored));
        let only_restored: Vec<_> = restored.iter().filter(|a| !booted.contains(a)).collect();
        insta::assert_debug_snapshot!(only_restored, @r#"
        [
            "memory-backend-file,id=ram0,size=512M,mem-path=/proc/self/fd/5,share=off,readonly=on,rom=off",
            "-incoming",
            "defer",
        ]
        "#);
    }
}
