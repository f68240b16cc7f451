//! The language of a test: topologies, cgroups, steps, workloads, schedulers. Plain data.
