//! The NUMA nodes of a worker's pages, read from files of the kernel.

use crate::math::ratio;
use std::collections::{BTreeMap, BTreeSet};

/// Returns the number of pages on each NUMA node from `/proc/PID/numa_maps` (`fs/proc/task_mmu.c`, `show_numa_map`):
/// the sum of its fields `N<node>=<pages>` for each node. Mappings of files, such as programs, are left out, because
/// processes share these pages, which are on the node of the process that read them first. Anything that cannot be parsed is
/// skipped.
pub fn parse_numa_maps(text: &str) -> BTreeMap<usize, u64> {
    let mut pages: BTreeMap<usize, u64> = BTreeMap::new();
    let own = text.lines().filter(|line| !line.contains(" file="));
    for word in own.flat_map(str::split_ascii_whitespace) {
        let parts = word.strip_prefix('N').and_then(|w| w.split_once('='));
        let Some((node, count)) = parts else { continue };
        if let (Ok(node), Ok(count)) = (node.parse::<usize>(), count.parse::<u64>()) {
            let sum = pages.entry(node).or_default();
            *sum = sum.saturating_add(count);
        }
    }
    pages
}

/// Returns `numa_pages_migrated` of `/proc/vmstat`; `None` if the kernel does not count it, or if it is not a number.
pub fn parse_vmstat_numa_pages_migrated(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    lines.find_map(|line| {
        line.strip_prefix("numa_pages_migrated ")?
            .trim()
            .parse()
            .ok()
    })
}

/// Returns the share of the pages that are on `nodes`, from 0 to 1; `None` without pages.
pub fn page_locality(pages: &BTreeMap<usize, u64>, nodes: &BTreeSet<usize>) -> Option<f64> {
    let sum = |of: &dyn Fn(&usize) -> bool| {
        let counted = pages.iter().filter(|(node, _)| of(node));
        counted.fold(0u64, |sum, (_, n)| sum.saturating_add(*n))
    };
    ratio(sum(&|node| nodes.contains(node)), sum(&|_| true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pages_are_summed_by_node() {
        let text = "55e4 default file=/init mapped=3 N0=2 N1=1 kernelpagesize_kB=4\n\
                    55e9 default heap anon=3 dirty=3 N0=2 N1=1 kernelpagesize_kB=4\n\
                    7ffd default stack anon=2 dirty=2 N1=2 kernelpagesize_kB=4\nNope=3 N=1 Nx=2\n";
        let pages = parse_numa_maps(text);
        assert_eq!(pages, [(0, 2), (1, 3)].into());
        assert_eq!(page_locality(&pages, &[1].into()), Some(0.6));
        assert_eq!(page_locality(&BTreeMap::new(), &[1].into()), None);
        let vmstat = "numa_hit 5\nnuma_pages_migrated 17\n";
        assert_eq!(parse_vmstat_numa_pages_migrated(vmstat), Some(17));
        assert_eq!(parse_vmstat_numa_pages_migrated("numa_hit 5\n"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_a_panic(text in "(N[0-9]{0,22}=?[0-9]{0,22}|[ -~\n]){0,60}") {
            let pages = parse_numa_maps(&text);
            let _ = page_locality(&pages, &[0].into());
            let _ = parse_vmstat_numa_pages_migrated(&text);
        }
    }
}
