//! The test process in the guest: it waits for its job, calls the test function, and reports the result to the host.

use std::backtrace::Backtrace;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ktstr_guest::cgroup::CgroupManager;
use ktstr_guest::init::{CGROUPS, JobSource, TestJob};
use ktstr_guest::link;
use ktstr_guest::mail::{MailLink, Mapped};
use ktstr_guest::protocol::ToHost;
use ktstr_mailbox::Ring;
use ktstr_scenario::Ctx;
use ktstr_scenario::topology::TestTopology;

use crate::entry::KtstrTestEntry;

/// Waits for a job and runs the test that the job names. Returns the exit code of the process, which does not decide the
/// verdict: the result has been sent to the host before.
pub(crate) fn main() -> i32 {
    match prepare() {
        Ok((entry, job, topology)) => call(entry, &job, &topology),
        Err(message) => {
            link::send(&ToHost::HarnessError {
                message: message.clone(),
            });
            eprintln!("ktstr: {message}");
            2
        }
    }
}

/// Does everything that is the same for every job, then waits for the job, and looks up its test. The forks of a template
/// start in this wait, so they need not repeat what comes before it.
fn prepare() -> Result<(&'static KtstrTestEntry, TestJob, TestTopology), String> {
    let region = Mapped::open().map_err(|e| format!("could not map the mailbox: {e}"))?;
    link::install(Box::new(MailLink::new(region, Ring::Test)));
    let jobs = JobSource::open().map_err(|e| format!("could not open the source of jobs: {e}"))?;
    let topology = TestTopology::from_system().map_err(|e| e.to_string())?;
    ktstr_guest::init::touch_program();
    let job = jobs
        .wait()
        .map_err(|e| format!("could not receive a job: {e}"))?;
    for (name, value) in &job.job.env {
        // SAFETY: this is the process's only thread; its `main` has yet to be called.
        unsafe { std::env::set_var(name, value) };
    }
    let entry = crate::entry::find_test(&job.job.test)
        .ok_or_else(|| format!("the guest's binary has no test `{}`", job.job.test))?;
    Ok((entry, job, topology))
}

fn call(entry: &'static KtstrTestEntry, job: &TestJob, topology: &TestTopology) -> i32 {
    report_panics();
    let cgroups =
        CgroupManager::mounted(CGROUPS, [CGROUPS, job.job.workload_root.as_str()].concat());
    let mut builder = Ctx::builder(&cgroups, topology)
        .duration(entry.duration)
        .sched_pid(job.sched_pid)
        .assert(entry.scheduler.assert.merge(&entry.assert))
        .entry_name(entry.name)
        .wait_for_map_write(!entry.bpf_map_write.is_empty())
        .variant_hash(job.job.variant)
        .seed(job.job.seed)
        .capture_times(entry.capture_times());
    if entry.scheduler.binary.has_active_scheduling() {
        builder = builder.scheduler(&entry.scheduler.binary);
    }
    let ctx = builder.build();
    link::send(&ToHost::FunctionCalled);
    match catch_unwind(AssertUnwindSafe(|| (entry.func)(&ctx))) {
        Ok(Ok(result)) => {
            link::send(&ToHost::TestResult(Box::new(result)));
            0
        }
        Ok(Err(error)) => {
            link::send(&ToHost::TestError {
                message: format!("{error:#}"),
            });
            1
        }
        // The panic hook has reported the panic to the host already.
        Err(_) => 101,
    }
}

/// Installs a hook that reports a panic of the test function, in any thread, to the host with its location.
fn report_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        let backtrace = Backtrace::capture();
        let mut message = info.to_string();
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            message.push_str(&format!("\n{backtrace}"));
        }
        link::send(&ToHost::TestPanicked { message });
    }));
}
