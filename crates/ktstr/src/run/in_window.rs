//! What the host reads from the guest once after each attach of a scheduler in the workload window: the loaded BPF programs, the
//! watchdog timeout in effect, and which cgroup callbacks the scheduler implements.

use ktstr_assert::monitor::WatchdogObservation;
use ktstr_introspect::kernel::KernelView;
use ktstr_machine::Machine;

use super::captures::{LazyKernelInfo, RamView};
use super::guest_state::GuestState;
use super::plan::Plan;
use crate::vm_result::ProgVerifierStats;

/// The values that were read for the scheduler that attached last.
#[derive(Debug, Default)]
pub(super) struct InWindow {
    pub(super) programs: Vec<ProgVerifierStats>,
    pub(super) watchdog: Option<WatchdogObservation>,
    /// Whether the scheduler has no callback by which the kernel could tell it the weights of cgroups, so that it cannot
    /// follow them.
    pub(super) ignores_weights: bool,
    /// Whether the scheduler implements `cgroup_set_idle`, the callback by which the kernel tells it of `cpu.idle`. Always
    /// `false` on kernels without this callback.
    pub(super) told_of_idle: bool,
    /// How many times a scheduler had attached when the values were read; `None` before they are read for the first time.
    attaches: Option<u32>,
}

impl InWindow {
    /// Reads the values as soon as the window is open and a scheduler is attached, and again after the test has
    /// attached another scheduler, or the kernel has asked the scheduler to attach again.
    pub(super) fn poll(
        &mut self,
        machine: &Machine,
        kernel_info: &mut LazyKernelInfo,
        guest: &GuestState,
        plan: &Plan,
    ) {
        let attached = guest.attached.is_some() && !guest.stopped_by_test;
        if guest.window.opened.is_none() || !attached || self.attaches == Some(guest.all_attaches())
        {
            return;
        }
        self.attaches = Some(guest.all_attaches());
        let Ok(info) = kernel_info.get() else { return };
        let memory = RamView(machine.ram());
        let Ok(view) = KernelView::new(&memory, &info.symbols, &info.btf) else {
            return;
        };
        let programs = view.prog_runtime_stats().unwrap_or_default();
        self.programs = programs
            .into_iter()
            .map(|program| ProgVerifierStats {
                name: program.name,
                verified_insns: program.verified_insns,
            })
            .collect();
        // The kernel passes the weight to both callbacks: for `cgroup_init` it is in `struct scx_cgroup_init_args`.
        let weights = ["cgroup_set_weight", "cgroup_init"];
        self.ignores_weights =
            (weights.iter()).all(|callback| view.scx_implements(callback) == Some(false));
        self.told_of_idle = view.scx_implements("cgroup_set_idle") == Some(true);
        let observed = view.scx_sched_state().ok();
        let observed = observed.and_then(|state| state.watchdog_timeout);
        self.watchdog =
            observed
                .zip(expected_jiffies(plan))
                .map(|(observed_jiffies, expected_jiffies)| WatchdogObservation {
                    expected_jiffies,
                    observed_jiffies,
                });
    }
}

/// Returns the test's timeout in jiffies, at least 2; `None` if the kernel's configuration or its `CONFIG_HZ` is unknown.
fn expected_jiffies(plan: &Plan) -> Option<u64> {
    let config = std::fs::read_to_string(plan.kernel.config.as_ref()?).ok()?;
    let hz = config
        .lines()
        .find_map(|line| line.strip_prefix("CONFIG_HZ="));
    let hz: u64 = hz?.trim().parse().ok()?;
    // The kernel's watchdog runs twice in this time, so the harness sets at least two jiffies.
    Some((plan.setup.watchdog_timeout_ms.saturating_mul(hz) / 1000).max(2))
}
