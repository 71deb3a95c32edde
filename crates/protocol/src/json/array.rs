//! Nested JSON arrays into typed, row-major elements.

use std::fmt;

use base64::Engine;
use landfall_tensor::{Buffer, DType, MAX_RANK, Shape, Tensor, bf16, f16};

use crate::json::{Decimal, Reader};
use crate::{DecodeError, MAX_TEXTS, too_many_texts};

/// Why an array cannot become a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArrayError {
    /// The text is wrong at some place.
    Text(DecodeError),
    /// The array is ragged, too deep, or has another shape than stated.
    Form(String),
    /// A value of a table is missing, and the datatype has nothing to stand for that.
    Missing(DType),
}

impl fmt::Display for ArrayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArrayError::Text(error) => error.fmt(f),
            ArrayError::Form(problem) => f.write_str(problem),
            ArrayError::Missing(dtype) => {
                write!(f, "is null, and {} has no missing value", dtype.protocol_name())
            }
        }
    }
}

impl ArrayError {
    /// The same, as what is wrong with one input of a request.
    pub(crate) fn of_input(self, input: &str) -> DecodeError {
        match self {
            ArrayError::Text(DecodeError::Json { offset, problem }) => {
                DecodeError::input(input, format!("{problem} (byte {offset} of the JSON)"))
            }
            ArrayError::Text(other) => other,
            other => DecodeError::input(input, other),
        }
    }
}

impl From<DecodeError> for ArrayError {
    fn from(error: DecodeError) -> ArrayError {
        ArrayError::Text(error)
    }
}

type Result<T> = std::result::Result<T, ArrayError>;

enum Elements {
    F32(Vec<f32>),
    F64(Vec<f64>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    I8(Vec<i8>),
    U8(Vec<u8>),
    I16(Vec<i16>),
    U16(Vec<u16>),
    I32(Vec<i32>),
    U32(Vec<u32>),
    I64(Vec<i64>),
    U64(Vec<u64>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Bytes(Vec<Buffer>),
}

/// Elements collected from one or more nested arrays of the same form.
pub struct Array {
    dtype: DType,
    elements: Elements,
    /// Extent of every axis seen so far, outermost first.
    dims: Vec<usize>,
    /// Whether the first innermost value has been reached, which fixes the rank.
    rank_known: bool,
    numbers: Numbers,
}

/// What may stand for a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbers {
    /// What the datatype's own text is.
    Strict,
    /// What tables write: `null` for a value that is missing, and 1.0 or 1e3 for integers.
    OfTable,
}

impl Array {
    /// An empty collection that takes numbers as tables write them. Missing values are NaN; a
    /// datatype without one refuses them.
    pub fn of_table(dtype: DType) -> Result<Array> {
        Ok(Array { numbers: Numbers::OfTable, ..Array::new(dtype)? })
    }

    /// An empty collection.
    pub fn new(dtype: DType) -> Result<Array> {
        let elements = match dtype {
            DType::F32 => Elements::F32(Vec::new()),
            DType::F64 => Elements::F64(Vec::new()),
            DType::F16 => Elements::F16(Vec::new()),
            DType::BF16 => Elements::BF16(Vec::new()),
            DType::I8 => Elements::I8(Vec::new()),
            DType::U8 => Elements::U8(Vec::new()),
            DType::I16 => Elements::I16(Vec::new()),
            DType::U16 => Elements::U16(Vec::new()),
            DType::I32 => Elements::I32(Vec::new()),
            DType::U32 => Elements::U32(Vec::new()),
            DType::I64 => Elements::I64(Vec::new()),
            DType::U64 => Elements::U64(Vec::new()),
            DType::Bool => Elements::Bool(Vec::new()),
            DType::String => Elements::String(Vec::new()),
            DType::Bytes => Elements::Bytes(Vec::new()),
            other => return Err(ArrayError::Form(format!("datatype {other} has no JSON form"))),
        };
        let numbers = Numbers::Strict;
        Ok(Array { dtype, elements, dims: Vec::new(), rank_known: false, numbers })
    }

