//! The guest's link to the host, as the rest of the guest side sees it: `send` and `ask`.
//!
//! A `host_only` test has no link, so its messages are discarded. Its requests to the host are errors, except for those that a
//! function installed with [`answer_on_this_thread`] answers.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::OnceLock;

use crate::protocol::{Ask, ToHost};

/// A transport that carries messages to the host in order. A message that cannot be sent is reported on standard error. Only
/// the process that created the link can use it, and not the processes that it forks.
pub trait Link: Send + Sync {
    /// Sends a message. Blocks while the mailbox is full.
    fn send(&self, message: &ToHost);
    /// Asks the host to do something, and waits until it is done. The error is the host's reason, or that the host did
    /// not answer.
    fn ask(&self, ask: &Ask) -> Result<(), String>;
}

static LINK: OnceLock<Box<dyn Link>> = OnceLock::new();

/// Installs `link` as the process's link to the host. Later calls have no effect.
pub fn install(link: Box<dyn Link>) {
    let _ = LINK.set(link);
}

/// Sends a message to the host, if this process has a link to it.
pub fn send(message: &ToHost) {
    if let Some(link) = LINK.get() {
        link.send(message);
    }
}

/// Returns whether this process has a link to a host, which means that it runs in a guest.
pub fn is_there() -> bool {
    LINK.get().is_some()
}

/// Answers a request in place of the host, or returns `None` to pass the request on.
pub type Answers = Rc<dyn Fn(&Ask) -> Option<Result<(), String>>>;

thread_local! {
    static ANSWERS: RefCell<Vec<Answers>> = const { RefCell::new(Vec::new()) };
}

/// A guard that [`answer_on_this_thread`] returns. When it is dropped, the answers of that call are removed, and so are all
/// answers that were installed after them.
#[derive(Debug)]
#[must_use = "the answers are removed when the guard is dropped"]
pub struct AnswersGuard {
    /// How many answers were installed before these.
    before: usize,
    /// Keeps the guard on the thread that installed the answers, because they are thread-local.
    not_send: PhantomData<Rc<()>>,
}

impl Drop for AnswersGuard {
    fn drop(&mut self) {
        ANSWERS.with_borrow_mut(|answers| answers.truncate(self.before));
    }
}

/// Installs `answers` in front of the host for the requests of this thread, so that the operations of a scenario can be
/// tried without a host. The answers that were installed last are asked first.
pub fn answer_on_this_thread(answers: Answers) -> AnswersGuard {
    ANSWERS.with_borrow_mut(|all| {
        let before = all.len();
        all.push(answers);
        AnswersGuard {
            before,
            not_send: PhantomData,
        }
    })
}

fn answered_here(ask: &Ask) -> Option<Result<(), String>> {
    // Clone the list, so that it is not borrowed while an answer runs: the answer may call `ask` itself.
    let answers = ANSWERS.with_borrow(Vec::clone);
    answers.iter().rev().find_map(|answer| answer(ask))
}

/// Asks the host to do something, and waits until it is done.
///
/// # Errors
/// The host's reason for refusing, or the reason why there is no answer: a `host_only` test has no host, a forked worker
/// cannot ask, the host did not answer in time, or the mailbox is broken.
pub fn ask(ask: &Ask) -> Result<(), String> {
    if let Some(answer) = answered_here(ask) {
        return answer;
    }
    match LINK.get() {
        Some(link) => link.ask(ask),
        None => Err(format!(
            "{} needs a virtual machine, and a host_only test has none: leave host_only out",
            ask.name()
        )),
    }
}
