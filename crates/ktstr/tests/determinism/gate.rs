//! Tests that the plugin's gate (`ktstr-machine/plugin/gate.rs`) stops QEMU's main thread while the guest executes.

use std::time::Duration;

use crate::common::{Case, machines};

/// The number of the system call `pselect6` on x86-64. The main thread is in this call only while it waits at the gate.
const AT_GATE: &str = "270";

/// Samples the system calls of QEMU's main thread while the guest has more tasks than CPUs.
#[test]
fn the_main_thread_waits_at_the_gate() {
    let mut case = Case::new("contended");
    let mut run = case.command.spawn().expect("the test binary starts");
    let (mut looks, mut at_gate) = (0, 0);
    let ended = loop {
        if let Some(status) = run.try_wait().expect("our child") {
            break status;
        }
        for machine in machines(run.id()) {
            let text = std::fs::read_to_string(format!("/proc/{machine}/syscall"));
            let call = text.unwrap_or_default();
            looks += 1;
            at_gate += usize::from(call.split_whitespace().next() == Some(AT_GATE));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    println!("at the gate in {at_gate} of {looks} samples");
    assert!(ended.success(), "{ended}");
    // The guest is busy for hundreds of milliseconds; before and after that, the thread waits elsewhere.
    assert!(at_gate >= 20, "{at_gate} of {looks}");
}
