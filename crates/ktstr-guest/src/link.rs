//! The line to the host, as the rest of the guest side sees it: one `send`.
//!
//! A `host_only` test has no line; its messages go nowhere.

use std::sync::OnceLock;

use crate::protocol::ToHost;

/// Carries messages to the host, in order, without loss.
pub trait Link: Send + Sync {
    /// Blocks while the mailbox is full.
    fn send(&self, message: &ToHost);
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
