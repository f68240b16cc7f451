//! A setter for each field of an entry, for entries that the `const` functions or the macros of a test crate build.
//!
//! If a field is missing from the table below, this file does not compile.

use std::time::Duration;

use ktstr_assert::{Assert, PerfDeltaAssertion};
use ktstr_scenario::disk::DiskConfig;
use ktstr_scenario::payload::Payload;
use ktstr_scenario::scheduler::{BpfMapWrite, CgroupPath, Scheduler, WatchBpfMap};
use ktstr_scenario::topology::{Topology, TopologyConstraints};

use crate::entry::{ClockMode, KtstrTestEntry, PostVmFn, TestFn};

macro_rules! setters {
    (
        always { $( $with:ident $field:ident: $ty:ty; )+ }
        optional { $( $with_some:ident $without:ident $option:ident: $of:ty; )+ }
    ) => {
        impl KtstrTestEntry {
            /// Creates an entry with the default values, which has neither a name nor a function yet. It is the same as
            /// [`Self::DEFAULT`].
            pub const fn new() -> Self {
                // The compiler's error names a field that is missing from the table.
                let Self { $($field: _,)+ $($option: _,)+ } = Self::DEFAULT;
                Self::DEFAULT
            }

            $(
                #[doc = concat!("Returns the entry with this value of [`", stringify!($field), "`](Self::", stringify!($field), ").")]
                #[must_use]
                pub const fn $with(mut self, $field: $ty) -> Self {
                    self.$field = $field;
                    self
                }
            )+
            $(
                #[doc = concat!("Returns the entry with this value of [`", stringify!($option), "`](Self::", stringify!($option), ").")]
                #[must_use]
                pub const fn $with_some(mut self, $option: $of) -> Self {
                    self.$option = Some($option);
                    self
                }

                #[doc = concat!("Returns the entry without a value of [`", stringify!($option), "`](Self::", stringify!($option), ").")]
                #[must_use]
                pub const fn $without(mut self) -> Self {
                    self.$option = None;
                    self
                }
            )+
        }
    };
}

setters! {
    always {
        with_name name: &'static str;
        with_func func: TestFn;
        with_topology topology: Topology;
        with_constraints constraints: TopologyConstraints;
        with_memory_mib memory_mib: u32;
        with_scheduler scheduler: &'static Scheduler;
        with_assert assert: Assert;
        with_extra_sched_args extra_sched_args: &'static [&'static str];
        with_staged_schedulers staged_schedulers: &'static [&'static Scheduler];
        with_workloads workloads: &'static [&'static Payload];
        with_bpf_map_write bpf_map_write: &'static [&'static BpfMapWrite];
        with_watch_bpf_maps watch_bpf_maps: &'static [&'static WatchBpfMap];
        with_perf_delta_assertions perf_delta_assertions: &'static [&'static PerfDeltaAssertion];
        with_watchdog_timeout watchdog_timeout: Duration;
        with_duration duration: Duration;
        with_expect_err expect_err: bool;
        with_allow_inconclusive allow_inconclusive: bool;
        with_host_only host_only: bool;
        with_ignored ignored: bool;
        with_extra_include_files extra_include_files: &'static [&'static str];
        with_num_snapshots num_snapshots: u32;
        with_kargs kargs: &'static [&'static str];
        with_clock clock: ClockMode;
        with_fresh_attach fresh_attach: bool;
        with_performance_mode performance_mode: bool;
        with_no_perf_mode no_perf_mode: bool;
        with_auto_repro auto_repro: bool;
        with_survives_storm survives_storm: bool;
        with_kaslr kaslr: bool;
        with_pci pci: bool;
    }
    optional {
        with_cpu_budget without_cpu_budget cpu_budget: u32;
        with_config_content without_config_content config_content: &'static str;
        with_payload without_payload payload: &'static Payload;
        with_cleanup_budget without_cleanup_budget cleanup_budget: Duration;
        with_post_vm without_post_vm post_vm: PostVmFn;
        with_post_vm_unconditional without_post_vm_unconditional post_vm_unconditional: PostVmFn;
        with_workload_root_cgroup without_workload_root_cgroup workload_root_cgroup: CgroupPath;
        with_disk without_disk disk: DiskConfig;
        with_seed without_seed seed: u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setter_sets_its_field_and_no_other() {
        const SECOND: Duration = Duration::from_secs(1);
        const BUILT: KtstrTestEntry = KtstrTestEntry::new()
            .with_name("built")
            .with_num_snapshots(3)
            .with_duration(SECOND)
            .with_cleanup_budget(SECOND)
            .with_seed(7)
            .without_seed();
        let literal = KtstrTestEntry {
            name: "built",
            num_snapshots: 3,
            duration: SECOND,
            cleanup_budget: Some(SECOND),
            ..KtstrTestEntry::DEFAULT
        };
        assert_eq!(format!("{BUILT:?}"), format!("{literal:?}"));
        assert_eq!(BUILT.validate(), Ok(()));
    }
}
