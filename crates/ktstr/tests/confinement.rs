//! Tests of what a running QEMU may use of the host: its sandbox and capabilities, the files that it has open, and the memory
//! that the guest's console takes.

#[macro_use]
mod common;

use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Case, machines};
use ktstr::prelude::*;

const ONE_CPU: Topology = Topology::new(1, 1, 1, 1);
/// The longest time for a run to start its QEMU.
const STARTED_WITHIN: Duration = Duration::from_secs(120);

case!(WAITS = "waits", waits, topology: ONE_CPU, duration: Duration::from_secs(600));
case!(PASSES = "passes", |_| Ok(AssertResult::pass()), topology: ONE_CPU);

/// Stays busy, since the virtual clock would skip idle time.
fn waits(_: &Ctx) -> Result<AssertResult> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(600) {
        std::hint::spin_loop();
    }
    Ok(AssertResult::pass())
}

/// A run whose guest executes: its QEMU has installed its sandbox, and has closed the files that it reads only while it starts,
/// such as the firmware.
struct Running {
    run: Child,
    machine: u32,
    _folder: tempfile::TempDir,
}

impl Running {
    fn start(clock: &str, leak: Option<&std::fs::File>) -> Self {
        let Case {
            mut command,
            folder,
        } = Case::new("waits")
            .env("KTSTR_CLOCK", clock)
            .env("KTSTR_ACCEL", "tcg");
        // The folder has a queue of its own, so the run does not wait for other runs of this user.
        let runtime = folder.path().join("runtime");
        common::private_folder(&runtime);
        command
            .env("XDG_RUNTIME_DIR", runtime)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(fd) = leak.map(AsRawFd::as_raw_fd) {
            // SAFETY: the closure only makes the system call fcntl, which is async-signal-safe.
            unsafe {
                command.pre_exec(move || match libc::fcntl(fd, libc::F_SETFD, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                });
            }
        }
        let mut run = command.spawn().expect("the test binary starts");
        let began = Instant::now();
        loop {
            let up = machines(run.id()).into_iter().find(|pid| executes(*pid));
            if let Some(machine) = up {
                return Self {
                    run,
                    machine,
                    _folder: folder,
                };
            }
            let ended = run.try_wait().expect("our child");
            assert_eq!(ended, None, "the run ended before it had a QEMU");
            assert!(began.elapsed() < STARTED_WITHIN, "there is no QEMU");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn status(&self, key: &str) -> String {
        let text =
            std::fs::read_to_string(format!("/proc/{}/status", self.machine)).expect("QEMU runs");
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.expect("a line of that name").trim().to_owned()
    }

    /// Returns the files that QEMU has open.
    fn open(&self) -> Vec<PathBuf> {
        std::fs::read_dir(format!("/proc/{}/fd", self.machine))
            .expect("QEMU runs")
            .flatten()
            .filter_map(|fd| std::fs::read_link(fd.path()).ok())
            .collect()
    }
}

/// Returns whether a virtual CPU of this QEMU has run for 50 ms. Only the threads of virtual CPUs and the main thread compute,
/// and the main thread creates the whole machine, firmware included, before it lets a virtual CPU run.
fn executes(machine: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{machine}/task")) else {
        return false;
    };
    threads.flatten().any(|thread| {
        let main = thread.file_name().to_string_lossy() == machine.to_string();
        // The first number is the time on a CPU in ns (Documentation/scheduler/sched-stats.rst).
        let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        let ran = text.split(' ').next().and_then(|ns| ns.parse().ok());
        !main && ran.unwrap_or(0) >= 50_000_000_u64
    })
}

impl Drop for Running {
    fn drop(&mut self) {
        // When the run is killed, the kernel kills its machines as well. An error means that the run has exited already.
        let _ = self.run.kill();
        let _ = self.run.wait();
    }
}

#[test]
fn qemu_is_confined_under_both_clocks() {
    for clock in ["real", "virtual"] {
        let running = Running::start(clock, None);
        assert_eq!(running.status("NoNewPrivs:"), "1", "{clock}");
        assert_eq!(running.status("Seccomp:"), "2", "{clock}");
        // QEMU may have CAP_DAC_OVERRIDE (bit 1) if root runs it, and no other capability.
        let capabilities = u64::from_str_radix(&running.status("CapPrm:"), 16);
        assert_eq!(capabilities.expect("a number") & !0b10, 0, "{clock}");
    }
}

#[test]
fn qemu_has_nothing_open_but_its_own() {
    let leaked = tempfile::NamedTempFile::new().expect("a temporary file");
    for clock in ["real", "virtual"] {
        let running = Running::start(clock, Some(leaked.as_file()));
        let ours = std::fs::read_dir(format!("/proc/{}/fd", running.run.id()))
            .expect("the run goes on")
            .flatten()
            .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|path| path == leaked.path()));
        assert!(
            ours,
            "the run did not inherit the file, so this test shows nothing"
        );
        for path in running.open() {
            let text = path.to_string_lossy();
            let of_kind = [
                "/dev/null",
                "pipe:",
                "socket:",
                "anon_inode:",
                "/memfd:ktstr-",
            ]
            .iter()
            .any(|kind| text.starts_with(kind));
            let of_template = text.contains("/templates/") && text.contains("/ram");
            assert!(of_kind || of_template, "{clock}: QEMU has {text} open");
        }
    }
}

