//! NumPy's `.npz` archives as golden files use them: entries stored without compression.
//!
//! Sources: the ZIP application note (local headers, in order) and `numpy.lib.format`.

use landfall_tensor::{DType, Shape, Tensor, TensorError};

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum NpzError {
    /// The bytes end in the middle of something.
    #[error("the archive ends within {0}")]
    Truncated(&'static str),
    /// A feature that golden files do not use.
    #[error("array '{array}': {what} is not supported")]
    Unsupported {
        /// The array.
        array: String,
        /// What it uses.
        what: String,
    },
    /// Elements do not fill the shape.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

fn take<'a>(bytes: &mut &'a [u8], count: usize, what: &'static str) -> Result<&'a [u8], NpzError> {
    let (head, tail) = bytes.split_at_checked(count).ok_or(NpzError::Truncated(what))?;
    *bytes = tail;
    Ok(head)
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte))
}

/// Every array of an archive, with its name, in order.
pub fn read(archive: &[u8]) -> Result<Vec<(String, Tensor)>, NpzError> {
    const LOCAL: &[u8] = b"PK\x03\x04";
    let mut arrays = Vec::new();
    let mut rest = archive;
    while rest.starts_with(LOCAL) {
        let header = take(&mut rest, 30, "a header")?;
        let name = take(&mut rest, number(&header[26..28]), "a name")?;
        let extra = take(&mut rest, number(&header[28..30]), "extra fields")?;
        let array = String::from_utf8_lossy(name).trim_end_matches(".npy").to_owned();
        let unsupported =
            |what: &str| NpzError::Unsupported { array: array.clone(), what: what.to_owned() };
        if number(&header[8..10]) != 0 {
            return Err(unsupported("compression"));
        }
        if number(&header[6..8]) & 8 != 0 {
            return Err(unsupported("a size that follows the data"));
        }
        // NumPy reserves 64-bit sizes in an extra field.
        let size = match number(&header[18..22]) {
            0xffff_ffff if number(extra.get(..2).unwrap_or_default()) == 1 => {
                number(extra.get(12..20).ok_or(NpzError::Truncated("a size"))?)
            }
            size => size,
        };
        let tensor = array_of(&array, take(&mut rest, size, "an array")?)?;
        arrays.push((array, tensor));
    }
    Ok(arrays)
}

/// One `.npy` file.
fn array_of(array: &str, mut bytes: &[u8]) -> Result<Tensor, NpzError> {
    let unsupported = |what: String| NpzError::Unsupported { array: array.to_owned(), what };
    let prelude = take(&mut bytes, 8, "an array's header")?;
    let width = if prelude[6] == 1 { 2 } else { 4 };
    let length = number(take(&mut bytes, width, "an array's header")?);
    let header = String::from_utf8_lossy(take(&mut bytes, length, "an array's header")?);
    let field = |name: &str| header.split_once(name).map(|(_, value)| value.trim_start());
    let columns_first = field("'fortran_order':").is_some_and(|value| value.starts_with("True"));
    let descriptor = field("'descr':").and_then(|value| value.split('\'').nth(1)).unwrap_or("");
    let dims = field("'shape':").and_then(|value| value.strip_prefix('(')?.split(')').next());
    let shape: Shape = dims
        .unwrap_or("")
        .split(',')
        .filter(|extent| !extent.trim().is_empty())
        .map(|extent| extent.trim().parse().map_err(|_| unsupported(format!("extent {extent}"))))
        .collect::<Result<_, _>>()?;
    let places = places(&shape, columns_first)?;
    let of_element = |size: usize, place: usize| {
        bytes.get(place * size..(place + 1) * size).ok_or(NpzError::Truncated("an array"))
    };
    if let Some(characters) = descriptor.strip_prefix("<U") {
        let count: usize = characters.parse().map_err(|_| unsupported(descriptor.to_owned()))?;
        let texts = places.into_iter().map(|place| {
            let characters = of_element(4 * count, place)?.chunks_exact(4).map(number);
            let units = characters.take_while(|&unit| unit != 0);
            Ok(units.filter_map(|unit| char::from_u32(unit as u32)).collect())
        });
        return Ok(Tensor::from_strings(shape, texts.collect::<Result<_, NpzError>>()?)?);
    }
    let dtype = match descriptor {
        "<f4" => DType::F32,
        "<f8" => DType::F64,
        "<i4" => DType::I32,
        "<i8" => DType::I64,
        "|b1" => DType::Bool,
        "|u1" => DType::U8,
        other => return Err(unsupported(format!("element type {other}"))),
    };
    let elements = places.into_iter().map(|place| of_element(dtype.size(), place));
    let elements: Vec<&[u8]> = elements.collect::<Result<_, NpzError>>()?;
    Ok(Tensor::from_bytes(dtype, shape, &elements.concat())?)
}

/// Where in the file each element lies, in row-major order.
fn places(shape: &Shape, columns_first: bool) -> Result<Vec<usize>, NpzError> {
    let elements = shape.checked_elements()?;
    if !columns_first {
        return Ok((0..elements).collect());
    }
    let place = |mut index: usize| {
        let mut place = 0;
        for (axis, &extent) in shape.iter().enumerate().rev() {
            let stride: usize = shape[..axis].iter().product();
            place += index % extent * stride;
            index /= extent;
        }
        place
    };
    Ok((0..elements).map(place).collect())
}
