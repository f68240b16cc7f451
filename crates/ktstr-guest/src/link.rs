//! The line to the host, as the rest of the guest side sees it: one `send`.
//!
//! A `host_only` test has no line; its messages go nowhere.

use std::sync::OnceLock;

use crate::protocol::{Ask, ToHost};

/// Carries messages to the host, in order, without loss.
pub trait Link: Send + Sync {
    /// Blocks while the mailbox is full.
    fn send(&self, message: &ToHost);
    /// Asks the host to do something and waits until it is done; an error is the host's reason, or that it did not answer.
    fn ask(&self, ask: &Ask) -> Result<(), String>;
}

static LINK: OnceLock<Box<dyn Link>> = OnceLock::new();

/// Makes `link` the process's line to the host. The first one stays.
pub fn install(link: Box<dyn Link>) {
    let _ = LINK.set(link);
}

/// Sends to the host if there is a line to it.
pub fn send(message: &ToHost) {
    if let Some(link) = LINK.get() {
        link.send(message);
    }
}

/// Whether there is a line to a host: this process is in a guest.
pub fn is_there() -> bool {
    LINK.get().is_some()
}

/// Has the host do something, and waits until it is done.
///
/// # Errors
/// The host's reason not to; in a `host_only` test, that there is no host to ask.
pub fn ask(ask: &Ask) -> Result<(), String> {
    match LINK.get() {
        Some(link) => link.ask(ask),
        None => Err(format!(
            "{} needs a virtual machine, and a host_only test has none: leave host_only out",
            ask.name()
        )),
    }
}
