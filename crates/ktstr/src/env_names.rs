//! The names of the environment variables of ktstr as constants, for programs that start tests and set variables for them. What
//! each variable does is a row of the table in `ktstr-state/src/env/table.rs`, from which the names come.

use ktstr_state::env;

macro_rules! names {
    ($($constant:ident = $variable:ident;)+) => {
        $(
            #[doc = concat!("The name of the environment variable `", stringify!($variable), "` of ktstr; the README describes it.")]
            pub const $constant: &str = env::$variable.name();
        )+

        #[cfg(test)]
        const ALL: &[(&str, &str)] = &[$((stringify!($constant), $constant),)+];
    };
}

names! {
    KTSTR_KERNEL_ENV = KERNEL;
    KTSTR_TEST_KERNEL_ENV = TEST_KERNEL;
    KTSTR_AUTO_REPRO_ENV = AUTO_REPRO;
    KTSTR_SCHEDULER_ENV = SCHEDULER;
    KTSTR_SCHEDULER_PROFILE_ENV = SCHEDULER_PROFILE;
    KTSTR_QEMU_ENV = QEMU;
    KTSTR_ACCEL_ENV = ACCEL;
    KTSTR_CLOCK_ENV = CLOCK;
    KTSTR_VIRTUAL_MIPS_ENV = VIRTUAL_MIPS;
    KTSTR_COLD_ENV = COLD;
    KTSTR_TOPOLOGY_ENV = TOPOLOGY;
    KTSTR_MOMENTS_ENV = MOMENTS;
    KTSTR_CAPTURE_AT_ENV = CAPTURE_AT;
    KTSTR_MONITOR_ENV = MONITOR;
    KTSTR_TURN_US_ENV = TURN_US;
    KTSTR_SCHEDULE_ENV = SCHEDULE;
    KTSTR_FRESH_ATTACH_ENV = FRESH_ATTACH;
    KTSTR_TEMPLATES_MIB_ENV = TEMPLATES_MIB;
    KTSTR_MACHINES_ENV = MACHINES;
    KTSTR_NO_PERF_MODE_ENV = NO_PERF_MODE;
    KTSTR_NO_SKIP_MODE_ENV = NO_SKIP_MODE;
    KTSTR_SEED_ENV = SEED;
    KTSTR_OFFLINE_ENV = OFFLINE;
    KTSTR_CACHE_DIR_ENV = CACHE_DIR;
    KTSTR_RUNS_ROOT_ENV = RUNS_ROOT;
    KTSTR_SIDECAR_DIR_ENV = SIDECAR_DIR;
    KTSTR_CI_ENV = CI;
    KTSTR_KERNEL_LIST_ENV = KERNEL_LIST;
    KTSTR_SEED_LIST_ENV = SEED_LIST;
    KTSTR_PERF_BASELINE_ENV = PERF_BASELINE;
    KTSTR_CPU_CAP_ENV = CPU_CAP;
    KTSTR_HOST_CGROUP_PARENT_ENV = HOST_CGROUP_PARENT;
    KTSTR_VERBOSE_ENV = VERBOSE;
    KTSTR_LOG_PASSES_ENV = LOG_PASSES;
    KTSTR_SESSION_ENV = SESSION;
    KTSTR_RECORDED_SCHEDULERS_ENV = RECORDED_SCHEDULERS;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_variable_of_ktstr_has_a_constant_with_its_name() {
        let rows = env::TABLE.iter().map(|row| row.name);
        let own: Vec<&str> = rows.filter(|name| name.starts_with("KTSTR_")).collect();
        let constants: Vec<&str> = ALL.iter().map(|(_, name)| *name).collect();
        assert_eq!(constants, own, "left: the constants; right: the table");
        for (constant, name) in ALL {
            assert_eq!(*constant, format!("{name}_ENV"));
        }
    }
}
