//! The BPF scheduler's global variables over time, from the captures of a run, and the statistics that it serves. The page has a
//! chart for each variable that changed, and a row of a table for each that did not. `trace` writes the same series as counters.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ktstr_record::CaptureRecord;
use serde_json::Value;

use super::html::{table, text};

/// The largest number of variables that are drawn.
const DRAWN: usize = 24;
/// The largest number of variables that are listed.
const LISTED: usize = 100;

/// The largest number of the scheduler's own statistics that are taken from one capture.
const SERVED: usize = 500;
/// The name that takes the place of a map's name for the statistics that the scheduler itself serves.
const STATS: &str = "scx_stats";

/// The values of variables, by map and name: for each capture that has the variable, its time in milliseconds, and the value.
pub type Series = BTreeMap<(String, String), Vec<(f64, f64)>>;

/// Returns the time of a capture in milliseconds of the window's time, which pauses while steps are set up. If the record
/// does not have that time, returns the position of the capture in the list.
#[allow(
    clippy::unnecessary_wraps,
    reason = "a capture always has a place on the page"
)]
fn in_window(place: usize, capture: Option<&CaptureRecord>) -> Option<f64> {
    let elapsed = capture.and_then(|capture| capture.elapsed_ms);
    Some(elapsed.map_or(place as f64, |ms| ms as f64))
}

/// Renders the variables in `captures`, the content of `captures.json`; `index` is the record's list of the same captures, which
/// has their times.
pub fn variables(captures: &Value, index: &[CaptureRecord]) -> String {
    let series = series(captures, index, in_window);
    if series.is_empty() {
        return "<p>No capture of this run holds a numeric variable of a BPF scheduler.</p>\n"
            .to_owned();
    }
    let changed = |points: &[(f64, f64)]| points.windows(2).any(|pair| pair[0].1 != pair[1].1);
    let (moving, still): (Vec<_>, Vec<_>) = series.iter().partition(|(_, points)| changed(points));
    let mut out = String::from("<div class=\"grid\">");
    for ((map, name), points) in moving.iter().take(DRAWN) {
        out.push_str(&chart(&format!("{name} ({map})"), points));
    }
    out.push_str("</div>\n");
    if moving.len() > DRAWN {
        let _ = writeln!(
            out,
            "<p>{} more variables changed: see captures.json.</p>",
            moving.len() - DRAWN
        );
    }
    let rows: Vec<Vec<String>> = still
        .iter()
        .take(LISTED)
        .map(|((map, name), points)| {
            let last = points.last().map_or(0.0, |(_, value)| *value);
            vec![name.clone(), map.clone(), number(last)]
        })
        .collect();
    if !rows.is_empty() {
        let caption = format!(
            "Variables that were the same in every capture, {} of {}",
            rows.len(),
            still.len()
        );
        out.push_str(&table(&caption, &["Variable", "Map", "Value"], 2, &rows));
    }
    out
}

/// Returns the numeric variables in the `.bss` and `.data` sections of the active BPF scheduler, and the numbers that it serves
/// (under the map [`STATS`]), each with its values over the `captures`. A capture that does not name the maps of the active
/// scheduler counts with all of its maps. `at` returns the time of a capture, by its position and its entry in the index; a
/// capture without a time is left out.
pub fn series(
    captures: &Value,
    index: &[CaptureRecord],
    at: impl Fn(usize, Option<&CaptureRecord>) -> Option<f64>,
) -> Series {
    let mut series = Series::new();
    for (place, capture) in captures.as_array().into_iter().flatten().enumerate() {
        let report = capture.get(1).unwrap_or(&Value::Null);
        let Some(at) = at(place, index.get(place)) else {
            continue;
        };
        let served = index.get(place).and_then(|capture| capture.stats.as_ref());
        for (path, value) in served.map_or_else(Vec::new, |stats| stats.numbers(SERVED)) {
            let of = series.entry((STATS.to_owned(), path)).or_default();
            of.push((at, value));
        }
        let active = report.get("active_map_kvas").and_then(Value::as_array);
        let active = active.filter(|active| !active.is_empty());
        for map in report
            .get("maps")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let name = map.get("name").and_then(Value::as_str).unwrap_or_default();
            let is_section = [".bss", ".data"]
                .iter()
                .any(|section| name.ends_with(section));
            let kva = map.get("map_kva").unwrap_or(&Value::Null);
            if !is_section || active.is_some_and(|active| !active.contains(kva)) {
                continue;
            }
            let members = map.pointer("/value/members").and_then(Value::as_array);
            for member in members.into_iter().flatten() {
                let of = member
                    .get("name")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                if let Some(value) = member.get("value").and_then(scalar) {
                    series
                        .entry((name.to_owned(), of.to_owned()))
                        .or_default()
                        .push((at, value));
                }
            }
        }
    }
    series
}