    /// Reads one value: a scalar or nested arrays. Called repeatedly, every value must have the
    /// form of the first.
    pub fn read(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        let room = match &self.elements {
            Elements::String(out) => MAX_TEXTS - out.len(),
            Elements::Bytes(out) => MAX_TEXTS - out.len(),
            _ => usize::MAX,
        };
        let numbers = self.numbers;
        let has_missing = numbers == Numbers::Strict || self.dtype.is_float();
        let mut form = Form {
            dims: &mut self.dims,
            rank_known: &mut self.rank_known,
            room,
            without_missing: (!has_missing).then_some(self.dtype),
        };
        match &mut self.elements {
            Elements::F32(out) => read(reader, &mut form, out, |r| float_f32(r, numbers)),
            Elements::F64(out) => read(reader, &mut form, out, |r| float_f64(r, numbers)),
            Elements::F16(out) => read(reader, &mut form, out, |r| float_f16(r, numbers)),
            Elements::BF16(out) => read(reader, &mut form, out, |r| float_bf16(r, numbers)),
            Elements::I8(out) => read(reader, &mut form, out, |r| integer(r, numbers)),
            Elements::U8(out) => read_u8(reader, &mut form, out, numbers),
            Elements::I16(out) => read(reader, &mut form, out, |r| integer(r, numbers)),
            Elements::U16(out) => read(reader, &mut form, out, |r| integer(r, numbers)),
            Elements::I32(out) => read(reader, &mut form, out, |r| integer(r, numbers)),
            Elements::U32(out) => read(reader, &mut form, out, |r| integer(r, numbers)),
            Elements::I64(out) => read(reader, &mut form, out, |r| integer(r, numbers)),
            Elements::U64(out) => read(reader, &mut form, out, |r| integer(r, numbers)),
            Elements::Bool(out) => read(reader, &mut form, out, |r| r.boolean()),
            Elements::String(out) => read(reader, &mut form, out, string),
            Elements::Bytes(out) => read(reader, &mut form, out, blob),
        }
    }

    /// The tensor of a shape stated apart from the data. The data must be flat or nested exactly
    /// like the shape.
    pub fn with_shape(self, shape: Shape) -> Result<Tensor> {
        let found: usize = self.dims.iter().product();
        let expected = shape.checked_elements().map_err(|e| ArrayError::Form(e.to_string()))?;
        if found != expected {
            return Err(ArrayError::Form(format!(
                "shape {shape} needs {expected} elements, got {found}"
            )));
        }
        // An empty axis hides the ones inside it: [[],[]] is all there is of shape [2,0,3].
        let nested = self.dims.len() > 1 && found > 0;
        if nested && *self.dims != *shape {
            return Err(ArrayError::Form(format!(
                "data is nested as {}, expected {shape} or a flat list",
                Shape::from(self.dims.as_slice())
            )));
        }
        self.finish(shape)
    }

    /// The tensor of the shape that the nesting has.
    pub fn with_own_shape(self) -> Result<Tensor> {
        let shape = Shape::from(self.dims.as_slice());
        self.finish(shape)
    }

    /// The tensor of `rows` values read, each of the shape that the nesting has: axes
    /// `(rows, ...)`.
    pub fn with_rows(self, rows: usize) -> Result<Tensor> {
        let mut shape = Shape::from(self.dims.as_slice());
        shape.insert(0, rows);
        self.finish(shape)
    }

