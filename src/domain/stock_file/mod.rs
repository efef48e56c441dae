//! Reading a stock file: CSV (RFC 4180) with a header, or NDJSON, one object a line. Both name the same fields.
//!
//! What is wrong with the file as a whole (its header, its size) refuses it; what is wrong with a row is noted with the row,
//! which fails alone. Pure: no level is looked at here.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    inventory::{LevelKey, LocationId, MAX_QUANTITY, ParseNameError, Sku},
    stock_import::{ImportMode, MAX_ROWS, NewImportRow, RowError},
    validation::{Invalid, Rule},
};

mod csv_rows;
mod ndjson_rows;

/// How a stock file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StockFormat {
    /// `text/csv`.
    Csv,
    /// `application/x-ndjson`.
    Ndjson,
}

/// A field of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Sku,
    LocationId,
    OnHand,
    Delta,
    CompareQuantity,
    SafetyStock,
    BackorderLimit,
    LowStockThreshold,
}

impl Field {
    const fn name(self) -> &'static str {
        match self {
            Self::Sku => "sku",
            Self::LocationId => "location_id",
            Self::OnHand => "on_hand",
            Self::Delta => "delta",
            Self::CompareQuantity => "compare_quantity",
            Self::SafetyStock => "safety_stock",
            Self::BackorderLimit => "backorder_limit",
            Self::LowStockThreshold => "low_stock_threshold",
        }
    }

    /// The fields that a row may have: the first two it must have.
    const fn of(mode: ImportMode) -> &'static [Self] {
        match mode {
            ImportMode::Set => &[
                Self::Sku,
                Self::OnHand,
                Self::LocationId,
                Self::CompareQuantity,
                Self::SafetyStock,
                Self::BackorderLimit,
                Self::LowStockThreshold,
            ],
            ImportMode::Delta => &[Self::Sku, Self::Delta, Self::LocationId],
        }
    }

    fn find(mode: ImportMode, name: &str) -> Result<Self, String> {
        let fields = Self::of(mode);
        fields.iter().copied().find(|field| field.name() == name).ok_or_else(|| {
            let names: Vec<_> = fields.iter().map(|field| field.name()).collect();
            format!("is not a field of a row of mode {mode}: must be one of {}", names.join(", "))
        })
    }
}

/// Reads a file. `location` is that of the rows that name none.
///
/// # Errors
/// What is wrong with the file as a whole.
pub fn read(
    file: &[u8],
    format: StockFormat,
    mode: ImportMode,
    location: &LocationId,
) -> Result<Vec<NewImportRow>, Invalid> {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let mut rows = match format {
        StockFormat::Csv => csv_rows::read(file, mode)?,
        StockFormat::Ndjson => ndjson_rows::read(file, mode)?,
    };
    if rows.is_empty() {
        return Err(body("holds no rows"));
    }
    let mut seen = HashMap::<LevelKey, i32>::new();
    for row in &mut rows {
        row.finish(mode, location);
        // Which of two counts of one level is right, nobody can know.
        if mode == ImportMode::Set
            && let Some(key) = row.fields.key()
            && let Some(earlier) = seen.insert(key, row.line)
        {
            let detail = format!("is set at this location by line {earlier} already");
            row.errors.push(RowError::new("sku", detail));
        }
    }
    Ok(rows)
}

fn body(detail: impl Into<String>) -> Invalid {
    Invalid::new(Rule::StockFileInvalid, "body", detail)
}

/// Fails once there are more rows than one import may have.
fn require_room(rows: &[NewImportRow]) -> Result<(), Invalid> {
    if rows.len() < MAX_ROWS { Ok(()) } else { Err(body(format!("must hold at most {MAX_ROWS} rows"))) }
}

impl NewImportRow {
    fn put_name(&mut self, field: Field, text: &str) {
        let wrong = match field {
            Field::Sku => text.parse::<Sku>().err(),
            _ => text.parse::<LocationId>().err(),
        };
        if let Some(ParseNameError) = wrong {
            return self.errors.push(RowError::new(field.name(), ParseNameError.to_string()));
        }
        let slot = if field == Field::Sku { &mut self.fields.sku } else { &mut self.fields.location_id };
        *slot = Some(text.to_owned());
    }

