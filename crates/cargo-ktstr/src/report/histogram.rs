//! Histograms of the lengths of waits. The upper end of each bar is twice that of the bar before it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ktstr_schedule::query::{Wait, WaitCause, percentile};

use super::html::{length, text};
use crate::story::Story;

/// The largest number of cgroups that get histograms; those with the largest numbers of waits are taken.
const CGROUPS: usize = 4;
/// The upper end of the first bar in nanoseconds.
const SHORTEST: u64 = 1_000;

/// Renders the histograms of waits and of wake-up latencies during the holds of the steps: for all tasks, then for up to
/// [`CGROUPS`] cgroups, the one with the largest number of waits first.
pub fn histograms(story: &Story) -> String {
    let waits = &story.answers.waits;
    // A wait counts with its whole length if it overlaps the hold of a step. A wait that was never served ends with the
    // schedule.
    let in_steps = |wait: &Wait| {
        let mut held = story.timeline.held.iter();
        held.any(|held| wait.from_ns < held.to_ns && wait.to_ns > held.from_ns)
    };
    let mut by_cgroup: BTreeMap<Option<u64>, usize> = BTreeMap::new();
    for wait in waits.iter().filter(|wait| in_steps(wait)) {
        *by_cgroup.entry(wait.cgroup).or_default() += 1;
    }
    let mut order: Vec<(Option<u64>, usize)> = by_cgroup.into_iter().collect();
    order.sort_by_key(|(cgroup, count)| (std::cmp::Reverse(*count), *cgroup));
    let mut out = String::from("<div class=\"grid\">");
    let mut pair = |of: &str, wanted: &dyn Fn(&Wait) -> bool| {
        let lengths = |woken: bool| {
            let found = waits.iter().filter(|wait| in_steps(wait) && wanted(wait));
            let found = found.filter(|wait| !woken || wait.cause == WaitCause::Woken);
            found.map(Wait::len_ns).collect::<Vec<u64>>()
        };
        out.push_str(&one(&format!("Waits, {of}"), lengths(false)));
        out.push_str(&one(&format!("Wake-up latencies, {of}"), lengths(true)));
    };
    pair("all tasks", &|_| true);
    for (cgroup, _) in order.into_iter().take(CGROUPS) {
        pair(&story.cgroup(cgroup), &|wait| wait.cgroup == cgroup);
    }
    out.push_str("</div>\n");
    out
}

/// Counts the lengths in bars whose upper ends double from bar to bar. Returns (from, to, count) for each bar, without
/// empty bars at the ends; `from` and `to` are in nanoseconds, and `to` is not included.
fn bars(lengths: &[u64]) -> Vec<(u64, u64, usize)> {
    let bucket = |ns: u64| (ns / SHORTEST).checked_ilog2().map_or(0, |log| log + 1);
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for ns in lengths {
        *counts.entry(bucket(*ns)).or_default() += 1;
    }
    let (Some(first), Some(last)) = (counts.keys().next(), counts.keys().next_back()) else {
        return Vec::new();
    };
    let bars = (*first..=*last).map(|bucket| {
        let to = SHORTEST.saturating_mul(2u64.saturating_pow(bucket));
        let from = if bucket == 0 { 0 } else { to / 2 };
        (from, to, counts.get(&bucket).copied().unwrap_or(0))
    });
    bars.collect()
}

/// Renders the figure of one histogram.
fn one(caption: &str, mut lengths: Vec<u64>) -> String {
    const WIDTH: usize = 320;
    const HEIGHT: usize = 96;
    lengths.sort_unstable();
    let at = |percent| percentile(&lengths, percent).map_or_else(|| "-".to_owned(), length);
    let shown = match lengths.len() {
        0 => "none in the steps".to_owned(),
        count => format!(
            "{count}: median {}, p99 {}, longest {}",
            at(50.0),
            at(99.0),
            at(100.0)
        ),
    };
    let caption = text(caption);
    let mut out = format!(
        "<figure><figcaption>{caption}<br><small>{}</small></figcaption>",
        text(&shown)
    );
    let bars = bars(&lengths);
    let most = bars
        .iter()
        .map(|(.., count)| *count)
        .max()
        .unwrap_or(0)
        .max(1);
    if !bars.is_empty() {
        let _ = write!(
            out,
            "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{caption}: {}\">",
            HEIGHT + 16,
            text(&shown)
        );
    }
    // A bar has at most an eighth of the width, so that a few of them do not fill the whole figure.
    let width = WIDTH as f64 / bars.len().max(8) as f64;
    let every = bars.len().div_ceil(5);
    for (place, (from, to, count)) in bars.iter().enumerate() {
        let x = place as f64 * width;
        let high = if *count == 0 {
            0.0
        } else {
            (*count as f64 / most as f64 * HEIGHT as f64).max(1.5)
        };
        let _ = write!(
            out,
            "<rect class=\"bar\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{high:.1}\"><title>{} to {}: {count}</title></rect>",
            x + 1.0,
            HEIGHT as f64 - high,
            (width - 2.0).max(1.0),
            length(*from),
            length(*to)
        );
        if place % every == 0 {
            let _ = write!(
                out,
                "<text x=\"{:.1}\" y=\"{}\">{}</text>",
                x + 1.0,
                HEIGHT + 12,
                length(*from)
            );
        }
    }
    if !bars.is_empty() {
        out.push_str("</svg>");
    }
    out.push_str("</figure>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::testing::story;

    #[test]
    fn lengths_are_counted_by_powers_of_two() {
        let bars = bars(&[0, 999, 1_000, 1_999, 2_000, 9_000]);
        let expected = [
            (0, 1_000, 2),
            (1_000, 2_000, 2),
            (2_000, 4_000, 1),
            (4_000, 8_000, 0),
            (8_000, 16_000, 1),
        ];
        assert_eq!(bars, expected);
        assert_eq!(super::bars(&[]), []);
        // The upper end of the bar with the longest possible wait does not fit into 64 bits, so it saturates.
        assert_eq!(super::bars(&[u64::MAX]), [(u64::MAX / 2, u64::MAX, 1)]);
    }

    #[test]
    fn a_figure_says_what_it_shows() {
        let page = histograms(&story());
        assert!(page.contains("Waits, all tasks"), "{page}");
        assert!(page.contains("longest 29.0 ms"), "{page}");
        assert!(
            page.contains("Wake-up latencies, /ktstr/&lt;b&gt;cell"),
            "{page}"
        );
        assert!(one("x", Vec::new()).contains("none in the steps"));
    }
}
