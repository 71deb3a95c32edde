//! The dense tensor.

use std::ops::Range;
use std::sync::Arc;

use crate::{Buffer, DType, Data, Element, Shape, TensorError, TensorView};

#[derive(Debug, Clone)]
enum Storage {
    Bytes(Buffer),
    Strings(Arc<[String]>),
    Blobs(Arc<[Buffer]>),
}

/// A dense, row-major, immutable array. Cloning shares the memory.
#[derive(Debug, Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    storage: Storage,
}

impl Tensor {
    /// A tensor over little-endian bytes, shared without a copy.
    pub fn from_buffer(dtype: DType, shape: Shape, bytes: Buffer) -> Result<Tensor, TensorError> {
        let expected = byte_length(dtype, &shape)?;
        if expected != bytes.len() || dtype.size() == 0 {
            return Err(TensorError::ByteLength {
                dtype,
                shape: shape.to_string(),
                expected,
                found: bytes.len(),
            });
        }
        Ok(Tensor { dtype, shape, storage: Storage::Bytes(bytes) })
    }

    /// A tensor over a copy of little-endian bytes.
    pub fn from_bytes(dtype: DType, shape: Shape, bytes: &[u8]) -> Result<Tensor, TensorError> {
        Tensor::from_buffer(dtype, shape, Buffer::copy_of(bytes))
    }

    /// A tensor over a copy of typed elements.
    pub fn from_slice<T: Element>(shape: Shape, elements: &[T]) -> Result<Tensor, TensorError> {
        let expected = shape.checked_elements()?;
        if expected != elements.len() {
            return Err(length_error(&shape, expected, elements.len()));
        }
        Tensor::from_bytes(T::DTYPE, shape, bytemuck::cast_slice(elements))
    }

    /// A boolean tensor; elements are 0 or 1.
    pub fn from_bools(shape: Shape, elements: &[bool]) -> Result<Tensor, TensorError> {
        let bytes: Vec<u8> = elements.iter().map(|&b| u8::from(b)).collect();
        Tensor::from_bytes(DType::Bool, shape, &bytes)
    }

    /// A string tensor.
    pub fn from_strings(shape: Shape, elements: Vec<String>) -> Result<Tensor, TensorError> {
        let expected = shape.checked_elements()?;
        if expected != elements.len() {
            return Err(length_error(&shape, expected, elements.len()));
        }
        Ok(Tensor { dtype: DType::String, shape, storage: Storage::Strings(elements.into()) })
    }

    /// A tensor of byte strings, each shared without a copy.
    pub fn from_blobs(shape: Shape, elements: Vec<Buffer>) -> Result<Tensor, TensorError> {
        let expected = shape.checked_elements()?;
        if expected != elements.len() {
            return Err(length_error(&shape, expected, elements.len()));
        }
        Ok(Tensor { dtype: DType::Bytes, shape, storage: Storage::Blobs(elements.into()) })
    }

    /// A scalar.
    pub fn scalar<T: Element>(value: T) -> Tensor {
        Tensor {
            dtype: T::DTYPE,
            shape: Shape::scalar(),
            storage: Storage::Bytes(Buffer::copy_of(bytemuck::bytes_of(&value))),
        }
    }

    /// A tensor whose elements `fill` sets in place; they are zero before.
    pub fn build<T: Element, E: From<TensorError>>(
        shape: Shape,
        fill: impl FnOnce(&mut [T]) -> Result<(), E>,
    ) -> Result<Tensor, E> {
        let len = byte_length(T::DTYPE, &shape)?;
        let buffer = Buffer::try_build(len, |bytes| fill(bytemuck::cast_slice_mut(bytes)))?;
        Ok(Tensor { dtype: T::DTYPE, shape, storage: Storage::Bytes(buffer) })
    }

