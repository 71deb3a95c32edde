//! Inputs made up for a signature, for benchmarks and golden cases: the same every time.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use anyhow::{Context, Result, bail, ensure};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use landfall_graph::{DimSpec, Signature, TensorSpec};
use landfall_tensor::{Buffer, DType, Shape, Tensor, bf16, f16};

/// Extents of free axes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extents {
    /// Of axes by name.
    pub named: BTreeMap<String, usize>,
    /// Of rows: axes named `batch`, and free leading axes that are not named as a length.
    pub batch: Option<usize>,
    /// Of every other free axis.
    pub length: Option<usize>,
}

impl Extents {
    /// The shape of an input.
    pub fn shape(&self, spec: &TensorSpec) -> Result<Shape> {
        let Some(dims) = &spec.dims else {
            bail!("input '{}' has no known rank: give the inputs instead", spec.name);
        };
        Ok(dims.iter().enumerate().map(|(axis, dim)| self.extent(axis, dim)).collect())
    }

    /// The shapes of every input, in the signature's order.
    pub fn shapes(&self, signature: &Signature) -> Result<Vec<Shape>> {
        signature.inputs.iter().map(|spec| self.shape(spec)).collect()
    }

    /// Fails if an axis is named that no input leaves free.
    pub fn check(&self, signature: &Signature) -> Result<()> {
        check_names(self.named.keys(), signature).context("--shape")
    }

    fn extent(&self, axis: usize, dim: &DimSpec) -> usize {
        let name = match dim {
            DimSpec::Known(extent) => return *extent,
            DimSpec::Symbol(name) => name,
        };
        if let Some(extent) = self.named.get(name) {
            return *extent;
        }
        if is_rows(axis, name) { self.batch.unwrap_or(1) } else { self.length.unwrap_or(1) }
    }
}

/// Fails if an axis is named that no input leaves free.
pub fn check_names<'n>(
    names: impl IntoIterator<Item = &'n String>,
    signature: &Signature,
) -> Result<()> {
    let free = free_axes(signature);
    for name in names {
        ensure!(
            free.iter().any(|(_, axis)| axis == name),
            "no input has a free axis '{name}'; {}",
            listed(&free)
        );
    }
    Ok(())
}

/// Fails if an input of that shape would not fit into `limit` bytes.
pub fn check_size(spec: &TensorSpec, shape: &Shape, limit: usize) -> Result<()> {
    let elements = shape.checked_elements().ok();
    let bytes = elements.and_then(|elements| elements.checked_mul(spec.dtype.least_bytes()));
    ensure!(
        bytes.is_some_and(|bytes| bytes <= limit),
        "input '{}' of shape {shape} exceeds the limit of {limit} bytes of working memory",
        spec.name
    );
    Ok(())
}

/// Fails if no input has a free axis that is not one of rows.
pub fn check_lengths(signature: &Signature) -> Result<()> {
    let free = free_axes(signature);
    ensure!(
        free.iter().any(|(axis, name)| !is_rows(*axis, name)),
        "--seq-len: no input has a free axis but of rows; {}",
        listed(&free)
    );
    Ok(())
}

/// Positions and names of the free axes of all inputs.
fn free_axes(signature: &Signature) -> Vec<(usize, &str)> {
    let axes = signature.inputs.iter().flat_map(|spec| spec.dims.iter().flatten().enumerate());
    let free = axes.filter_map(|(axis, dim)| match dim {
        DimSpec::Symbol(name) => Some((axis, name.as_str())),
        DimSpec::Known(_) => None,
    });
    free.collect()
}

fn listed(free: &[(usize, &str)]) -> String {
    let named = free.iter().map(|(_, name)| *name).filter(|name| !name.is_empty());
    let names: BTreeSet<&str> = named.collect();
    match names.is_empty() {
        true => "no axis is free and has a name".to_owned(),
        false => format!("free are {}", Vec::from_iter(names).join(", ")),
    }
}

