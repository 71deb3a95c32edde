//! `TensorProto` to [`Tensor`], sharing the file's memory where the encoding allows it.

use std::ops::Range;

use landfall_tensor::{Buffer, DType, MAX_RANK, Shape, Tensor, TensorError};

use crate::dtype;
use crate::error::{Malformed, NodeError};
use crate::external::External;
use crate::proto;
use crate::wire::{Field, Message};

/// Bytes that all sparse tensors of one model may grow to when made dense.
const MAX_DENSE_BYTES: usize = 256 << 20;

/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i64 = 1;

/// Reads the tensors of one model.
pub(crate) struct TensorReader {
    file: Buffer,
    external: External,
    dense_bytes_left: usize,
}

impl TensorReader {
    pub(crate) fn new(file: Buffer, external: External) -> TensorReader {
        TensorReader { file, external, dense_bytes_left: MAX_DENSE_BYTES }
    }

    /// The tensor of a message.
    pub(crate) fn read(&mut self, proto: &proto::Tensor<'_>) -> Result<Tensor, NodeError> {
        self.read_here(proto).map_err(|error| match error {
            NodeError::Fatal(e) => e.within(format_args!("tensor '{}'", proto.name)).into(),
            NodeError::Unsupported(reason) => {
                NodeError::Unsupported(format!("tensor '{}': {reason}", proto.name))
            }
        })
    }

    fn read_here(&mut self, proto: &proto::Tensor<'_>) -> Result<Tensor, NodeError> {
        let shape = shape_of(&proto.dims)?;
        let dtype = dtype::from_code(proto.data_type)?;
        if proto.data_location == EXTERNAL {
            let length = shape.checked_elements().map_err(malformed)?.saturating_mul(dtype.size());
            let bytes = self.external.bytes(&proto.external_data, length);
            return self.dense(dtype, shape, bytes.map_err(Malformed::new)?);
        }
        match &proto.raw_data {
            Some(range) => {
                let bytes = self.slice(range.clone())?;
                self.dense(dtype, shape, bytes)
            }
            None => self.typed(proto, dtype, shape),
        }
    }

    fn dense(&self, dtype: DType, shape: Shape, bytes: Buffer) -> Result<Tensor, NodeError> {
        if dtype == DType::Bool
            && let Some(byte) = bytes.iter().find(|&&byte| byte > 1)
        {
            return Err(Malformed::new(format!("a boolean is stored as {byte}")).into());
        }
        Ok(Tensor::from_buffer(dtype, shape, bytes).map_err(malformed)?)
    }

    fn slice(&self, range: Range<usize>) -> Result<Buffer, Malformed> {
        self.file.slice(range).ok_or_else(|| Malformed::new("a range lies outside the file"))
    }

    /// A tensor whose elements stand in the field of its datatype's group.
    fn typed(
        &self,
        proto: &proto::Tensor<'_>,
        dtype: DType,
        shape: Shape,
    ) -> Result<Tensor, NodeError> {
        let body = &proto.body;
        let bytes = match dtype {
            DType::String => {
                let strings = fields(body, 6, |field| Ok(field.text()?.to_owned()))?;
                return Ok(Tensor::from_strings(shape, strings).map_err(malformed)?);
            }
            DType::F32 | DType::F64 => {
                let number = if dtype == DType::F32 { 4 } else { 10 };
                if let Some(range) = single_packed(body, number)? {
                    return self.dense(dtype, shape, self.slice(range)?);
                }
                floats(body, number, dtype)?
            }
            DType::I64 => integers(body, 7, dtype)?,
            DType::U64 | DType::U32 => integers(body, 11, dtype)?,
            _ => integers(body, 5, dtype)?,
        };
        self.dense(dtype, shape, Buffer::copy_of(&bytes))
    }

    /// The dense form of a sparse tensor: `values [nnz]` at `indices [nnz]` (positions in the
    /// flattened tensor) or `[nnz, rank]`.
    pub(crate) fn read_sparse(
        &mut self,
        proto: &proto::SparseTensor<'_>,
    ) -> Result<Tensor, NodeError> {
        let (Some(values), Some(indices)) = (&proto.values, &proto.indices) else {
            return Err(Malformed::new("a sparse tensor needs values and indices").into());
        };
        let (values, indices) = (self.read(values)?, self.read(indices)?.aligned());
        let shape = shape_of(&proto.dims)?;
        let size = values.dtype().size();
        let Some(source) = values.bytes() else {
            return Err("sparse strings are not supported".to_owned().into());
        };
        let length = shape.checked_elements().map_err(malformed)?.saturating_mul(size);
        let Some(left) = self.dense_bytes_left.checked_sub(length) else {
            return Err(format!("sparse tensors exceed {MAX_DENSE_BYTES} bytes when dense").into());
        };
        self.dense_bytes_left = left;
        let positions = positions(&indices, values.elements(), &shape)?;
        let bytes = Buffer::build(length, |out| {
            for (i, position) in positions.into_iter().enumerate() {
                let element = &source[i * size..(i + 1) * size];
                out[position * size..(position + 1) * size].copy_from_slice(element);
            }
        });
        self.dense(values.dtype(), shape, bytes)
    }
}

