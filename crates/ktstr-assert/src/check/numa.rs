//! Checks of where pages are.

use super::Assert;
use crate::outcome::{AssertDetail, AssertResult, DetailKind};
use crate::stats::PhaseCgroupStats;
use std::collections::BTreeSet;

/// What is known of the nodes of a cgroup's machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupNodes {
    /// Those that the cgroup's pages are expected on.
    pub expected: BTreeSet<usize>,
    /// Those that have memory and no CPU.
    pub memory_only: BTreeSet<usize>,
}

impl Assert {
    pub(super) fn judge_numa(
        &self,
        c: &PhaseCgroupStats,
        nodes: Option<&BTreeSet<usize>>,
        memory_only: Option<&BTreeSet<usize>>,
        out: &mut AssertResult,
    ) {
        if self.min_page_locality.is_some() {
            match nodes {
                Some(nodes) => {
                    let mut c = c.clone();
                    c.set_local_nodes(nodes);
                    let local = c.numa_pages_local.unwrap_or(0);
                    let observed = crate::math::ratio(local, c.numa_pages_total);
                    out.merge(self.assert_page_locality(observed, c.numa_pages_total, local));
                }
                None => {
                    out.record_inconclusive(AssertDetail::new(
                        DetailKind::PageLocality,
                        "page locality cannot be told: the cgroup's expected NUMA nodes are not known",
                    ));
                }
            }
        }
        if self.max_cross_node_migration_ratio.is_some() {
            out.merge(self.assert_cross_node_migration(c.cross_node_migrated, c.numa_pages_total));
        }
        if self.max_slow_tier_ratio.is_some() {
            match memory_only {
                Some(slow) => {
                    out.merge(self.assert_slow_tier(c.pages_on(slow), c.numa_pages_total));
                }
                None => {
                    out.record_inconclusive(AssertDetail::new(
                        DetailKind::SlowTier,
                        "the share of pages on memory-only nodes cannot be told: the topology is not known here",
                    ));
                }
            }
        }
    }

    /// Judges `slow` of `total` pages, those on memory-only nodes, against `max_slow_tier_ratio`.
    pub fn assert_slow_tier(&self, slow: u64, total: u64) -> AssertResult {
        let Some(ceiling) = self.max_slow_tier_ratio else {
            return AssertResult::pass();
        };
        let detail = |m: String| AssertDetail::new(DetailKind::SlowTier, m);
        match crate::math::ratio(slow, total) {
            Some(r) if r <= ceiling => AssertResult::pass(),
            Some(r) => AssertResult::fail(detail(format!(
                "slow tier ratio {r:.3} above {ceiling}: {slow} of {total} pages on memory-only nodes"
            ))),
            None => AssertResult::inconclusive(detail(
                "the share of pages on memory-only nodes cannot be told: no pages were seen".into(),
            )),
        }
    }

    /// Judges `local` of `total` pages against `min_page_locality`. `observed` is their quotient;
    /// no pages at all count as a locality of 0.
    pub fn assert_page_locality(
        &self,
        observed: Option<f64>,
        total: u64,
        local: u64,
    ) -> AssertResult {
        let (is, Some(floor)) = (observed.unwrap_or(0.0), self.min_page_locality) else {
            return AssertResult::pass();
        };
        if is >= floor {
            return AssertResult::pass();
        }
        AssertResult::fail(AssertDetail::new(
            DetailKind::PageLocality,
            format!(
                "page locality {is:.3} below {floor}: {local} of {total} pages on the expected nodes"
            ),
        ))
    }

    /// Judges `migrated` of `total` pages against `max_cross_node_migration_ratio`. Without pages
    /// nothing can be told, unless some moved.
    pub fn assert_cross_node_migration(&self, migrated: u64, total: u64) -> AssertResult {
        let Some(ceiling) = self.max_cross_node_migration_ratio else {
            return AssertResult::pass();
        };
        let detail = |m: String| AssertDetail::new(DetailKind::CrossNodeMigration, m);
        match crate::math::ratio(migrated, total) {
            Some(r) if r <= ceiling => AssertResult::pass(),
            Some(r) => AssertResult::fail(detail(format!(
                "cross-node migration ratio {r:.3} above {ceiling}: {migrated} of {total} pages moved"
            ))),
            None if migrated > 0 => AssertResult::fail(detail(format!(
                "{migrated} pages moved between nodes, of 0 pages seen (ceiling {ceiling})"
            ))),
            None => AssertResult::inconclusive(detail(
                "cross-node migration cannot be told: no pages were seen".into(),
            )),
        }
    }
}