#[test]
fn a_qemu_without_a_sandbox_is_reported_once() {
    // This wrapper refuses the option `-sandbox`, like a QEMU that was built without libseccomp.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let wrapper = folder.path().join("qemu");
    let real = ktstr_machine::Qemu::find().expect("a QEMU");
    std::fs::write(
        &wrapper,
        format!(
            "#!/bin/sh\n[ \"$1\" = -sandbox ] && {{ echo \"$0: -sandbox support is not enabled in \
             this QEMU binary\" >&2; exit 1; }}\nexec {} \"$@\"\n",
            real.path.display()
        ),
    )
    .expect("a writable folder");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&wrapper, mode).expect("own file");
    let ended = Case::new("passes").env("KTSTR_QEMU", &wrapper).run();
    ended.says(0, &["seccomp", "libseccomp"]);
    assert_eq!(
        ended.text.matches("seccomp sandbox").count(),
        1,
        "{}",
        ended.text
    );
}

/// Returns the IDs of all processes with this text in an argument.
fn processes_with(text: &str) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(text)
    })
    .collect()
}

#[test]
fn a_wrapper_that_does_not_become_qemu_is_reported_and_its_qemu_ends() {
    let real = ktstr_machine::Qemu::find().expect("a QEMU").path;
    let real = real.display();
    for (name, line) in [
        ("waits", format!("{real} $mark \"$@\"; exit $?")),
        ("leaves-it", format!("{real} $mark \"$@\" & exit 0")),
        (
            "own-group",
            format!("setsid -w {real} $mark \"$@\"; exit $?"),
        ),
    ] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let wrapper = folder.path().join(name);
        // The mark identifies the QEMU that the wrapper starts.
        let mark = wrapper.display();
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = --version ] && exec {real} \"$@\"\nmark='-name {mark}'\n{line}\n"
        );
        std::fs::write(&wrapper, script).expect("a writable folder");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&wrapper, mode).expect("own file");
        let ended = Case::new("passes")
            .env("KTSTR_QEMU", &wrapper)
            .env("KTSTR_CACHE_DIR", folder.path())
            .run();
        ended.says(1, &["is not QEMU itself", "exec qemu-system-", name]);
        assert!(!ended.text.contains("damaged"), "{}", ended.text);
        let ended_within = Instant::now() + Duration::from_secs(10);
        let mark = mark.to_string();
        while !processes_with(&mark).is_empty() {
            assert!(Instant::now() < ended_within, "{name}: QEMU still runs");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The number of bytes that the guest prints: twice as many as the host keeps.
const PRINTED: usize = 1 << 20;

case!(PRINTS = "prints", prints, topology: ONE_CPU, memory_mib: 256, duration: Duration::from_secs(600));

fn prints(_: &Ctx) -> Result<AssertResult> {
    use std::io::Write;
    let mut console = std::fs::File::options().write(true).open("/dev/ttyS0")?;
    let line = format!("{}\n", "printed without end ".repeat(51));
    for _ in 0..PRINTED / line.len() {
        console.write_all(line.as_bytes())?;
    }
    console.write_all(b"the last line\n")?;
    Ok(AssertResult::fail_msg("so that the record is kept"))
}

#[test]
fn a_guest_that_prints_without_end_does_not_eat_the_hosts_memory() {
    let mut case = Case::new("prints").env("KTSTR_CLOCK", "virtual");
    case.command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut run = case.command.spawn().expect("the test binary starts");
    let (mut length, mut freed) = (0, 0);
    while run.try_wait().expect("our child").is_none() {
        for machine in machines(run.id()) {
            let open = std::fs::read_dir(format!("/proc/{machine}/fd"));
            for fd in open.into_iter().flatten().flatten().map(|fd| fd.path()) {
                use std::os::unix::fs::MetadataExt;
                let is_console = std::fs::read_link(&fd)
                    .is_ok_and(|name| name.to_string_lossy().contains("ktstr-console"));
                if let (true, Ok(file)) = (is_console, std::fs::metadata(&fd)) {
                    length = length.max(file.len());
                    freed = freed.max(file.len().saturating_sub(file.blocks() * 512));
                }
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let record = common::records(&case.folder.path().join("runs")).pop();
    let record = record.expect("the run left a record");
    let console = std::fs::read_to_string(record.path.with_file_name("console.log"));
    let console = console.expect("a record has the console");
    assert!(
        length > PRINTED as u64 * 9 / 10,
        "only {length} bytes were seen"
    );
    // The host keeps the last 512 KiB and frees the rest in steps of 64 KiB. The samples may miss the last steps.
    assert!(
        freed >= 128 << 10,
        "{freed} bytes of {length} were freed while the guest ran"
    );
    assert!(console.contains("bytes left out ...]"));
    assert!(console.contains("the last line"));
}