    fn finish(self, shape: Shape) -> Result<Tensor> {
        let tensor = match self.elements {
            Elements::F32(v) => Tensor::from_slice(shape, &v),
            Elements::F64(v) => Tensor::from_slice(shape, &v),
            Elements::F16(v) => Tensor::from_slice(shape, &v),
            Elements::BF16(v) => Tensor::from_slice(shape, &v),
            Elements::I8(v) => Tensor::from_slice(shape, &v),
            Elements::U8(v) => Tensor::from_slice(shape, &v),
            Elements::I16(v) => Tensor::from_slice(shape, &v),
            Elements::U16(v) => Tensor::from_slice(shape, &v),
            Elements::I32(v) => Tensor::from_slice(shape, &v),
            Elements::U32(v) => Tensor::from_slice(shape, &v),
            Elements::I64(v) => Tensor::from_slice(shape, &v),
            Elements::U64(v) => Tensor::from_slice(shape, &v),
            Elements::Bool(v) => Tensor::from_bools(shape, &v),
            Elements::String(v) => Tensor::from_strings(shape, v),
            Elements::Bytes(v) => Tensor::from_blobs(shape, v),
        };
        tensor.map_err(|e| ArrayError::Form(e.to_string()))
    }
}

struct Form<'f> {
    dims: &'f mut Vec<usize>,
    rank_known: &'f mut bool,
    /// Elements that may still come.
    room: usize,
    /// The datatype, where a table's `null` cannot be a value of it.
    without_missing: Option<DType>,
}

impl Form<'_> {
    /// A scalar is next, inside `depth` arrays.
    fn leaf(&mut self, reader: &mut Reader<'_>, depth: usize) -> Result<()> {
        if let Some(dtype) = self.without_missing
            && reader.peek() == Some(b'n')
        {
            return Err(ArrayError::Missing(dtype));
        }
        let room = self.room.checked_sub(1);
        self.room = room.ok_or_else(|| ArrayError::Form(too_many_texts()))?;
        if !*self.rank_known {
            *self.rank_known = true;
            return Ok(());
        }
        if depth == self.dims.len() { Ok(()) } else { Err(self.ragged()) }
    }

    /// An array opened inside `depth` others; whether it is the first at its depth.
    fn open(&mut self, depth: usize) -> Result<bool> {
        if depth >= MAX_RANK {
            return Err(ArrayError::Form(format!("data is nested deeper than {MAX_RANK}")));
        }
        let first = depth == self.dims.len();
        if first && *self.rank_known {
            return Err(self.ragged());
        }
        if first {
            self.dims.push(0);
        }
        Ok(first)
    }

    /// An array of `length` elements closed inside `depth` others.
    fn close(&mut self, depth: usize, length: usize, first: bool) -> Result<()> {
        if first {
            self.dims[depth] = length;
        }
        *self.rank_known |= first;
        if self.dims[depth] == length { Ok(()) } else { Err(self.ragged()) }
    }

    fn ragged(&self) -> ArrayError {
        ArrayError::Form("data is ragged: every list of one level needs the same length".to_owned())
    }
}

