//! The part of a file's run that executes in the guest, and the claims that are judged on the host.

use std::sync::OnceLock;

use ktstr::prelude::*;
use ktstr::scenario::file::{self, ScenarioFile};

use super::{IN_GUEST, TEST};

/// A placeholder for the scheduler that the host chose: the guest has to know that there is a scheduler.
static ANY: Scheduler = Scheduler::named("any").binary(SchedulerSpec::Discover("any"));

/// The entry that is called in the guest. The host runs an entry of the same name with the file's settings.
#[ktstr_test_entry]
static ENTRY: KtstrTestEntry = KtstrTestEntry {
    name: TEST,
    func: body,
    scheduler: &ANY,
    ..KtstrTestEntry::DEFAULT
};

/// The registered entry does not have the duration and the checks, so they are taken from the file.
fn body(ctx: &Ctx) -> Result<AssertResult> {
    let path = format!("/include-files/{IN_GUEST}");
    let file = ScenarioFile::from_text(&std::fs::read_to_string(path)?)?;
    let entry = file::entry(&file, TEST, body)?;
    let mut own = ctx.clone();
    own.duration = entry.duration;
    own.assert = entry.scheduler.assert.merge(&entry.assert);
    execute_scenario(&own, file.scenario.backdrop, file.scenario.steps)
}

/// The file whose claims are checked. There is only one, because a process makes one run.
static FILE: OnceLock<ScenarioFile> = OnceLock::new();

/// A callback that runs on the host after the machine has ended.
type PostVm = fn(&VmResult) -> Result<()>;

/// Returns the callback that judges the claims of the file with this text; `None` if the file has no claims.
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
