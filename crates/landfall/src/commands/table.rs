//! Plain text for terminals: tables with aligned columns, and the first elements of tensors.

use std::fmt;

use landfall_tensor::{DType, Tensor, bf16, f16};

/// Characters of one cell that are shown.
const MAX_CELL: usize = 60;
/// Elements of a tensor that are shown.
const MAX_ELEMENTS: usize = 5;

/// Rows under headings; columns of numbers are aligned on the right.
pub(super) struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(heads: &[&str]) -> Table {
        Table { heads: heads.iter().map(|&head| head.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row, with as many cells as there are headings.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| shortened(&cell)).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = || std::iter::once(&self.heads).chain(&self.rows);
        let columns = self.heads.len();
        let width = |column: usize| {
            lines().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let is_number = |column: usize| {
            let mut cells = self.rows.iter().filter_map(|row| row.get(column));
            !self.rows.is_empty()
                && cells.all(|cell| cell.trim_end_matches('%').parse::<f64>().is_ok())
        };
        let right: Vec<bool> = (0..columns).map(is_number).collect();
        for line in lines() {
            let mut text = String::new();
            for (column, cell) in line.iter().enumerate().take(columns) {
                let width = widths[column];
                match right[column] {
                    true => text.push_str(&format!("{cell:>width$}  ")),
                    false => text.push_str(&format!("{cell:<width$}  ")),
                }
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

fn shortened(cell: &str) -> String {
    if cell.chars().count() <= MAX_CELL {
        return cell.to_owned();
    }
    cell.chars().take(MAX_CELL - 1).chain(['…']).collect()
}

/// The first elements of a tensor.
pub(super) fn preview(tensor: &Tensor) -> String {
    let tensor = tensor.aligned();
    macro_rules! shown {
        ($type:ty) => {
            tensor.as_slice::<$type>().map(|all| join(all.len(), |i| format!("{:?}", all[i])))
        };
    }
    let shown = match tensor.dtype() {
        DType::F32 => shown!(f32),
        DType::F64 => shown!(f64),
        DType::F16 => shown!(f16),
        DType::BF16 => shown!(bf16),
        DType::I8 => shown!(i8),
        DType::U8 => shown!(u8),
        DType::I16 => shown!(i16),
        DType::U16 => shown!(u16),
        DType::I32 => shown!(i32),
        DType::U32 => shown!(u32),
        DType::I64 => shown!(i64),
        DType::U64 => shown!(u64),
        DType::Bool => {
            tensor.as_slice::<u8>().map(|all| join(all.len(), |i| (all[i] != 0).to_string()))
        }
        DType::String => tensor.strings().map(|all| join(all.len(), |i| format!("{:?}", all[i]))),
        _ => tensor.blobs().map(|all| join(all.len(), |i| format!("{} bytes", all[i].len()))),
    };
    shown.unwrap_or_default()
}

fn join(len: usize, element: impl Fn(usize) -> String) -> String {
    let mut parts: Vec<String> = (0..len.min(MAX_ELEMENTS)).map(element).collect();
    if len > MAX_ELEMENTS {
        parts.push("…".to_owned());
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use landfall_tensor::Shape;

    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_on_the_right() {
        let mut table = Table::new(&["name", "count"]);
        table.row(["a".to_owned(), "5".to_owned()]);
        table.row(["long".to_owned(), "1234567".to_owned()]);
        assert_eq!(table.to_string(), "name    count\na           5\nlong  1234567\n");
    }

    #[test]
    fn long_tensors_are_cut() {
        let tensor = Tensor::from_slice(Shape::from([6]), &[1i64, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(preview(&tensor), "1 2 3 4 5 …");
    }
}
