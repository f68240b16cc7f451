//! The guest's half of a file's run, and its claims on the host.

use std::sync::OnceLock;

use ktstr::prelude::*;
use ktstr::scenario::file::{self, ScenarioFile};

use super::{IN_GUEST, TEST};

/// Stands for whatever scheduler the host has started: the guest has to know that one was.
static ANY: Scheduler = Scheduler::named("any").binary(SchedulerSpec::Discover("any"));

/// What is called in the guest. The host runs an entry of the same name with the file's settings.
#[ktstr_test_entry]
static ENTRY: KtstrTestEntry = KtstrTestEntry {
    name: TEST,
    func: body,
    scheduler: &ANY,
    ..KtstrTestEntry::DEFAULT
};

/// The file says what the registered entry does not know: for how long it runs, and which checks there are.
fn body(ctx: &Ctx) -> Result<AssertResult> {
    let path = format!("/include-files/{IN_GUEST}");
    let file = ScenarioFile::from_text(&std::fs::read_to_string(path)?)?;
    let entry = file::entry(&file, TEST, body)?;
    let mut own = ctx.clone();
    own.duration = entry.duration;
    own.assert = entry.scheduler.assert.merge(&entry.assert);
    execute_scenario(&own, file.scenario.backdrop, file.scenario.steps)
}

/// The file whose claims are held against the run: a process does one.
static FILE: OnceLock<ScenarioFile> = OnceLock::new();

/// A callback on the host after the machine has ended.
type PostVm = fn(&VmResult) -> Result<()>;

/// The callback that judges the claims of a text, if there are some.
pub(super) fn claims(text: &str) -> Option<PostVm> {
    let file = FILE.get_or_init(|| ScenarioFile::from_text(text).expect("it was read before"));
    match file.claims.is_empty() {
        true => None,
        false => Some(hold),
    }
}

fn hold(vm: &VmResult) -> Result<()> {
    FILE.get().map_or(Ok(()), |file| file::judge(file, vm))
}