/// Whether a free axis counts rows of a batch.
pub fn is_rows(axis: usize, name: &str) -> bool {
    let lower = name.to_lowercase();
    lower.contains("batch") || (axis == 0 && !is_length(&lower))
}

/// Whether an axis of that name counts tokens or time steps.
pub fn is_length(name: &str) -> bool {
    ["seq", "len", "time", "token", "step"].iter().any(|part| name.contains(part))
}

/// Reads `name=extent`.
pub fn parse_extent(text: &str) -> Result<(String, usize), String> {
    let parsed = text.split_once('=').and_then(|(name, extent)| {
        Some((name.to_owned(), extent.parse().ok().filter(|&extent| extent > 0)?))
    });
    parsed.ok_or_else(|| format!("expected NAME=EXTENT such as seq=128, found '{text}'"))
}

/// An input for every specification, in the signature's order, each of at most `limit` bytes.
pub fn inputs(signature: &Signature, extents: &Extents, limit: usize) -> Result<Vec<Tensor>> {
    let words = extents.length.unwrap_or(8);
    let make = |spec: &TensorSpec| {
        let shape = extents.shape(spec)?;
        check_size(spec, &shape, limit)?;
        let made = tensor(&spec.name.to_lowercase(), spec.dtype, shape, words);
        made.with_context(|| format!("input '{}'", spec.name))
    };
    signature.inputs.iter().map(make).collect()
}

fn tensor(name: &str, dtype: DType, shape: Shape, words: usize) -> Result<Tensor> {
    let count = shape.checked_elements()?;
    // A mask that hides everything, or an index beyond a table, would not be a valid input.
    let whole = |index: usize| match name {
        _ if name.contains("mask") => 1,
        _ if name.contains("type") || name.contains("segment") => 0,
        _ => (index % 8) as u8,
    };
    let real = |index: usize| fraction(index) * 2.0 - 1.0;
    macro_rules! made {
        ($type:ty, $element:expr) => {{
            let element = $element;
            let elements: Vec<$type> = (0..count).map(|index| element(index)).collect();
            Tensor::from_slice(shape, &elements)
        }};
    }
    Ok(match dtype {
        DType::F32 => made!(f32, |i| real(i) as f32),
        DType::F64 => made!(f64, real),
        DType::F16 => made!(f16, |i| f16::from_f64(real(i))),
        DType::BF16 => made!(bf16, |i| bf16::from_f64(real(i))),
        DType::I8 => made!(i8, |i| whole(i) as i8),
        DType::U8 => made!(u8, |i| (fraction(i) * 256.0) as u8),
        DType::I16 => made!(i16, |i| i16::from(whole(i))),
        DType::U16 => made!(u16, |i| u16::from(whole(i))),
        DType::I32 => made!(i32, |i| i32::from(whole(i))),
        DType::U32 => made!(u32, |i| u32::from(whole(i))),
        DType::I64 => made!(i64, |i| i64::from(whole(i))),
        DType::U64 => made!(u64, |i| u64::from(whole(i))),
        DType::Bool => Tensor::from_bools(shape, &vec![true; count]),
        DType::String => Tensor::from_strings(shape, vec![vec!["a"; words].join(" "); count]),
        DType::Bytes => Tensor::from_blobs(shape, vec![picture()?; count]),
        other => bail!("no inputs can be made up of type {other}"),
    }?)
}

/// A number from 0 to 1 that looks random: the golden-ratio sequence.
fn fraction(index: usize) -> f64 {
    const GOLDEN_RATIO: f64 = 0.618_033_988_749_894_9;
    ((index + 1) as f64 * GOLDEN_RATIO).fract()
}

