//! QEMU's main thread stands still while the guest executes.

use std::time::Duration;

use crate::common::{Case, machines};

/// `pselect6` on x86-64: where the gate keeps that thread, and nothing else does.
const AT_GATE: &str = "270";

/// Its system calls while a guest has more to do than CPUs.
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
    println!("at the gate in {at_gate} of {looks} looks");
    assert!(ended.success(), "{ended}");
    // Busy guests need hundreds of milliseconds; before and after them it waits elsewhere.
    assert!(at_gate >= 20, "{at_gate} of {looks}");
}
