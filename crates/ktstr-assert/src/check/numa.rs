//! Checks on the placement of pages.

use super::Assert;
use crate::outcome::{AssertDetail, AssertResult, DetailKind, Finding};
use crate::stats::PhaseCgroupStats;
use std::collections::BTreeSet;

/// The NUMA nodes against which the pages of a cgroup are checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupNodes {
    /// The nodes on which the cgroup's pages are expected.
    pub expected: BTreeSet<usize>,
    /// The nodes that have memory but no CPUs.
    pub memory_only: BTreeSet<usize>,
}

impl Assert {
    /// Judges the pages of a cgroup. `knows_nodes` says whether the nodes on which the pages are expected are known. Only then
    /// does `c` have a count of local pages. `memory_only` has the nodes with memory but without CPUs; `None` if the topology is
    /// unknown.
    pub(super) fn judge_numa(
        &self,
        c: &PhaseCgroupStats,
        knows_nodes: bool,
        memory_only: Option<&BTreeSet<usize>>,
        out: &mut AssertResult,
    ) {
        if self.min_page_locality.is_some() {
            if knows_nodes {
                let local = c.numa_pages_local.unwrap_or(0);
                let observed = crate::math::ratio(local, c.numa_pages_total);
                out.merge(self.assert_page_locality(observed, c.numa_pages_total, local));
            } else {
                out.record_inconclusive(not_measured(
                    DetailKind::PageLocality,
                    "page locality",
                    "the cgroup's expected NUMA nodes are unknown",
                ));
            }
        }
        if self.max_cross_node_migration_ratio.is_some() {
            out.merge(self.assert_cross_node_migration(c.cross_node_migrated, c.pages_held));
        }
        if self.max_slow_tier_ratio.is_some() {
            match memory_only {
                Some(slow) => {
                    out.merge(self.assert_slow_tier(c.pages_on(slow), c.numa_pages_total));
                }
                None => {
                    out.record_inconclusive(not_measured(
                        DetailKind::SlowTier,
                        "the share of pages on memory-only nodes",
                        "the topology is unknown here",
                    ));
                }
            }
        }
    }

    /// Judges the share of pages on memory-only nodes, `slow` of `total` pages, against `max_slow_tier_ratio`. Without
    /// any pages the check is inconclusive.
    pub fn assert_slow_tier(&self, slow: u64, total: u64) -> AssertResult {
        let Some(ceiling) = self.max_slow_tier_ratio else {
            return AssertResult::pass();
        };
        match crate::math::ratio(slow, total) {
            Some(r) if r <= ceiling => AssertResult::pass(),
            Some(ratio) => AssertResult::fail(AssertDetail::of(Finding::SlowTier {
                slow,
                total,
                ratio,
                ceiling,
            })),
            None => AssertResult::inconclusive(not_measured(
                DetailKind::SlowTier,
                "the share of pages on memory-only nodes",
                "no pages were seen",
            )),
        }
    }

    /// Judges the share of pages on the expected nodes, `local` of `total` pages, against `min_page_locality`.
    /// `observed` is that share; `None`, for no pages at all, counts as 0.
    pub fn assert_page_locality(
        &self,
        observed: Option<f64>,
        total: u64,
        local: u64,
    ) -> AssertResult {
        let (share, Some(floor)) = (observed.unwrap_or(0.0), self.min_page_locality) else {
            return AssertResult::pass();
        };
        if share >= floor {
            return AssertResult::pass();
        }
        AssertResult::fail(AssertDetail::of(Finding::PageLocality {
            local,
            total,
            share,
            floor,
        }))
    }

    /// Judges the ratio of `migrated` to `total` against `max_cross_node_migration_ratio`. `migrated` is the number of pages
    /// that the kernel moved between nodes in the whole machine, and `total` is the number of pages of the cgroup's workers,
    /// so the ratio can exceed 1. If `total` is 0, the check fails if `migrated` is not 0, and is inconclusive otherwise.
    pub fn assert_cross_node_migration(&self, migrated: u64, total: u64) -> AssertResult {
        let Some(ceiling) = self.max_cross_node_migration_ratio else {
            return AssertResult::pass();
        };
        let ratio = crate::math::ratio(migrated, total);
        match ratio {
            Some(r) if r <= ceiling => AssertResult::pass(),
            None if migrated == 0 => AssertResult::inconclusive(not_measured(
                DetailKind::CrossNodeMigration,
                "cross-node migration",
                "no pages were seen",
            )),
            _ => AssertResult::fail(AssertDetail::of(Finding::PagesMoved {
                moved: migrated,
                total,
                ratio,
                ceiling,
            })),
        }
    }
}

fn not_measured(kind: DetailKind, what: &str, why: &str) -> AssertDetail {
    AssertDetail::of(Finding::NotMeasured {
        kind,
        what: what.to_owned(),
        why: format!(": {why}"),
    })
}