    fn put_number(&mut self, field: Field, number: Option<i64>) {
        let least = if field == Field::Delta { -MAX_QUANTITY } else { 0 };
        let valid = number.filter(|number| (least..=MAX_QUANTITY).contains(number));
        let Some(number) = valid.filter(|number| field != Field::Delta || *number != 0) else {
            let but = if field == Field::Delta { ", and not 0" } else { "" };
            let detail = format!("must be a whole number, {least} to {MAX_QUANTITY}{but}");
            return self.errors.push(RowError::new(field.name(), detail));
        };
        let fields = &mut self.fields;
        let slot = match field {
            Field::OnHand => &mut fields.on_hand,
            Field::Delta => &mut fields.delta,
            Field::CompareQuantity => &mut fields.compare_quantity,
            Field::SafetyStock => &mut fields.safety_stock,
            Field::BackorderLimit => &mut fields.backorder_limit,
            Field::LowStockThreshold => &mut fields.low_stock_threshold,
            // Names are put above.
            Field::Sku | Field::LocationId => return,
        };
        *slot = Some(number);
    }

    /// A field as text; empty is absent.
    fn put_text(&mut self, field: Field, text: &str) {
        match field {
            _ if text.is_empty() => {}
            Field::Sku | Field::LocationId => self.put_name(field, text),
            _ => self.put_number(field, text.parse().ok()),
        }
    }

    /// A field as JSON; `null` is absent.
    fn put_value(&mut self, field: Field, value: &Value) {
        match (field, value) {
            (_, Value::Null) => {}
            (Field::Sku | Field::LocationId, Value::String(text)) => self.put_name(field, text),
            (Field::Sku | Field::LocationId, _) => {
                self.errors.push(RowError::new(field.name(), "must be a string"));
            }
            _ => self.put_number(field, value.as_i64()),
        }
    }

