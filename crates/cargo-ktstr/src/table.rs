//! Tables without lines between their cells, in which numbers are aligned to the right, for the terminal.

use comfy_table::{CellAlignment, Table, presets};

/// Returns a table whose columns from index `first` on are numbers.
pub fn numbers(header: &[&str], first: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for column in first..header.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
