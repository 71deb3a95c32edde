//! The types that each step takes and writes.
//!
//! Types flow forward from what callers send. Where a value comes from a caller and the step that
//! takes it would accept several types, its type flows backward from what the graph needs.

use landfall_graph::{DimSpec, Dims, TensorSpec};
use landfall_tensor::DType;

use super::{
    CenterCrop, ImageLayout, Normalize, PostStep, PreStep, Resize, ResizeMode, Size, TopK,
};

/// Most pixels on a side that a step may ask for.
const MAX_SIDE: usize = 16_384;
/// Most tokens a row that a step may ask for.
const MAX_TOKENS: usize = 1 << 20;

/// Element type and axes of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Type {
    pub(super) dtype: DType,
    pub(super) dims: Option<Vec<DimSpec>>,
}

impl Type {
    pub(super) fn new(dtype: DType, dims: Vec<DimSpec>) -> Type {
        Type { dtype, dims: Some(dims) }
    }

    pub(super) fn of(spec: &TensorSpec) -> Type {
        Type { dtype: spec.dtype, dims: spec.dims.clone() }
    }

    pub(super) fn named(self, name: &str) -> TensorSpec {
        TensorSpec { name: name.to_owned(), dtype: self.dtype, dims: self.dims }
    }

    pub(super) fn describe(&self) -> String {
        let shape = self.dims.as_ref().map_or("of any shape".to_owned(), |d| Dims(d).to_string());
        format!("{} {shape}", self.dtype)
    }

    fn with_dtype(&self, dtype: DType) -> Type {
        Type { dtype, dims: self.dims.clone() }
    }

    fn rank(&self, rank: usize, what: &str) -> Result<&[DimSpec], String> {
        match &self.dims {
            Some(dims) if dims.len() == rank => Ok(dims),
            _ => Err(format!("takes {what}, found {}", self.describe())),
        }
    }

    fn one_of(&self, dtypes: &[DType]) -> Result<(), String> {
        if dtypes.contains(&self.dtype) {
            return Ok(());
        }
        let names: Vec<&str> = dtypes.iter().map(|dtype| dtype.name()).collect();
        Err(format!("takes {}, found {}", names.join(" or "), self.describe()))
    }

    /// Pixels `[batch, height, width, 3]` of `u8`; their batch axis.
    fn pixels(&self) -> Result<DimSpec, String> {
        let what = "RGB pixels, u8 [batch,height,width,3] (decode_image gives them)";
        self.one_of(&[DType::U8])
            .map_err(|_| format!("takes {what}, found {}", self.describe()))?;
        match self.rank(4, what)? {
            [batch, _, _, DimSpec::Known(3)] => Ok(batch.clone()),
            _ => Err(format!("takes {what}, found {}", self.describe())),
        }
    }
}

fn free(name: &str) -> DimSpec {
    DimSpec::Symbol(name.to_owned())
}

fn pixels(batch: DimSpec, size: Option<(usize, usize)>) -> Type {
    let (height, width) = match size {
        Some((height, width)) => (DimSpec::Known(height), DimSpec::Known(width)),
        None => (free(""), free("")),
    };
    Type::new(DType::U8, vec![batch, height, width, DimSpec::Known(3)])
}

/// What a step writes, given what it takes. `needed` is what the graph needs of each value written,
/// known for tokenizers only, which write whichever integers the graph takes.
pub(super) fn pre_forward(
    step: &PreStep,
    taken: &[Type],
    needed: &[Type],
) -> Result<Vec<Type>, String> {
    let Some(first) = taken.first() else { return Err("takes no value".to_owned()) };
    let written = match step {
        PreStep::Tokenize(step) => return tokenized(step.max_length, taken, needed),
        PreStep::DecodeImage(_) => {
            first.one_of(&[DType::Bytes])?;
            let batch = first.rank(1, "encoded images [batch]")?[0].clone();
            pixels(batch, None)
        }
        PreStep::Resize(step) => pixels(first.pixels()?, resized(step)?),
        PreStep::CenterCrop(step) => pixels(first.pixels()?, cropped(step)?),
        PreStep::Normalize(step) => normalized(step, first)?,
        PreStep::ToLayout(step) => permuted(step.layout, first)?,
        PreStep::Cast(step) => {
            if let Some(from) = step.from {
                first.one_of(&[from.0])?;
            }
            castable(first.dtype)?;
            castable(step.to.0)?;
            first.with_dtype(step.to.0)
        }
        PreStep::Scale(step) => {
            first.one_of(&[DType::U8, DType::F32])?;
            finite("factor", &[step.factor])?;
            finite("offset", &[step.offset])?;
            first.with_dtype(DType::F32)
        }
        PreStep::Rename(_) => first.clone(),
        PreStep::EncodeCategory(_) => {
            first.one_of(&[DType::String])?;
            first.with_dtype(DType::I64)
        }
    };
    Ok(vec![written])
}