/// A shape from declared extents, none negative, at most [`MAX_RANK`] of them.
pub(crate) fn shape_of(dims: &[i64]) -> Result<Shape, Malformed> {
    if dims.len() > MAX_RANK {
        return Err(Malformed::new(format!("{} axes exceed {MAX_RANK}", dims.len())));
    }
    let extent = |&dim: &i64| {
        usize::try_from(dim).map_err(|_| Malformed::new(format!("extent {dim} is negative")))
    };
    let shape: Shape = dims.iter().map(extent).collect::<Result<_, _>>()?;
    shape.checked_elements().map_err(malformed)?;
    Ok(shape)
}

fn malformed(error: TensorError) -> Malformed {
    Malformed::new(error.to_string())
}

/// Positions of sparse elements in the flattened dense tensor.
fn positions(indices: &Tensor, count: usize, shape: &Shape) -> Result<Vec<usize>, NodeError> {
    let coordinates = indices.as_slice::<i64>().map_err(malformed)?;
    let flat = indices.shape().rank() == 1;
    let width = if flat { 1 } else { shape.rank() };
    let strides = shape.strides();
    if coordinates.len() != count * width {
        return Err(Malformed::new("sparse indices do not match the values").into());
    }
    let elements = shape.elements();
    let position = |i: usize| {
        let row = &coordinates[i * width..(i + 1) * width];
        let inside = |axis: usize, limit: usize| {
            usize::try_from(row[axis]).ok().filter(|&index| index < limit)
        };
        if flat {
            return inside(0, elements);
        }
        (0..width).try_fold(0, |at, axis| Some(at + inside(axis, shape[axis])? * strides[axis]))
    };
    (0..count)
        .map(|i| position(i).ok_or_else(|| Malformed::new("a sparse index is out of range").into()))
        .collect()
}

/// Every occurrence of a field, packed or not.
fn fields<'a, T>(
    body: &Message<'a>,
    number: u32,
    read: impl Fn(&Field<'a>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let mut message = body.clone();
    let mut items = Vec::new();
    while let Some(field) = message.next_field()? {
        if field.number == number {
            items.push(read(&field)?);
        }
    }
    Ok(items)
}

/// Little-endian bytes of elements that are stored as floats.
fn floats(body: &Message<'_>, number: u32, dtype: DType) -> Result<Vec<u8>, Malformed> {
    let mut bytes = Vec::new();
    let mut message = body.clone();
    while let Some(field) = message.next_field()? {
        match field.packed() {
            _ if field.number != number => (),
            Some(packed) => bytes.extend_from_slice(packed.bytes()),
            None if dtype == DType::F32 => bytes.extend(field.float()?.to_le_bytes()),
            None => bytes.extend(field.double()?.to_le_bytes()),
        }
    }
    Ok(bytes)
}

/// The payload of a packed field that occurs once.
fn single_packed(body: &Message<'_>, number: u32) -> Result<Option<Range<usize>>, Malformed> {
    let mut payloads = fields(body, number, |field| Ok(field.packed().map(|m| m.range())))?;
    match payloads.len() {
        1 => Ok(payloads.remove(0)),
        _ => Ok(None),
    }
}

/// Little-endian bytes of elements that are stored as varints.
fn integers(body: &Message<'_>, number: u32, dtype: DType) -> Result<Vec<u8>, Malformed> {
    let mut bytes = Vec::new();
    let mut message = body.clone();
    while let Some(field) = message.next_field()? {
        if field.number != number {
            continue;
        }
        match field.packed() {
            None => push_integer(&mut bytes, field.int()?, dtype)?,
            Some(mut packed) => {
                while !packed.is_empty() {
                    push_integer(&mut bytes, packed.varint()? as i64, dtype)?;
                }
            }
        }
    }
    Ok(bytes)
}

fn push_integer(bytes: &mut Vec<u8>, value: i64, dtype: DType) -> Result<(), Malformed> {
    let range = match dtype {
        DType::I8 => i64::from(i8::MIN)..=i64::from(i8::MAX),
        DType::U8 => 0..=i64::from(u8::MAX),
        DType::Bool => 0..=1,
        DType::I16 => i64::from(i16::MIN)..=i64::from(i16::MAX),
        DType::U16 | DType::F16 | DType::BF16 => 0..=i64::from(u16::MAX),
        DType::I32 => i64::from(i32::MIN)..=i64::from(i32::MAX),
        DType::U32 => 0..=i64::from(u32::MAX),
        _ => i64::MIN..=i64::MAX,
    };
    if !range.contains(&value) {
        return Err(Malformed::new(format!("element {value} does not fit {dtype}")));
    }
    bytes.extend_from_slice(&value.to_le_bytes()[..dtype.size()]);
    Ok(())
}
