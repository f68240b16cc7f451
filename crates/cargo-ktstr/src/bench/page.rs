//! A section of the bench as data, and as a table.

use serde::Serialize;

use crate::summary::Summary;
use crate::table;

/// One table: what was measured, and in which cases.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// What the numbers are of.
    pub title: &'static str,
    /// The cases that are compared.
    pub columns: Vec<String>,
    /// The quantities.
    pub rows: Vec<Row>,
}

/// One quantity in every case.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub about: String,
    /// One value a column; `None` where there is nothing to measure.
    pub cells: Vec<Option<Summary>>,
}

/// The section as a table.
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
        cells.extend(row.cells.iter().map(cell));
        cells.push(row.about.clone());
        table.add_row(cells);
    }
    format!("\n{}\n\n{}\n", section.title, table.trim_fmt())
}

fn cell(summary: &Option<Summary>) -> String {
    summary.as_ref().map_or_else(
        || "-".to_owned(),
        |s| format!("{} ({}–{}) ms", ms(s.median), ms(s.min), ms(s.max)),
    )
}

/// Seconds as milliseconds, with a digit after the point where there is little before it.
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
                    about: "to the first word".to_owned(),
                    cells: vec![of(4.1234), of(5.0)],
                },
                Row {
                    name: "attach",
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