/// Returns a rendered value as a number, a Boolean as 0 or 1; `None` if it is not a single number.
fn scalar(value: &Value) -> Option<f64> {
    let number = value.get("value")?;
    match value.get("kind")?.as_str()? {
        "int" | "uint" | "float" | "enum" => number.as_f64(),
        "bool" => Some(f64::from(u8::from(number.as_bool()?))),
        _ => None,
    }
}

fn number(value: f64) -> String {
    match value.fract() == 0.0 && value.abs() < 1e15 {
        true => format!("{value:.0}"),
        // An `f64` is not exact for large integers, so they are shown with ten digits.
        false if value.abs() >= 1e15 => format!("{value:.9e}"),
        false => format!("{value:.6}"),
    }
}

fn chart(caption: &str, points: &[(f64, f64)]) -> String {
    const WIDTH: f64 = 320.0;
    const HEIGHT: f64 = 80.0;
    let range = |of: fn(&(f64, f64)) -> f64| {
        let all = points.iter().map(of);
        all.fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(value), high.max(value))
        })
    };
    let ((left, right), (low, high)) = (range(|p| p.0), range(|p| p.1));
    let place = |value: f64, from: f64, to: f64| match to > from {
        true => (value - from) / (to - from),
        false => 0.5,
    };
    let caption = text(caption);
    let shown = format!("from {} to {}", number(low), number(high));
    let mut out = format!(
        "<figure><figcaption>{caption}<br><small>{shown}</small></figcaption><svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" \
         aria-label=\"{caption}: {shown}\"><polyline class=\"line\" points=\"",
        HEIGHT + 16.0
    );
    let at = |(time, value): &(f64, f64)| {
        let x = 4.0 + place(*time, left, right) * (WIDTH - 8.0);
        let y = HEIGHT - 4.0 - place(*value, low, high) * (HEIGHT - 8.0);
        (x, y)
    };
    for point in points {
        let (x, y) = at(point);
        let _ = write!(out, "{x:.1},{y:.1} ");
    }
    out.push_str("\"/>");
    for point in points {
        let (x, y) = at(point);
        let _ = write!(
            out,
            "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{:.2} s: {}</title></circle>",
            point.0 / 1e3,
            number(point.1)
        );
    }
    let y = HEIGHT + 12.0;
    let _ = writeln!(
        out,
        "<text x=\"4\" y=\"{y}\">{:.2} s</text><text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{:.2} s</text></svg></figure>",
        left / 1e3,
        WIDTH - 4.0,
        right / 1e3
    );
    out
}

#[cfg(test)]
mod tests {
    use ktstr_record::SchedulerStats;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_changed_is_drawn_and_what_did_not_is_listed() {
        let capture = |count: u64| {
            let uint = |name: &str, value: u64| json!({ "name": name, "value": { "kind": "uint", "bits": 64, "value": value } });
            let section = |kva: u64| {
                json!({ "name": "x.bss", "map_kva": kva, "value": { "members": [
                    uint("nr<b>", count), uint("limit", 7), { "name": "list", "value": { "kind": "array" } },
                ] } })
            };
            json!(["tag", { "active_map_kvas": [1], "maps": [section(1), section(2), { "name": "x.rodata", "map_kva": 1 }] }])
        };
        let index = [1000, 3000].map(|ms| CaptureRecord {
            elapsed_ms: Some(ms),
            stats: Some(SchedulerStats::Served(
                json!({ "load": { "0": ms, "on": true } }),
            )),
            ..CaptureRecord::default()
        });
        let captures = json!([capture(5), capture(9)]);
        let found = series(&captures, &index, in_window);
        assert_eq!(found.len(), 4, "{found:?}");
        let load = &found[&("scx_stats".to_owned(), "load.0".to_owned())];
        assert_eq!(load, &[(1000.0, 1000.0), (3000.0, 3000.0)]);
        let page = variables(&captures, &index);
        assert!(page.contains("nr&lt;b&gt; (x.bss)"), "{page}");
        assert!(page.contains("<title>3.00 s: 9</title>"), "{page}");
        assert!(
            page.contains("<td>limit</td><td>x.bss</td><td class=\"n\">7</td>"),
            "{page}"
        );
        let numbers = [7.0, 0.25, 6_004_496_034_161_779_060.0].map(number);
        assert_eq!(numbers, ["7", "0.250000", "6.004496034e18"]);
        assert!(variables(&Value::Null, &[]).contains("No capture"));
        assert!(variables(&json!([1, "x", [2]]), &[]).contains("No capture"));
    }
}
