//! CSV: a header with the names of the fields, then one record a row. Empty lines are none; spaces around a value do not
//! count.

use super::{Field, ImportMode, NewImportRow, body, require_room};
use crate::domain::{
    stock_import::RowError,
    validation::{FieldError, Invalid, Rule},
};

pub(super) fn read(file: &[u8], mode: ImportMode) -> Result<Vec<NewImportRow>, Invalid> {
    // Flexible: a record with too many or too few values is wrong, and those after it are not.
    let mut reader =
        csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).has_headers(false).from_reader(file);
    let mut record = csv::ByteRecord::new();
    if !read_record(&mut reader, &mut record)? {
        return Err(body("holds no header: its first line must name the columns"));
    }
    let columns = columns(&record, mode)?;
    let (mut rows, mut lines) = (Vec::new(), Lines { file, at: 0, line: 1 });
    while read_record(&mut reader, &mut record)? {
        require_room(&rows)?;
        let start = record.position().map_or(0, csv::Position::byte);
        let mut row = NewImportRow { line: lines.line_of(start), ..NewImportRow::default() };
        if record.len() == columns.len() {
            for (&column, value) in columns.iter().zip(&record) {
                match std::str::from_utf8(value) {
                    Ok(text) => row.put_text(column, text),
                    Err(_) => row.errors.push(RowError::new(column.name(), "must be UTF-8")),
                }
            }
        } else {
            let detail =
                format!("has {} values: must have {}, one for each column", record.len(), columns.len());
            row.errors.push(RowError::new(RowError::ROW, detail));
        }
        rows.push(row);
    }
    Ok(rows)
}

fn read_record(reader: &mut csv::Reader<&[u8]>, record: &mut csv::ByteRecord) -> Result<bool, Invalid> {
    reader.read_byte_record(record).map_err(|error| body(error.to_string()))
}

/// The header. A column that nobody knows is refused: what it was to do would not happen.
fn columns(header: &csv::ByteRecord, mode: ImportMode) -> Result<Vec<Field>, Invalid> {
    let mut columns = Vec::with_capacity(header.len());
    let mut errors = Vec::new();
    for name in header {
        let name = String::from_utf8_lossy(name);
        let wrong = match Field::find(mode, &name) {
            Ok(field) if columns.contains(&field) => "must be given once".to_owned(),
            Ok(field) => {
                columns.push(field);
                continue;
            }
            Err(detail) => detail,
        };
        // What stands in place of a header may be anything.
        let pointer = format!("column {:?}", name.chars().take(64).collect::<String>());
        errors.push(FieldError { pointer, detail: wrong });
    }
    for field in Field::of(mode).iter().take(2).filter(|field| !columns.contains(field)) {
        let pointer = format!("column {:?}", field.name());
        errors.push(FieldError { pointer, detail: "is missing".into() });
    }
    // The first few say it.
    errors.truncate(16);
    if errors.is_empty() { Ok(columns) } else { Err(Invalid { rule: Rule::StockFileInvalid, errors }) }
}

/// Counts lines as an editor does. The reader counts its records' ends, and skips empty lines without counting them.
struct Lines<'a> {
    file: &'a [u8],
    at: usize,
    line: i32,
}

impl Lines<'_> {
    /// The line of the record that the reader found at this place, or behind the empty lines there.
    fn line_of(&mut self, start: u64) -> i32 {
        let start = usize::try_from(start).unwrap_or(usize::MAX).min(self.file.len());
        let empty = self.file[start..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        while self.at < start + empty {
            let ends = match self.file[self.at] {
                b'\n' => true,
                b'\r' => self.file.get(self.at + 1) != Some(&b'\n'),
                _ => false,
            };
            self.line += i32::from(ends);
            self.at += 1;
        }
        self.line
    }
}
