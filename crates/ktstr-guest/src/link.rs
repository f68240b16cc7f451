//! The line to the host, as the rest of the guest side sees it: one `send` and one `ask`.
//!
//! A `host_only` test has no line: its messages go nowhere, and a question to the host is an error unless the thread that
//! asks has installed answers of its own.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;
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

/// Answers questions in place of the host; `None` leaves a question to the host.
pub type Answers = Rc<dyn Fn(&Ask) -> Option<Result<(), String>>>;

thread_local! {
    static ANSWERS: RefCell<Vec<Answers>> = const { RefCell::new(Vec::new()) };
}

/// Keeps [`answer_on_this_thread`] in force until it is dropped.
#[derive(Debug)]
#[must_use = "the answers are gone when the guard is dropped"]
pub struct AnswersGuard {
    /// How many answers there were before.
    before: usize,
    /// The answers belong to the thread that installed them.
    not_send: PhantomData<Rc<()>>,
}

impl Drop for AnswersGuard {
    fn drop(&mut self) {
        ANSWERS.with_borrow_mut(|answers| answers.truncate(self.before));
    }
}

/// Lets `answers` go before the host for what this thread asks, so that the operations of a scenario can be tried where
/// there is no host. The answers that were installed last are asked first.
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
    // The list is not borrowed while an answer runs: it may ask something itself.
    let answers = ANSWERS.with_borrow(Vec::clone);
    answers.iter().rev().find_map(|answer| answer(ask))
}

/// Has the host do something, and waits until it is done.
///
/// # Errors
/// The host's reason not to; in a `host_only` test, that there is no host to ask.
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