/// A colourful PNG. Source of the format: W3C, "Portable Network Graphics", third edition.
fn picture() -> Result<Buffer> {
    const SIDE: u32 = 256;
    let mut pixels = Vec::new();
    for y in 0..SIDE {
        pixels.push(0);
        for x in 0..SIDE {
            pixels.extend([x as u8, y as u8, (x ^ y) as u8]);
        }
    }
    let mut deflated = ZlibEncoder::new(Vec::new(), Compression::fast());
    deflated.write_all(&pixels)?;
    let mut header = [SIDE.to_be_bytes(), SIDE.to_be_bytes()].concat();
    // Eight bits a sample, true colour, the only compression and filter methods, not interlaced.
    header.extend([8, 2, 0, 0, 0]);
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", header), (b"IDAT", deflated.finish()?), (b"IEND", vec![])] {
        let mut crc = flate2::Crc::new();
        crc.update(kind);
        crc.update(&data);
        png.extend((data.len() as u32).to_be_bytes());
        png.extend(kind);
        png.extend(&data);
        png.extend(crc.sum().to_be_bytes());
    }
    Ok(Buffer::copy_of(&png))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, dtype: DType, dims: &[&str]) -> TensorSpec {
        let dim = |dim: &&str| match dim.parse() {
            Ok(extent) => DimSpec::Known(extent),
            Err(_) => DimSpec::Symbol((*dim).to_owned()),
        };
        TensorSpec { name: name.into(), dtype, dims: Some(dims.iter().map(dim).collect()) }
    }

    #[test]
    fn free_axes_are_rows_or_lengths() {
        let extents = Extents {
            named: BTreeMap::from([("width".to_owned(), 7)]),
            batch: Some(2),
            length: Some(5),
        };
        let shape = |dims: &[&str]| extents.shape(&spec("x", DType::F32, dims)).unwrap().to_vec();
        assert_eq!(shape(&["N", "seq", "3"]), [2, 5, 3]);
        assert_eq!(shape(&["sequence", "batch", "width"]), [5, 2, 7]);
        assert_eq!(shape(&["", ""]), [2, 5]);
        let unknown = TensorSpec { dims: None, ..spec("x", DType::F32, &[]) };
        assert!(extents.shape(&unknown).unwrap_err().to_string().contains("no known rank"));
    }

    #[test]
    fn every_type_can_be_made_up_the_same_way_twice() {
        let inputs_of = |dtype| {
            let signature =
                Signature { inputs: vec![spec("x", dtype, &["n", "3"])], outputs: vec![] };
            inputs(&signature, &Extents { batch: Some(4), ..Extents::default() }, 1 << 20).unwrap()
        };
        for dtype in DType::ALL {
            let made = inputs_of(dtype);
            assert_eq!((made[0].dtype(), made[0].shape().to_vec()), (dtype, vec![4, 3]));
            assert_eq!(made, inputs_of(dtype));
        }
    }

    #[test]
    fn axes_that_no_input_leaves_free_are_refused_with_those_that_are() {
        let inputs = |dims: &[&str]| Signature {
            inputs: vec![spec("x", DType::F32, dims)],
            outputs: vec![],
        };
        let named = BTreeMap::from([("foo".to_owned(), 3)]);
        let extents = Extents { named, ..Extents::default() };
        assert!(extents.check(&inputs(&["foo", "2"])).is_ok());
        let error = format!("{:#}", extents.check(&inputs(&["N", "seq", "2"])).unwrap_err());
        assert_eq!(error, "--shape: no input has a free axis 'foo'; free are N, seq");
        assert!(
            format!("{:#}", extents.check(&inputs(&["2"])).unwrap_err()).ends_with("has a name")
        );
        assert!(check_lengths(&inputs(&["N", "seq"])).is_ok());
        assert!(
            check_lengths(&inputs(&["N", "2"])).unwrap_err().to_string().ends_with("free are N")
        );
    }

    #[test]
    fn extents_are_positive_numbers() {
        assert_eq!(parse_extent("seq=128"), Ok(("seq".to_owned(), 128)));
        for text in ["seq", "seq=0", "seq=x"] {
            assert!(parse_extent(text).is_err(), "{text}");
        }
    }
}