/// What callers send to a step, given what becomes of it.
pub(super) fn pre_backward(
    step: &PreStep,
    written: &Type,
    batch: &DimSpec,
) -> Result<Type, String> {
    Ok(match step {
        PreStep::Tokenize(_) => Type::new(DType::String, vec![batch.clone()]),
        PreStep::DecodeImage(_) => Type::new(DType::Bytes, vec![batch.clone()]),
        PreStep::Resize(_) | PreStep::CenterCrop(_) => {
            let dims = vec![batch.clone(), free("height"), free("width"), DimSpec::Known(3)];
            Type::new(DType::U8, dims)
        }
        PreStep::Normalize(_) | PreStep::Scale(_) => written.with_dtype(DType::F32),
        PreStep::ToLayout(step) => {
            let inverse = match step.layout {
                ImageLayout::Nchw => ImageLayout::Nhwc,
                ImageLayout::Nhwc => ImageLayout::Nchw,
            };
            permuted(inverse, written).map_err(|e| format!("its result: {e}"))?
        }
        PreStep::Cast(step) => match step.from {
            Some(from) => written.with_dtype(from.0),
            None => {
                return Err(
                    "takes a value from callers: say which type they send with 'from'".to_owned()
                );
            }
        },
        PreStep::Rename(_) => written.clone(),
        PreStep::EncodeCategory(_) => written.with_dtype(DType::String),
    })
}

fn tokenized(max_length: usize, taken: &[Type], needed: &[Type]) -> Result<Vec<Type>, String> {
    if !(1..=MAX_TOKENS).contains(&max_length) {
        return Err(format!("max_length is {max_length}, expected 1 to {MAX_TOKENS}"));
    }
    for text in taken {
        text.one_of(&[DType::String])?;
        text.rank(1, "text [batch]")?;
    }
    for value in needed {
        let expected = "writes i64 or i32 [batch,sequence]";
        let integers = matches!(value.dtype, DType::I64 | DType::I32);
        match &value.dims {
            Some(dims) if integers && dims.len() == 2 => match dims[1] {
                DimSpec::Known(length) if length < max_length => {
                    return Err(format!(
                        "max_length is {max_length}, but the model takes {length} tokens a row"
                    ));
                }
                _ => {}
            },
            _ => return Err(format!("{expected}, but the model takes {}", value.describe())),
        }
    }
    Ok(needed.to_vec())
}

fn sides(size: Size) -> Result<(usize, usize), String> {
    let (height, width) = size.height_width();
    if (1..=MAX_SIDE).contains(&height) && (1..=MAX_SIDE).contains(&width) {
        return Ok((height, width));
    }
    Err(format!("size is {height}x{width}, expected 1 to {MAX_SIDE} pixels a side"))
}

fn resized(step: &Resize) -> Result<Option<(usize, usize)>, String> {
    let size = sides(step.size)?;
    match (step.mode, step.size) {
        (ResizeMode::Exact, _) => Ok(Some(size)),
        (ResizeMode::Shortest, Size::Square(_)) => Ok(None),
        (ResizeMode::Shortest, Size::HeightWidth(_)) => {
            Err("mode 'shortest' takes one number as size, the shorter side".to_owned())
        }
    }
}

fn cropped(step: &CenterCrop) -> Result<Option<(usize, usize)>, String> {
    match (step.size, step.fraction) {
        (Some(size), None) => sides(size).map(Some),
        (None, Some(fraction)) if fraction > 0.0 && fraction <= 1.0 => Ok(None),
        (None, Some(fraction)) => Err(format!("fraction is {fraction}, expected above 0 up to 1")),
        _ => Err("takes either size or fraction".to_owned()),
    }
}