    /// A zeroed (for strings and byte strings: empty) tensor, filled in place before it is shared.
    pub fn zeros(dtype: DType, shape: Shape) -> Result<Tensor, TensorError> {
        let storage = match dtype {
            DType::String => {
                Storage::Strings(vec![String::new(); shape.checked_elements()?].into())
            }
            DType::Bytes => {
                Storage::Blobs(vec![Buffer::copy_of(&[]); shape.checked_elements()?].into())
            }
            _ => Storage::Bytes(Buffer::build(byte_length(dtype, &shape)?, |_| ())),
        };
        Ok(Tensor { dtype, shape, storage })
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extent of every axis.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.elements()
    }

    /// Little-endian bytes; `None` for strings and byte strings.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.buffer().map(|buffer| &**buffer)
    }

    /// The shared memory behind the elements; `None` for strings and byte strings.
    pub fn buffer(&self) -> Option<&Buffer> {
        match &self.storage {
            Storage::Bytes(buffer) => Some(buffer),
            Storage::Strings(_) | Storage::Blobs(_) => None,
        }
    }

    /// The elements, row-major. Booleans are viewed as `u8`.
    ///
    /// Fails on another type, or if mapped memory is not aligned for `T` (see [`Tensor::aligned`]).
    pub fn as_slice<T: Element>(&self) -> Result<&[T], TensorError> {
        self.view().as_slice()
    }

    /// The elements of a string tensor, row-major.
    pub fn strings(&self) -> Result<&[String], TensorError> {
        self.view().strings()
    }

    /// The elements of a byte-string tensor, row-major.
    pub fn blobs(&self) -> Result<&[Buffer], TensorError> {
        self.view().blobs()
    }

    /// A borrowed view.
    pub fn view(&self) -> TensorView<'_> {
        let data = match &self.storage {
            Storage::Bytes(buffer) => Data::Bytes(buffer),
            Storage::Strings(strings) => Data::Strings(strings),
            Storage::Blobs(blobs) => Data::Blobs(blobs),
        };
        TensorView::new_unchecked(self.dtype, &self.shape, data)
    }

    /// The same elements under another shape of as many elements, sharing the memory.
    pub fn reshaped(&self, shape: Shape) -> Result<Tensor, TensorError> {
        let expected = shape.checked_elements()?;
        if expected != self.elements() {
            return Err(length_error(&shape, expected, self.elements()));
        }
        Ok(Tensor { dtype: self.dtype, shape, storage: self.storage.clone() })
    }

    /// Some of the leading axis, sharing the memory; `None` for strings and byte strings, a scalar,
    /// or beyond the end.
    pub fn rows(&self, rows: Range<usize>) -> Option<Tensor> {
        let (&all, rest) = self.shape.split_first()?;
        let each = self.bytes()?.len().checked_div(all)?;
        let buffer = self.buffer()?.slice(rows.start * each..rows.end * each)?;
        let shape = std::iter::once(rows.len()).chain(rest.iter().copied()).collect();
        Some(Tensor { dtype: self.dtype, shape, storage: Storage::Bytes(buffer) })
    }

    /// This tensor, in memory aligned for its element type: itself if it already is, a copy if not.
    pub fn aligned(&self) -> Tensor {
        match &self.storage {
            Storage::Bytes(b) if !(b.as_ptr() as usize).is_multiple_of(self.dtype.size()) => {
                Tensor { storage: Storage::Bytes(Buffer::copy_of(b)), ..self.clone() }
            }
            _ => self.clone(),
        }
    }

    /// Says that the elements will hardly be read again; see [`Buffer::release`].
    pub fn release(&self) {
        if let Some(buffer) = self.buffer() {
            buffer.release();
        }
    }

    /// The single element of a one-element tensor, whatever its rank.
    pub fn item<T: Element>(&self) -> Result<T, TensorError> {
        match self.as_slice::<T>()? {
            [value] => Ok(*value),
            other => Err(length_error(&self.shape, 1, other.len())),
        }
    }
}

