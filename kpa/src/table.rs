//! Tables as kubectl prints them: columns three spaces apart, no lines.
//!
//! Invariant: a column never becomes narrower, so that rows printed later stand under those printed before.

use std::fmt::Write as _;

/// Spaces between columns.
const GAP: usize = 3;

/// The columns of one table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    widths: Vec<usize>,
}

impl Table {
    /// The rows as lines. All of them are looked at before the first is written.
    pub(crate) fn lines(&mut self, rows: &[Vec<String>]) -> String {
        for row in rows {
            self.widths.resize(self.widths.len().max(row.len()), 0);
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut out = String::new();
        for row in rows {
            for (index, (cell, width)) in row.iter().zip(&self.widths).enumerate() {
                // Nothing follows the last cell, so it is not filled up. Writing to a String cannot fail.
                let width = if index + 1 == row.len() { 0 } else { width + GAP };
                let _ = write!(out, "{cell:width$}");
            }
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn later_rows_stand_under_earlier_ones() {
        let mut table = Table::default();
        assert_eq!(table.lines(&[row(&["NAME", "AGE"]), row(&["größer", "5s"])]), "NAME     AGE\ngrößer   5s\n");
        assert_eq!(table.lines(&[row(&["a", "6s"])]), "a        6s\n");
        assert_eq!(table.lines(&[row(&["longer-than", "6s"])]), "longer-than   6s\n");
        assert_eq!(table.lines(&[row(&["a", "7s"])]), "a             7s\n");
        assert_eq!(Table::default().lines(&[]), "");
    }
}
