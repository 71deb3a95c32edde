//! One `.npy` array: bytes to a tensor and back.

use std::borrow::Cow;
use std::io::Read;

use landfall_tensor::{Buffer, DType, Shape, Tensor};

use super::header::{self, Header, MAX_HEADER_BYTES};

const MAGIC: &[u8] = b"\x93NUMPY";
/// The data starts at a multiple of this many bytes.
const HEADER_ALIGNMENT: usize = 64;
/// Bytes of one character of text.
const CHARACTER: usize = 4;

/// How elements lie in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    dtype: DType,
    /// Bytes of one element.
    size: usize,
    big_endian: bool,
}

/// Reads an array of at most `limit` bytes.
pub(super) fn read(source: &mut dyn Read, limit: u64) -> Result<Tensor, String> {
    let header = header::parse(&header_text(source)?)?;
    let layout = layout(&header.descr)?;
    let shape = Shape::from(header.shape.as_slice());
    let bytes = shape.checked_elements().ok().and_then(|n| n.checked_mul(layout.size));
    let expected = match bytes.filter(|&bytes| bytes as u64 <= limit) {
        Some(bytes) => bytes,
        None => return Err(format!("shape {shape} exceeds the limit of {limit} bytes")),
    };
    let mut data = Vec::new();
    // One byte more than expected tells a longer entry from a complete one.
    let read = source.take(expected as u64 + 1).read_to_end(&mut data);
    read.map_err(|error| format!("its data cannot be read: {error}"))?;
    if data.len() != expected {
        let found = if data.len() > expected { "more".to_owned() } else { data.len().to_string() };
        return Err(format!("{} {shape} needs {expected} bytes, found {found}", header.descr));
    }
    if header.fortran_order {
        data = row_major(&data, &header, layout.size);
    }
    tensor(layout, shape, data)
}

fn header_text(source: &mut dyn Read) -> Result<String, String> {
    let cut = |error: std::io::Error| format!("its header cannot be read: {error}");
    let mut start = [0; 8];
    source.read_exact(&mut start).map_err(cut)?;
    if !start.starts_with(MAGIC) {
        return Err("not a NumPy array".to_owned());
    }
    let length = match start[6] {
        1 => {
            let mut length = [0; 2];
            source.read_exact(&mut length).map_err(cut)?;
            usize::from(u16::from_le_bytes(length))
        }
        2 | 3 => {
            let mut length = [0; 4];
            source.read_exact(&mut length).map_err(cut)?;
            u32::from_le_bytes(length) as usize
        }
        version => return Err(format!("version {version} of the NPY format is not known")),
    };
    if length > MAX_HEADER_BYTES {
        return Err(format!("its header has {length} bytes, at most {MAX_HEADER_BYTES}"));
    }
    let mut text = vec![0; length];
    source.read_exact(&mut text).map_err(cut)?;
    String::from_utf8(text).map_err(|_| "its header is not text".to_owned())
}

fn layout(descr: &str) -> Result<Layout, String> {
    let unknown = || {
        format!(
            "type '{descr}' is not supported: expected numbers, booleans, fixed-width text \
             (array.astype('U')) or byte strings"
        )
    };
    let mut chars = descr.chars();
    let order = chars.next().ok_or_else(unknown)?;
    let kind = chars.next().ok_or_else(unknown)?;
    if kind == 'O' {
        return Err("it holds Python objects: save text with array.astype('U')".to_owned());
    }
    if !matches!(order, '<' | '>' | '|' | '=') {
        return Err(unknown());
    }
    let width: usize = chars.as_str().parse().map_err(|_| unknown())?;
    let (dtype, size) = match (kind, width) {
        ('f', 2) => (DType::F16, 2),
        ('f', 4) => (DType::F32, 4),
        ('f', 8) => (DType::F64, 8),
        ('i', 1) => (DType::I8, 1),
        ('i', 2) => (DType::I16, 2),
        ('i', 4) => (DType::I32, 4),
        ('i', 8) => (DType::I64, 8),
        ('u', 1) => (DType::U8, 1),
        ('u', 2) => (DType::U16, 2),
        ('u', 4) => (DType::U32, 4),
        ('u', 8) => (DType::U64, 8),
        ('b', 1) => (DType::Bool, 1),
        ('V', 2) => (DType::BF16, 2),
        ('U', width) => (DType::String, width.checked_mul(CHARACTER).ok_or_else(unknown)?),
        ('S', width) => (DType::Bytes, width),
        _ => return Err(unknown()),
    };
    Ok(Layout { dtype, size, big_endian: order == '>' })
}

/// The elements of a column-major array in row-major order.
fn row_major(data: &[u8], header: &Header, size: usize) -> Vec<u8> {
    let mut strides = vec![0; header.shape.len()];
    let mut next = 1;
    for (stride, extent) in strides.iter_mut().zip(&header.shape) {
        *stride = next;
        next *= extent;
    }
    let mut out = Vec::with_capacity(data.len());
    let mut index = vec![0; header.shape.len()];
    let elements = data.len().checked_div(size).unwrap_or(0);
    for _ in 0..elements {
        let at: usize = index.iter().zip(&strides).map(|(i, stride)| i * stride).sum();
        out.extend_from_slice(&data[at * size..(at + 1) * size]);
        for (i, extent) in index.iter_mut().zip(&header.shape).rev() {
            *i += 1;
            if *i < *extent {
                break;
            }
            *i = 0;
        }
    }
    out
}

