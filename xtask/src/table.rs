//! A plain table: left- or right-aligned columns, two spaces apart, no lines.

use crate::style::{Colour, Style};

#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), colour: None }
    }

    pub fn coloured(text: impl Into<String>, colour: Colour) -> Self {
        Self { text: text.into(), colour: Some(colour) }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; cells beyond the columns are dropped, missing ones stay empty.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    pub fn render(&self, style: Style) -> String {
        let headers: Vec<Cell> = self.columns.iter().map(|(title, _)| Cell::coloured(*title, Colour::Grey)).collect();
        let lines: Vec<&[Cell]> =
            std::iter::once(headers.as_slice()).chain(self.rows.iter().map(Vec::as_slice)).collect();
        let mut text = String::new();
        for line in &lines {
            let mut rendered = String::new();
            for (index, &(_, align)) in self.columns.iter().enumerate() {
                let width = lines.iter().filter_map(|l| l.get(index)).map(Cell::width).max();
                let empty = Cell::new("");
                let cell = line.get(index).unwrap_or(&empty);
                let padding = " ".repeat(width.unwrap_or(0).saturating_sub(cell.width()));
                let content = match cell.colour {
                    Some(colour) => style.paint(colour, &cell.text),
                    None => cell.text.clone(),
                };
                rendered.push_str("  ");
                match align {
                    Align::Left => rendered.extend([content, padding]),
                    Align::Right => rendered.extend([padding, content]),
                }
            }
            text.push_str(rendered.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("task", Align::Left), ("n", Align::Right), ("cause", Align::Left)]);
        table.row(vec![Cell::new("softmax"), Cell::new("7"), Cell::new("")]);
        table.row(vec![Cell::new("x"), Cell::new("128"), Cell::new("scale")]);
        assert_eq!(table.render(Style::plain()), "  task       n  cause\n  softmax    7\n  x        128  scale\n");
    }
}