fn normalized(step: &Normalize, value: &Type) -> Result<Type, String> {
    value.one_of(&[DType::U8, DType::F32])?;
    finite("mean", &step.mean)?;
    finite("std", &step.std)?;
    finite("scale", &[step.scale])?;
    if step.std.contains(&0.0) {
        return Err("std contains 0".to_owned());
    }
    for (name, values) in [("mean", &step.mean), ("std", &step.std)] {
        let channels = value.dims.as_ref().and_then(|dims| dims.last());
        let fits = match (values.len(), channels) {
            (0, _) | (_, None) => false,
            (1, _) => true,
            (count, Some(DimSpec::Known(channels))) => count == *channels,
            (_, Some(DimSpec::Symbol(_))) => false,
        };
        if !fits {
            let (count, found) = (values.len(), value.describe());
            return Err(format!(
                "{name} has {count} values, but the innermost axis must have as many: {found}"
            ));
        }
    }
    Ok(value.with_dtype(DType::F32))
}

fn permuted(to: ImageLayout, value: &Type) -> Result<Type, String> {
    value.one_of(&[DType::U8, DType::F32])?;
    let dims = value.rank(4, "images of 4 axes")?;
    let order = match to {
        ImageLayout::Nchw => [0, 3, 1, 2],
        ImageLayout::Nhwc => [0, 2, 3, 1],
    };
    Ok(Type::new(value.dtype, order.iter().map(|&axis| dims[axis].clone()).collect()))
}

fn castable(dtype: DType) -> Result<(), String> {
    let known = [DType::U8, DType::I32, DType::I64, DType::F32, DType::F64, DType::Bool];
    if known.contains(&dtype) {
        return Ok(());
    }
    Err(format!("casts between u8, i32, i64, f32, f64 and bool, found {dtype}"))
}

fn finite(name: &str, values: &[f64]) -> Result<(), String> {
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(format!("{name} contains {value}, expected finite numbers")),
        None => Ok(()),
    }
}

/// What a step after the graph writes, given what it takes; with the names of what it writes beyond
/// its output.
pub(super) fn post_forward(step: &PostStep, taken: &Type) -> Result<Type, String> {
    let innermost = |taken: &Type| match &taken.dims {
        Some(dims) if !dims.is_empty() => Ok(dims.clone()),
        _ => Err(format!("takes a value with axes, found {}", taken.describe())),
    };
    match step {
        PostStep::Softmax(_) | PostStep::L2Normalize(_) => {
            taken.one_of(&[DType::F32])?;
            innermost(taken)?;
            Ok(taken.clone())
        }
        PostStep::Sigmoid(_) => taken.one_of(&[DType::F32]).map(|()| taken.clone()),
        PostStep::Argmax(_) => {
            taken.one_of(&[DType::F32])?;
            let mut dims = innermost(taken)?;
            dims.pop();
            Ok(Type::new(DType::I64, dims))
        }
        PostStep::TopK(step) => top_k(step, taken, innermost(taken)?),
        PostStep::Labels(_) => {
            taken.one_of(&[DType::I64, DType::I32])?;
            Ok(taken.with_dtype(DType::String))
        }
        PostStep::Threshold(step) => {
            taken.one_of(&[DType::F32])?;
            finite("value", &[step.value])?;
            Ok(taken.with_dtype(DType::Bool))
        }
        PostStep::MeanPool(_) => {
            taken.one_of(&[DType::F32])?;
            let dims = taken.rank(3, "token vectors [batch,sequence,hidden]")?;
            Ok(Type::new(DType::F32, vec![dims[0].clone(), dims[2].clone()]))
        }
        PostStep::Rename(_) | PostStep::Keep(_) => Ok(taken.clone()),
    }
}

fn top_k(step: &TopK, taken: &Type, mut dims: Vec<DimSpec>) -> Result<Type, String> {
    taken.one_of(&[DType::F32])?;
    if step.k == 0 {
        return Err("k is 0, expected at least 1".to_owned());
    }
    if let Some(last) = dims.last_mut() {
        *last = match last {
            DimSpec::Known(classes) => DimSpec::Known(step.k.min(*classes)),
            DimSpec::Symbol(_) => free(""),
        };
    }
    Ok(Type::new(DType::F32, dims))
}
