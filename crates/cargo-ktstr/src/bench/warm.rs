//! What templates save: the same runs, booted, forked, and forked after a rebuild of the test.

use ktstr_record::RunRecord;
use ktstr_record::brief::counted;

use super::case::{Case, Measured, Start};
use super::page::{Row, Section, Unit};
use super::part;
use crate::summary::Summary;

/// Returns the section. Each machine shape and scheduler has two rows: the time until the test function, and the time beyond
/// the window. Each row has the times of each [`Start`].
pub fn section(measured: &[Measured]) -> Section {
    let shapes = measured
        .iter()
        .filter(|m| m.case.start == Start::Cold)
        .map(|m| m.case);
    let quantity = |name, what: &'static str, value: fn(&RunRecord) -> Option<f64>| {
        shapes
            .clone()
            .map(move |shape| row(measured, shape, name, what, value))
    };
    let rows = quantity(
        "to test",
        "to the test function's first instruction",
        to_function,
    )
    .chain(quantity(
        "overhead",
        "wall time beyond the window",
        beyond_window,
    ))
    .collect();
    Section {
        title: "Cold, warm, and after a rebuild of the test",
        columns: Start::ALL.map(|start| start.name().to_owned()).into(),
        rows,
    }
}

fn row(
    measured: &[Measured],
    shape: Case,
    name: &'static str,
    what: &str,
    value: fn(&RunRecord) -> Option<f64>,
) -> Row {
    let cells: Vec<Option<Summary>> = Start::ALL
        .iter()
        .map(|&start| {
            let case = Case { start, ..shape };
            let records = measured.iter().filter(|m| m.case == case);
            Summary::of(records.flat_map(|m| &m.records).filter_map(value))
        })
        .collect();
    let gain = match cells[..] {
        [Some(cold), Some(warm), Some(rebuilt)] if warm.median > 0.0 && rebuilt.median > 0.0 => {
            format!(
                "; cold ÷ warm = {:.1}, cold ÷ rebuilt = {:.1}",
                cold.median / warm.median,
                cold.median / rebuilt.median
            )
        }
        _ => String::new(),
    };
    Row {
        name,
        unit: Unit::Seconds,
        about: format!(
            "{}, {}: {what}{gain}",
            shape.scheduler,
            counted(shape.cpus, "CPU")
        ),
        cells,
    }
}

/// Returns the time from the start of the machine, or from the restore of its template, to the start of the test function.
fn to_function(record: &RunRecord) -> Option<f64> {
    part(record, "boot")
}

fn beyond_window(record: &RunRecord) -> Option<f64> {
    Some(record.wall_s - part(record, "window")?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_times_of_a_shape_are_in_one_row() {
        let measured: Vec<Measured> = Case::all()
            .map(|case| {
                let boot = f64::from(case.cpus)
                    * match case.start {
                        Start::Cold => 10.0,
                        Start::Warm => 0.1,
                        Start::Rebuilt => 1.0,
                    };
                Measured {
                    case,
                    records: vec![RunRecord {
                        wall_s: boot + 1.5,
                        timings: [("boot".to_owned(), boot), ("window".to_owned(), 1.0)].into(),
                        ..RunRecord::new("t")
                    }],
                }
            })
            .collect();
        let section = section(&measured);
        assert_eq!(section.rows.len(), 8);
        let eight = &section.rows[2];
        assert_eq!(
            eight.about,
            "EEVDF, 8 CPUs: to the test function's first instruction; cold ÷ warm = 100.0, cold ÷ rebuilt = 10.0"
        );
        assert!((eight.cells[0].unwrap().median - 80.0).abs() < 1e-9);
        assert!((section.rows[4].cells[1].unwrap().median - 0.7).abs() < 1e-9);
    }
}
