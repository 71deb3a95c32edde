//! One JSON object as the cells of the columns that are wanted, and no more memory than these need:
//! what else is in the object is checked to be JSON, and not kept.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::column_types::described;
use super::text_rows::Cell;

/// The columns that are wanted, each with the shape of its lists; of none for one value.
pub(super) struct Columns {
    list: Vec<(String, Vec<usize>)>,
    by_name: HashMap<String, usize>,
}

impl Columns {
    /// Those of that order.
    pub(super) fn new(list: Vec<(String, Vec<usize>)>) -> Columns {
        let by_name = list.iter().enumerate().map(|(index, (name, _))| (name.clone(), index));
        Columns { by_name: by_name.collect(), list }
    }

    /// The cells of an object, or what is wrong with them; fails if it is no JSON object.
    pub(super) fn read(&self, object: &[u8]) -> serde_json::Result<Result<Vec<Cell>, String>> {
        let mut json = serde_json::Deserializer::from_slice(object);
        let cells = json.deserialize_map(Object(self))?;
        json.end()?;
        Ok(cells)
    }
}

struct Object<'a>(&'a Columns);

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Result<Vec<Cell>, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let Columns { list, by_name } = self.0;
        let mut cells: Vec<Result<Cell, String>> = list.iter().map(|_| Ok(Cell::Null)).collect();
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            match by_name.get(&*name) {
                Some(&index) => cells[index] = map.next_value_seed(Value(&list[index].1))?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let cells = cells
            .into_iter()
            .zip(list)
            .map(|(cell, (name, _))| cell.map_err(|problem| format!("column '{name}': {problem}")));
        Ok(cells.collect())
    }
}

/// A value of a column whose lists have that shape.
struct Value<'a>(&'a [usize]);

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Result<Cell, String>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Result<Cell, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Ok(Cell::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Ok(Cell::Text(value.to_string())))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Ok(Cell::Text(value.to_string())))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Ok(Cell::Text(value.to_string())))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Ok(Number::from_f64(value).map_or(Cell::Null, |value| Cell::Text(value.to_string()))))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Ok(Cell::Text(text.to_owned())))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Err("expected a value, found an object".to_owned()))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, list: S) -> Result<Self::Value, S::Error> {
        let mut numbers = Numbers::new(self.0);
        Part { numbers: &mut numbers, depth: 0 }.visit_seq(list)?;
        Ok(numbers.cell())
    }
}

/// The numbers of a list, row-major, as they are found.
struct Numbers<'a> {
    shape: &'a [usize],
    width: usize,
    found: Vec<Option<Number>>,
    /// How many there are, with those beyond the shape, which are not kept.
    count: usize,
    /// How many lists are around the first of them.
    depth: Option<usize>,
    is_misshapen: bool,
    /// Whether something else is among them.
    is_mixed: bool,
}

impl Numbers<'_> {
    fn new(shape: &[usize]) -> Numbers<'_> {
        let width = shape.iter().product();
        let (found, count, depth) = (Vec::new(), 0, None);
        Numbers { shape, width, found, count, depth, is_misshapen: false, is_mixed: false }
    }

    fn push(&mut self, depth: usize, value: Option<Number>) {
        self.is_misshapen |= *self.depth.get_or_insert(depth) != depth;
        self.count += 1;
        if self.count <= self.width {
            self.found.push(value);
        }
    }

    /// Takes note of the end of a list of so many elements, which has `depth` lists around it.
    fn end_list(&mut self, depth: usize, elements: usize) {
        let is_flat = depth == 0 && self.depth.is_none_or(|depth| depth == 1);
        self.is_misshapen |= !is_flat && self.shape.get(depth) != Some(&elements);
    }

    fn cell(self) -> Result<Cell, String> {
        if self.shape.is_empty() {
            // Whoever wants one value says so.
            return Ok(Cell::List(Vec::new()));
        }
        let expected = described(self.shape);
        if self.is_mixed {
            return Err(format!("expected {expected}; not all in it are numbers"));
        }
        if self.is_misshapen {
            return Err(format!("expected {expected}; found lists of another shape"));
        }
        if self.count != self.width {
            return Err(format!("expected {expected}; found {}", self.count));
        }
        Ok(Cell::List(self.found))
    }
}

