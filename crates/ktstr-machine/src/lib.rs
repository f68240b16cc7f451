//! The VM: QEMU, topology, clocks, mailbox transport, freeze, console, reaping.