/// Equal type, shape and bytes. A NaN equals a NaN of the same bits.
impl PartialEq for Tensor {
    fn eq(&self, other: &Tensor) -> bool {
        self.dtype == other.dtype
            && self.shape == other.shape
            && match (&self.storage, &other.storage) {
                (Storage::Bytes(a), Storage::Bytes(b)) => **a == **b,
                (Storage::Strings(a), Storage::Strings(b)) => a == b,
                (Storage::Blobs(a), Storage::Blobs(b)) => {
                    a.iter().map(|x| &**x).eq(b.iter().map(|x| &**x))
                }
                _ => false,
            }
    }
}

fn byte_length(dtype: DType, shape: &Shape) -> Result<usize, TensorError> {
    shape
        .checked_elements()?
        .checked_mul(dtype.size())
        .filter(|&n| isize::try_from(n).is_ok())
        .ok_or_else(|| TensorError::TooLarge(shape.to_string()))
}

fn length_error(shape: &Shape, expected: usize, found: usize) -> TensorError {
    TensorError::Length { shape: shape.to_string(), expected, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_share_memory_and_stay_inside() {
        let tensor = Tensor::build(Shape::from([3, 2]), |out: &mut [i32]| {
            out.copy_from_slice(&[1, 2, 3, 4, 5, 6]);
            Ok::<_, TensorError>(())
        })
        .unwrap();
        let rows = tensor.rows(1..3).unwrap();
        assert_eq!(
            (rows.shape().to_vec(), rows.as_slice::<i32>().unwrap()),
            (vec![2, 2], &[3, 4, 5, 6][..])
        );
        rows.release();
        assert_eq!(tensor.rows(0..0).unwrap().elements(), 0);
        assert!(tensor.rows(2..4).is_none());
        assert!(Tensor::scalar(1i32).rows(0..1).is_none());
    }

    #[test]
    fn bytes_must_fill_the_shape() {
        let err = Tensor::from_bytes(DType::F32, Shape::from([2]), &[0; 7]).unwrap_err();
        assert_eq!(err.to_string(), "shape [2] of f32 needs 8 bytes, got 7");
    }

    #[test]
    fn unaligned_memory_is_refused_then_copied() {
        let buffer = Buffer::copy_of(&[9, 0, 0, 128, 63, 0, 0]).slice(1..5).unwrap();
        let tensor = Tensor::from_buffer(DType::F32, Shape::scalar(), buffer).unwrap();
        assert!(tensor.as_slice::<f32>().is_err());
        assert_eq!(tensor.aligned().item::<f32>().unwrap(), 1.0);
    }

    #[test]
    fn byte_strings_hold_what_text_cannot() {
        let jpeg = Buffer::copy_of(&[0xff, 0xd8, 0xff, 0xe0]);
        let tensor = Tensor::from_blobs(Shape::from([1]), vec![jpeg.clone()]).unwrap();
        assert_eq!(tensor.dtype(), DType::Bytes);
        assert_eq!(&*tensor.blobs().unwrap()[0], &*jpeg);
        assert!(tensor.bytes().is_none() && tensor.strings().is_err());
        assert!(tensor.as_slice::<u8>().is_err());
        assert_eq!(tensor, Tensor::from_blobs(Shape::from([1]), vec![jpeg]).unwrap());
        assert!(Tensor::from_bytes(DType::Bytes, Shape::from([0]), &[]).is_err());
    }

    #[test]
    fn views_check_the_type() {
        let tensor = Tensor::from_slice(Shape::from([2]), &[1i64, 2]).unwrap();
        assert!(tensor.as_slice::<f32>().is_err());
        assert_eq!(tensor.as_slice::<i64>().unwrap(), &[1, 2]);
        let bools = Tensor::from_bools(Shape::from([2]), &[true, false]).unwrap();
        assert_eq!(bools.as_slice::<u8>().unwrap(), &[1, 0]);
    }
}