/// Something that has `depth` lists around it.
struct Part<'a, 'b> {
    numbers: &'a mut Numbers<'b>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Part<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.numbers.push(self.depth, None);
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.numbers.push(self.depth, Some(value.into()));
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.numbers.push(self.depth, Some(value.into()));
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.numbers.push(self.depth, Number::from_f64(value));
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.numbers.is_mixed = true;
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.numbers.is_mixed = true;
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        self.numbers.is_mixed = true;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<(), S::Error> {
        let Part { numbers, depth } = self;
        let mut elements = 0;
        while list.next_element_seed(Part { numbers: &mut *numbers, depth: depth + 1 })?.is_some() {
            elements += 1;
        }
        numbers.end_list(depth, elements);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the columns `x`, of lists of shape `[2,3]`, and `y`, of one value, take from an object.
    fn read(object: &str) -> Result<String, String> {
        let columns = [("x", vec![2, 3]), ("y", Vec::new())];
        let columns = Columns::new(columns.map(|(name, shape)| (name.to_owned(), shape)).into());
        let cells = columns.read(object.as_bytes()).map_err(|error| error.to_string())??;
        let shown = cells.into_iter().map(|cell| match cell {
            Cell::Null => "null".to_owned(),
            Cell::Text(text) => text,
            Cell::List(values) => {
                let shown = |value: Option<Number>| value.map_or("null".into(), |n| n.to_string());
                format!("[{}]", values.into_iter().map(shown).collect::<Vec<_>>().join(" "))
            }
        });
        Ok(shown.collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn values_are_taken_as_they_are_written_and_the_rest_is_skipped() {
        let found = |object| read(object).unwrap();
        assert_eq!(found(r#"{"z":{"a":[1]},"y":"1\u00e9"}"#), "null, 1\u{e9}");
        assert_eq!(found(r#"{"y":18446744073709551615,"x":null}"#), "null, 18446744073709551615");
        assert_eq!(found(r#"{"y":1,"y":true}"#), "null, true");
        assert_eq!(found(r#"{"\u0079":-2.5}"#), "null, -2.5");
    }

    #[test]
    fn lists_are_flat_or_of_the_shape_of_a_row() {
        for list in ["[1,2,9007199254740993,4,5,null]", "[[1,2,9007199254740993],[4,5,null]]"] {
            let found = read(&format!("{{\"x\":{list}}}")).unwrap();
            assert_eq!(found, "[1 2 9007199254740993 4 5 null], null");
        }
        let cases = [
            ("[1,2,3]", "found 3"),
            ("[]", "found 0"),
            ("[1,2,3,4,5,6,7]", "found 7"),
            ("[[1,2],[3,4],[5,6]]", "found lists of another shape"),
            ("[[1,2,3],4,5,6]", "found lists of another shape"),
            ("[1,2,3,4,5,6,[]]", "found lists of another shape"),
            ("[[[1,2,3],[4,5,6]]]", "found lists of another shape"),
            ("[[1,2,3],[4,5]]", "found lists of another shape"),
            ("[1,2,3,4,5,{\"a\":6}]", "not all in it are numbers"),
            ("[[1,2,3],[4,5,\"6\"]]", "not all in it are numbers"),
        ];
        for (list, problem) in cases {
            let expected = format!(
                "column 'x': expected a list of 6 values or lists of shape [2,3]; {problem}"
            );
            assert_eq!(read(&format!("{{\"x\":{list}}}")).unwrap_err(), expected, "{list}");
        }
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        let error = |text| read(text).unwrap_err();
        assert!(error("[1]").contains("expected a JSON object"));
        assert!(error(r#"{"y":1}{"y":2}"#).contains("trailing characters"));
        assert!(error(r#"{"z":[1,}"#).contains("expected value"));
        assert_eq!(error(r#"{"y":{"a":1}}"#), "column 'y': expected a value, found an object");
    }
}