fn read<T>(
    reader: &mut Reader<'_>,
    form: &mut Form<'_>,
    out: &mut Vec<T>,
    element: impl Fn(&mut Reader<'_>) -> std::result::Result<T, DecodeError> + Copy,
) -> Result<()> {
    if out.is_empty() {
        // The shortest element and its comma take two bytes.
        out.reserve((reader.remaining() / 2 + 1).min(4096));
    }
    read_level(reader, form, out, element, 0)
}

fn read_level<T>(
    reader: &mut Reader<'_>,
    form: &mut Form<'_>,
    out: &mut Vec<T>,
    element: impl Fn(&mut Reader<'_>) -> std::result::Result<T, DecodeError> + Copy,
    depth: usize,
) -> Result<()> {
    if !reader.take(b'[') {
        form.leaf(reader, depth)?;
        out.push(element(reader)?);
        return Ok(());
    }
    let first = form.open(depth)?;
    let mut length = 0;
    if !reader.take(b']') {
        loop {
            if reader.peek() == Some(b'[') {
                read_level(reader, form, out, element, depth + 1)?;
            } else {
                form.leaf(reader, depth + 1)?;
                out.push(element(reader)?);
            }
            length += 1;
            if !reader.more(b']')? {
                break;
            }
        }
    }
    form.close(depth, length, first)
}

fn float_f32(reader: &mut Reader<'_>, numbers: Numbers) -> std::result::Result<f32, DecodeError> {
    float(reader, numbers, "f32", f32::is_finite, |v| v as f32, str::parse)
}

fn float_f64(reader: &mut Reader<'_>, numbers: Numbers) -> std::result::Result<f64, DecodeError> {
    float(reader, numbers, "f64", f64::is_finite, |v| v, str::parse)
}

fn float_f16(reader: &mut Reader<'_>, numbers: Numbers) -> std::result::Result<f16, DecodeError> {
    let parse = |text: &str| text.parse().map(f16::from_f64);
    float(reader, numbers, "f16", f16::is_finite, f16::from_f64, parse)
}

fn float_bf16(reader: &mut Reader<'_>, numbers: Numbers) -> std::result::Result<bf16, DecodeError> {
    let parse = |text: &str| text.parse().map(bf16::from_f64);
    float(reader, numbers, "bf16", bf16::is_finite, bf16::from_f64, parse)
}

#[inline]
fn float<T: Copy, E>(
    reader: &mut Reader<'_>,
    numbers: Numbers,
    name: &str,
    is_finite: impl Fn(T) -> bool,
    from: impl Fn(f64) -> T,
    parse: impl Fn(&str) -> std::result::Result<T, E>,
) -> std::result::Result<T, DecodeError> {
    if let Some(special) = non_finite(reader, numbers)? {
        return Ok(from(special));
    }
    let offset = reader.offset();
    let text = reader.number()?;
    parse(text).ok().filter(|value| is_finite(*value)).ok_or_else(|| DecodeError::Json {
        offset,
        problem: format!("{} is out of the range of {name}", clip(text)),
    })
}

#[inline]
fn non_finite(
    reader: &mut Reader<'_>,
    numbers: Numbers,
) -> std::result::Result<Option<f64>, DecodeError> {
    match reader.peek() {
        Some(b'n') if numbers == Numbers::OfTable && reader.word("null") => Ok(Some(f64::NAN)),
        Some(b'-') if reader.word("-Infinity") => Ok(Some(f64::NEG_INFINITY)),
        Some(b'N') if reader.word("NaN") => Ok(Some(f64::NAN)),
        Some(b'I') if reader.word("Infinity") => Ok(Some(f64::INFINITY)),
        Some(b'"') => {
            let offset = reader.offset();
            match &*reader.string()? {
                "NaN" => Ok(Some(f64::NAN)),
                "Infinity" => Ok(Some(f64::INFINITY)),
                "-Infinity" => Ok(Some(f64::NEG_INFINITY)),
                other => Err(DecodeError::Json {
                    offset,
                    problem: format!("expected a number, found the string \"{}\"", clip(other)),
                }),
            }
        }
        _ => Ok(None),
    }
}

fn integer<T: std::str::FromStr>(
    reader: &mut Reader<'_>,
    numbers: Numbers,
) -> std::result::Result<T, DecodeError> {
    let offset = reader.offset();
    let text = reader.number()?;
    let whole = || match (numbers, Decimal::read(text)) {
        (Numbers::OfTable, Some(Decimal::Whole(whole))) => whole.to_string().parse().ok(),
        _ => None,
    };
    text.parse().ok().or_else(whole).ok_or_else(|| DecodeError::Json {
        offset,
        problem: format!(
            "expected an integer in the range of {}, found {}",
            std::any::type_name::<T>(),
            clip(text)
        ),
    })
}

fn string(reader: &mut Reader<'_>) -> std::result::Result<String, DecodeError> {
    if reader.peek() != Some(b'{') {
        return reader.string().map(String::from);
    }
    let offset = reader.offset();
    let problem = |_| DecodeError::Json { offset, problem: "\"b64\" is not UTF-8 text".to_owned() };
    String::from_utf8(base64_object(reader)?).map_err(problem)
}

fn blob(reader: &mut Reader<'_>) -> std::result::Result<Buffer, DecodeError> {
    if reader.peek() == Some(b'{') {
        return base64_object(reader).map(|bytes| Buffer::copy_of(&bytes));
    }
    reader.string().map(|text| Buffer::copy_of(text.as_bytes()))
}

/// The bytes of `{"b64": "..."}`.
fn base64_object(reader: &mut Reader<'_>) -> std::result::Result<Vec<u8>, DecodeError> {
    let mut bytes = None;
    reader.object(|r, key| {
        if key != "b64" {
            return Err(r.error(format!("expected the key \"b64\", found '{}'", clip(key))));
        }
        let text = r.string()?;
        let decoded = base64::engine::general_purpose::STANDARD.decode(text.as_bytes());
        bytes = Some(decoded.map_err(|e| r.error(format!("invalid base64: {e}")))?);
        Ok(())
    })?;
    bytes.ok_or_else(|| reader.error("expected {\"b64\": \"...\"}"))
}

/// Numbers, or one `{"b64": "..."}` whose bytes are the innermost axis.
fn read_u8(
    reader: &mut Reader<'_>,
    form: &mut Form<'_>,
    out: &mut Vec<u8>,
    numbers: Numbers,
) -> Result<()> {
    if reader.peek() != Some(b'{') {
        return read(reader, form, out, |r| integer(r, numbers));
    }
    let bytes = base64_object(reader)?;
    let first = form.open(0)?;
    out.extend_from_slice(&bytes);
    form.close(0, bytes.len(), first)
}

fn clip(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(dtype: DType, text: &str, shape: &[usize]) -> Result<Tensor> {
        let mut array = Array::new(dtype)?;
        let mut reader = Reader::new(text.as_bytes())?;
        array.read(&mut reader)?;
        reader.end()?;
        array.with_shape(Shape::from(shape))
    }

    #[test]
    fn flat_and_nested_data_agree() {
        let flat = parse(DType::F32, "[1, 2.5,-3e2, 4]", &[2, 2]).unwrap();
        assert_eq!(flat, parse(DType::F32, "[[1,2.5],[-300,4.0]]", &[2, 2]).unwrap());
        assert_eq!(flat.as_slice::<f32>().unwrap(), &[1.0, 2.5, -300.0, 4.0]);
        assert_eq!(parse(DType::I64, "7", &[]).unwrap().item::<i64>().unwrap(), 7);
        assert_eq!(parse(DType::I64, "[7]", &[1, 1]).unwrap().item::<i64>().unwrap(), 7);
        assert_eq!(parse(DType::F32, "[[],[]]", &[2, 0, 3]).unwrap().elements(), 0);
    }

    #[test]
    fn other_forms_are_refused_with_the_numbers() {
        let problem =
            |text: &str, shape: &[usize]| parse(DType::F32, text, shape).unwrap_err().to_string();
        assert_eq!(problem("[1,2,3]", &[2, 2]), "shape [2,2] needs 4 elements, got 3");
        assert_eq!(
            problem("[[1,2,3,4]]", &[2, 2]),
            "data is nested as [1,4], expected [2,2] or a flat list"
        );
        for ragged in ["[[1,2],[3]]", "[1,[2]]", "[[1],2]", "[[],[[1]]]"] {
            assert!(problem(ragged, &[2, 2]).starts_with("data is ragged"), "{ragged}");
        }
        let deep = "[".repeat(100_000);
        assert!(problem(&deep, &[1]).starts_with("data is nested deeper"));
        assert!(problem("[1,\"x\"]", &[2]).contains("expected a number, found the string \"x\""));
        assert!(problem("[1e39]", &[1]).contains("1e39 is out of the range of f32"));
        assert!(problem("[1,]", &[1]).contains("expected a number"));
    }

    #[test]
    fn integers_booleans_and_text_are_exact() {
        let big = parse(DType::U64, "[18446744073709551615]", &[1]).unwrap();
        assert_eq!(big.item::<u64>().unwrap(), u64::MAX);
        for (dtype, text) in
            [(DType::I8, "[128]"), (DType::U8, "[-1]"), (DType::I32, "[1.0]"), (DType::Bool, "[1]")]
        {
            assert!(parse(dtype, text, &[1]).is_err(), "{text}");
        }
        let text = parse(DType::String, r#"["a", {"b64":"w6k="}]"#, &[2]).unwrap();
        assert_eq!(text.strings().unwrap(), ["a", "\u{e9}"]);
        let many = |count: usize| format!("[{}\"\"]", "\"\",".repeat(count - 1));
        assert!(parse(DType::String, &many(MAX_TEXTS), &[MAX_TEXTS]).is_ok());
        for dtype in [DType::String, DType::Bytes] {
            let found = parse(dtype, &many(MAX_TEXTS + 1), &[MAX_TEXTS + 1]).unwrap_err();
            assert_eq!(found.to_string(), "a tensor of BYTES may have at most 4194304 elements");
        }
        let bytes = parse(DType::U8, r#"{"b64":"AAEC"}"#, &[3]).unwrap();
        assert_eq!(bytes.as_slice::<u8>().unwrap(), &[0, 1, 2]);
    }

    #[test]
    fn half_floats_are_range_checked() {
        assert!(parse(DType::F16, "[65504]", &[1]).is_ok());
        for (dtype, text) in [
            (DType::F16, "70000"),
            (DType::F16, "-1e9"),
            (DType::BF16, "1e39"),
            (DType::F64, "1e999"),
        ] {
            let found = parse(dtype, text, &[]).unwrap_err().to_string();
            assert!(found.contains(&format!("{text} is out of the range of")), "{found}");
        }
        assert!(parse(DType::F16, "[\"Infinity\", -Infinity, NaN]", &[3]).is_ok());
    }

    #[test]
    fn numbers_of_tables_may_be_missing_and_whole() {
        let read = |dtype: DType, text: &str| {
            let mut array = Array::of_table(dtype)?;
            array.read(&mut Reader::new(text.as_bytes())?)?;
            array.with_own_shape()
        };
        for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
            assert!(read(dtype, "[1, null]").is_ok());
            assert!(parse(dtype, "[1, null]", &[2]).is_err());
        }
        assert!(read(DType::F32, "null").unwrap().item::<f32>().unwrap().is_nan());
        let missing = read(DType::I64, "[1,null]").unwrap_err();
        assert_eq!(missing.to_string(), "is null, and INT64 has no missing value");
        assert_eq!(read(DType::String, "null"), Err(ArrayError::Missing(DType::String)));
        assert_eq!(read(DType::Bool, "null"), Err(ArrayError::Missing(DType::Bool)));
        let whole = read(DType::I64, "[1.0, 1e3, -2.00, 9007199254740993.0, 1e18]").unwrap();
        let expected = [1, 1000, -2, 9_007_199_254_740_993, 1_000_000_000_000_000_000];
        assert_eq!(whole.as_slice::<i64>().unwrap(), &expected);
        for (dtype, text) in
            [(DType::I64, "1.5"), (DType::I64, "1e-3"), (DType::I64, "1e19"), (DType::U8, "256.0")]
        {
            assert!(read(dtype, text).is_err(), "{text}");
        }
    }

    #[test]
    fn non_finite_numbers_are_words_or_strings() {
        let text = r#"[NaN, "NaN", -Infinity, "Infinity", Infinity, "-Infinity"]"#;
        let tensor = parse(DType::F32, text, &[6]).unwrap();
        let values = tensor.as_slice::<f32>().unwrap();
        assert!(values[0].is_nan() && values[1].is_nan());
        let inf = f32::INFINITY;
        assert_eq!(&values[2..], &[-inf, inf, inf, -inf]);
    }
}