fn tensor(layout: Layout, shape: Shape, mut data: Vec<u8>) -> Result<Tensor, String> {
    let elements = shape.elements();
    let element = |index: usize| &data[index * layout.size..(index + 1) * layout.size];
    let tensor = match layout.dtype {
        DType::String => {
            let text = |index| text(element(index), layout.big_endian);
            Tensor::from_strings(shape, (0..elements).map(text).collect::<Result<_, _>>()?)
        }
        DType::Bytes => {
            let blob = |index| {
                let bytes: &[u8] = element(index);
                let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
                Buffer::copy_of(&bytes[..used])
            };
            Tensor::from_blobs(shape, (0..elements).map(blob).collect())
        }
        dtype => {
            if layout.big_endian {
                data.chunks_exact_mut(layout.size).for_each(<[u8]>::reverse);
            }
            if dtype == DType::Bool {
                data.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
            }
            Tensor::from_bytes(dtype, shape, &data)
        }
    };
    tensor.map_err(|error| error.to_string())
}

fn text(element: &[u8], big_endian: bool) -> Result<String, String> {
    let character = |bytes: &[u8]| {
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        let code = if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        char::from_u32(code).ok_or_else(|| format!("{code:#x} is not a character"))
    };
    let text: String = element.chunks_exact(CHARACTER).map(character).collect::<Result<_, _>>()?;
    Ok(text.trim_end_matches('\0').to_owned())
}

/// The width of the longest element, at least 1: NumPy has no type of width 0.
fn width(tensor: &Tensor) -> usize {
    let longest = match tensor.dtype() {
        DType::String => {
            let strings = tensor.strings().unwrap_or_default();
            strings.iter().map(|text| text.chars().count()).max()
        }
        _ => tensor.blobs().unwrap_or_default().iter().map(|blob| blob.len()).max(),
    };
    longest.unwrap_or(0).max(1)
}

fn descr(tensor: &Tensor) -> String {
    match tensor.dtype() {
        DType::String => format!("<U{}", width(tensor)),
        DType::Bytes => format!("|S{}", width(tensor)),
        DType::BF16 => "<V2".to_owned(),
        DType::Bool => "|b1".to_owned(),
        DType::I8 => "|i1".to_owned(),
        DType::U8 => "|u1".to_owned(),
        dtype if dtype.is_float() => format!("<f{}", dtype.size()),
        dtype if dtype.is_signed_integer() => format!("<i{}", dtype.size()),
        dtype => format!("<u{}", dtype.size()),
    }
}

/// The header of an array, padded so that the data after it is aligned.
pub(super) fn header(tensor: &Tensor) -> Vec<u8> {
    let shape: String = tensor.shape().iter().map(|extent| format!("{extent}, ")).collect();
    let shape = if tensor.shape().rank() > 1 { shape.trim_end_matches(", ") } else { shape.trim() };
    let mut text =
        format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({shape}), }}", descr(tensor));
    // Magic, version, length before the text; a newline after it.
    let before = MAGIC.len() + 2 + 2;
    let padded = (before + text.len() + 1).next_multiple_of(HEADER_ALIGNMENT);
    text.extend(std::iter::repeat_n(' ', padded - before - text.len() - 1));
    text.push('\n');
    let mut out = MAGIC.to_vec();
    out.extend([1, 0]);
    out.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend(text.as_bytes());
    out
}

/// The bytes of an array's elements.
pub(super) fn bytes(tensor: &Tensor) -> Result<Cow<'_, [u8]>, String> {
    let failed = |error: landfall_tensor::TensorError| error.to_string();
    match tensor.dtype() {
        DType::String => {
            let strings = tensor.strings().map_err(failed)?;
            let size = width(tensor) * CHARACTER;
            let mut out = vec![0; strings.len().saturating_mul(size)];
            for (text, out) in strings.iter().zip(out.chunks_exact_mut(size)) {
                for (c, out) in text.chars().zip(out.chunks_exact_mut(CHARACTER)) {
                    out.copy_from_slice(&u32::from(c).to_le_bytes());
                }
            }
            Ok(Cow::Owned(out))
        }
        DType::Bytes => {
            let blobs = tensor.blobs().map_err(failed)?;
            let size = width(tensor);
            let mut out = vec![0; blobs.len().saturating_mul(size)];
            for (blob, out) in blobs.iter().zip(out.chunks_exact_mut(size)) {
                out[..blob.len()].copy_from_slice(blob);
            }
            Ok(Cow::Owned(out))
        }
        _ => Ok(Cow::Borrowed(tensor.bytes().unwrap_or_default())),
    }
}
