//! A section of the bench as data, and as a table.

use serde::Serialize;

use crate::summary::Summary;
use crate::table;

/// One table: what was measured, and in which cases.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// The heading of the table.
    pub title: &'static str,
    /// The cases that are compared.
    pub columns: Vec<String>,
    /// The measured quantities, one per line of the table.
    pub rows: Vec<Row>,
}

/// The unit of a quantity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Seconds, shown as milliseconds.
    #[default]
    Seconds,
    /// Bytes, shown as MiB.
    Bytes,
    /// Bytes per item, shown as bytes.
    BytesEach,
    /// A ratio of two measured values, shown with the suffix `x`.
    Times,
}

/// One quantity in every case.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The name of the quantity, as shown in the first column of the table.
    pub name: &'static str,
    /// The unit of the values.
    pub unit: Unit,
    /// A short explanation of the quantity.
    pub about: String,
    /// One value per column; `None` where there is nothing to measure.
    pub cells: Vec<Option<Summary>>,
}

/// Returns the section as a text table.
pub fn render(section: &Section) -> String {
    let mut header = vec!["PART"];
    header.extend(section.columns.iter().map(String::as_str));
    header.push("");
    let mut table = table::numbers(&header, 1);
    if let Some(last) = table.column_mut(header.len() - 1) {
        last.set_cell_alignment(comfy_table::CellAlignment::Left);
    }
    for row in &section.rows {
        let mut cells = vec![row.name.to_owned()];
        cells.extend(row.cells.iter().map(|summary| cell(summary, row.unit)));
        cells.push(row.about.clone());
        table.add_row(cells);
    }
    format!("\n{}\n\n{}\n", section.title, table.trim_fmt())
}

fn cell(summary: &Option<Summary>, unit: Unit) -> String {
    let Some(summary) = summary else {
        return "-".to_owned();
    };
    let (number, suffix): (fn(f64) -> String, _) = match unit {
        Unit::Seconds => (ms, "ms"),
        Unit::Bytes => (mib, "MiB"),
        Unit::BytesEach => (hundredths, "B"),
        Unit::Times => (hundredths, "x"),
    };
    let [median, min, max] = [summary.median, summary.min, summary.max].map(number);
    if summary.samples == 1 {
        format!("{median} {suffix}")
    } else {
        format!("{median} ({min}–{max}) {suffix}")
    }
}

fn mib(bytes: f64) -> String {
    format!("{:.0}", bytes / f64::from(1 << 20))
}

fn hundredths(number: f64) -> String {
    format!("{number:.2}")
}

/// Formats seconds as milliseconds; small values get a digit after the decimal point.
fn ms(seconds: f64) -> String {
    let ms = seconds * 1e3;
    if ms < 9.95 {
        format!("{ms:.1}")
    } else {
        format!("{ms:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let of = |median: f64| {
            Some(Summary {
                median,
                min: median / 2.0,
                max: median * 2.0,
                samples: 5,
            })
        };
        let section = Section {
            title: "Where the time goes",
            columns: vec!["EEVDF".to_owned(), "SCX".to_owned()],
            rows: vec![
                Row {
                    name: "boot",
                    unit: Unit::Seconds,
                    about: "to the first word".to_owned(),
                    cells: vec![of(4.1234), of(5.0)],
                },
                Row {
                    name: "attach",
                    unit: Unit::Seconds,
                    about: "of the scheduler".to_owned(),
                    cells: vec![None, of(0.0042)],
                },
            ],
        };
        insta::assert_snapshot!(render(&section), @r"

        Where the time goes

         PART                  EEVDF                   SCX
         boot    4123 (2062–8247) ms  5000 (2500–10000) ms  to the first word
         attach                    -      4.2 (2.1–8.4) ms  of the scheduler
        ");
    }
}
