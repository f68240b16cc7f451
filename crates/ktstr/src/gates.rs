//! Gates for `post_vm`: what lets a callback skip instead of fail.

/// The error that turns a run into a skip.
#[derive(Debug, thiserror::Error)]
#[error("skipped: {0}")]
pub struct PostVmSkip(String);

impl PostVmSkip {
    pub(crate) fn reason(&self) -> String {
        self.0.clone()
    }
}

/// An error that, returned from `post_vm`, turns the run into a skip.
pub fn post_vm_skip(reason: impl Into<String>) -> anyhow::Error {
    PostVmSkip(reason.into()).into()
}