    /// Notes what is missing, where nothing is wrong with it, and puts the location that every row has.
    fn finish(&mut self, mode: ImportMode, location: &LocationId) {
        let wrong = |errors: &[RowError], field: Field| {
            // A line that could not be read as a row at all says only that.
            errors.iter().any(|error| error.field == field.name() || error.field == RowError::ROW)
        };
        let missing = [
            (Field::Sku, self.fields.sku.is_none()),
            (Field::OnHand, mode == ImportMode::Set && self.fields.on_hand.is_none()),
            (Field::Delta, mode == ImportMode::Delta && self.fields.delta.is_none()),
        ];
        for (field, is_missing) in missing {
            if is_missing && !wrong(&self.errors, field) {
                self.errors.push(RowError::new(field.name(), "is missing"));
            }
        }
        if self.fields.location_id.is_none() && !wrong(&self.errors, Field::LocationId) {
            self.fields.location_id = Some(location.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::stock_import::RowFields;

    fn read_as(
        file: impl AsRef<[u8]>,
        format: StockFormat,
        mode: ImportMode,
    ) -> Result<Vec<NewImportRow>, Invalid> {
        read(file.as_ref(), format, mode, &"main".parse().expect("a location"))
    }

    fn csv(file: impl AsRef<[u8]>) -> Result<Vec<NewImportRow>, Invalid> {
        read_as(file, StockFormat::Csv, ImportMode::Set)
    }

    /// `line sku@location on_hand` of the rows that are right, `line field` of each error of those that are not.
    fn shown(rows: &[NewImportRow]) -> Vec<String> {
        let show = |row: &NewImportRow| {
            if let [_, ..] = row.errors.as_slice() {
                let fields: Vec<_> = row.errors.iter().map(|error| error.field.as_str()).collect();
                return format!("{} {}", row.line, fields.join(" "));
            }
            let key = row.fields.key().expect("a row without errors has a key");
            let number = row.fields.on_hand.or(row.fields.delta).expect("a number");
            format!("{} {}@{} {number}", row.line, key.sku, key.location_id)
        };
        rows.iter().map(show).collect()
    }

    #[test]
    fn a_csv_file_is_read_as_the_standard_says() {
        let plain = ["2 a@main 1", "3 b@north 2"];
        for file in [
            "sku,on_hand,location_id\na,1,\nb,2,north\n",
            "sku,on_hand,location_id\r\na,1,\r\nb,2,north",
            "sku,on_hand,location_id\ra,1,\rb,2,north\r",
            "\u{feff}sku,on_hand,location_id\na,1,\nb,2,north\n",
            "\"sku\",\"on_hand\",location_id\n\"a\",\"1\",\"\"\nb,2,\"north\"\n",
            " sku , on_hand,location_id\n a , 1 , \n b,2 ,north\n",
            "location_id,on_hand,sku\n,1,a\nnorth,2,b\n",
        ] {
            assert_eq!(shown(&csv(file).expect(file)), plain, "{file:?}");
        }
        let rows = csv("sku,on_hand\n\n\na,1\n\r\n\nb,2\n").expect("empty lines are none");
        assert_eq!(shown(&rows), ["4 a@main 1", "7 b@main 2"]);
        let rows = csv("sku,on_hand\n\"a\n\nz\",1\nb,2\n").expect("a value of several lines");
        assert_eq!(shown(&rows), ["2 sku", "5 b@main 2"]);
        let rows = csv(
            "sku,on_hand,safety_stock,backorder_limit,low_stock_threshold,compare_quantity\na,1,2,3,4,5\n",
        );
        let row = rows.expect("every column").remove(0);
        let RowFields { safety_stock, backorder_limit, low_stock_threshold, compare_quantity, .. } =
            row.fields;
        assert_eq!(
            [safety_stock, backorder_limit, low_stock_threshold, compare_quantity],
            [2, 3, 4, 5].map(Some)
        );
    }

    #[test]
    fn a_header_that_is_wrong_refuses_the_file() {
        for (file, named) in [
            ("sku,count\na,1\n", "column \"count\" is not a field of a row of mode set"),
            ("sku,delta\na,1\n", "column \"delta\" is not a field"),
            ("sku,sku,on_hand\na,a,1\n", "column \"sku\" must be given once"),
            ("sku\na\n", "column \"on_hand\" is missing"),
            ("a,1\nb,2\n", "column \"a\" is not a field"),
            ("SKU,on_hand\na,1\n", "column \"SKU\" is not a field"),
            ("", "body holds no header"),
            ("\n\n", "body holds no header"),
            ("sku,on_hand\n", "body holds no rows"),
        ] {
            let invalid = csv(file).expect_err(file);
            let text = format!("{} {}", invalid.errors[0].pointer, invalid.errors[0].detail);
            assert!(text.starts_with(named), "{file:?}: {text}");
        }
        let invalid =
            read_as("sku,on_hand\na,1\n", StockFormat::Csv, ImportMode::Delta).expect_err("a delta");
        assert_eq!(invalid.errors[0].pointer, "column \"on_hand\"");
        let wide = format!("sku,on_hand{}\n", ",x".repeat(10_000));
        assert!(csv(wide).expect_err("unknown columns").errors.len() <= 16);
    }

    #[test]
    fn a_wrong_row_names_its_fields_and_no_other_row_suffers() {
        let file = b"sku,on_hand,safety_stock\na,many,-1\nb,1\n,1,\nc,,\nd,1.5,\ne f,1000000001,\ng,\xff,\nb,3,\nb,4,\nh,99999999999999999999,\ni,0,";
        let rows = csv(file).expect("rows");
        let expected = [
            "2 on_hand safety_stock",
            "3 row",
            "4 sku",
            "5 on_hand",
            "6 on_hand",
            "7 sku on_hand",
            "8 on_hand",
            "9 b@main 3",
            "10 sku",
            "11 on_hand",
            "12 i@main 0",
        ];
        assert_eq!(shown(&rows), expected);
        let detail = |row: usize| rows[row].errors[0].detail.as_str();
        assert_eq!(detail(0), "must be a whole number, 0 to 1000000000");
        assert_eq!(detail(1), "has 2 values: must have 3, one for each column");
        assert_eq!((detail(2), detail(6)), ("is missing", "must be UTF-8"));
        assert_eq!(detail(8), "is set at this location by line 9 already");
    }

    #[test]
    fn deltas_add_up_and_are_not_0() {
        let file = "sku,delta\na,5\na,-5\na,0\na,+5\na,-1000000001\n";
        let rows = read_as(file, StockFormat::Csv, ImportMode::Delta).expect("rows");
        assert_eq!(shown(&rows), ["2 a@main 5", "3 a@main -5", "4 delta", "5 a@main 5", "6 delta"]);
        assert_eq!(rows[2].errors[0].detail, "must be a whole number, -1000000000 to 1000000000, and not 0");
    }

    #[test]
    fn an_ndjson_file_is_an_object_a_line() {
        let file = "\u{feff}{\"sku\":\"a\",\"on_hand\":1}\r\n\n{\"sku\":\"b\",\"on_hand\":2,\"location_id\":\"north\",\"safety_stock\":null}
[1]\n{\"sku\":\"c\"\n{\"sku\":\"d\",\"on_hand\":\"1\"}\n{\"sku\":7,\"on_hand\":1}\n{\"sku\":\"e\",\"on_hand\":1,\"delta\":1}
{\"sku\":\"f\",\"sku\":\"g\",\"on_hand\":1}\n{\"sku\":\"h\",\"on_hand\":1.0}\n{}\nnull\n\"\u{e9}\"\n{\"sku\":\"i\",\"on_hand\":1} x";
        let rows = read_as(file, StockFormat::Ndjson, ImportMode::Set).expect("rows");
        let expected = [
            "1 a@main 1",
            "3 b@north 2",
            "4 row",
            "5 row",
            "6 on_hand",
            "7 sku",
            "8 delta",
            "9 sku",
            "10 on_hand",
            "11 sku on_hand",
            "12 row",
            "13 row",
            "14 row",
        ];
        assert_eq!(shown(&rows), expected);
        for file in ["", "\n \n"] {
            let errors = read_as(file, StockFormat::Ndjson, ImportMode::Set).expect_err("no rows");
            assert_eq!(errors, body("holds no rows"));
        }
        let long = format!("\"{}\"", "x".repeat(100_000));
        let rows = read_as(long, StockFormat::Ndjson, ImportMode::Set).expect("a row");
        assert!(rows[0].errors[0].detail.len() < 300);
    }

    #[test]
    fn a_file_holds_so_many_rows_and_no_more() {
        let file = |rows: usize| {
            (0..rows).fold("sku,on_hand\n".to_owned(), |file, row| file + &format!("s{row},1\n"))
        };
        assert_eq!(csv(file(MAX_ROWS)).expect("as many as there may be").len(), MAX_ROWS);
        let errors = csv(file(MAX_ROWS + 1)).expect_err("one more");
        assert_eq!(errors, body("must hold at most 200000 rows"));
    }

    proptest! {
        /// Whatever is in a file, each of its rows is right or says what is wrong, on a line of its own.
        #[test]
        fn any_file_is_read(text in "(sku,on_hand\n)?([a-c,\"\\{}: \\r\\n0-3]|sku|é){0,60}", ndjson: bool) {
            let format = if ndjson { StockFormat::Ndjson } else { StockFormat::Csv };
            if let Ok(rows) = read_as(&text, format, ImportMode::Set) {
                prop_assert_eq!(shown(&rows).len(), rows.len());
                prop_assert!(rows.is_sorted_by(|one, next| one.line < next.line), "{:?}", rows);
                let lines = i32::try_from(text.lines().count() + text.matches('\r').count()).unwrap();
                prop_assert!(rows.iter().all(|row| (1..=lines).contains(&row.line)), "{:?}", rows);
            }
        }
    }
}
