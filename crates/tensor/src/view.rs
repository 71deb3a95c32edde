//! Borrowed tensors: what kernels read and write.

use crate::{Buffer, DType, Element, TensorError};

/// Borrowed elements.
#[derive(Debug, Clone, Copy)]
pub enum Data<'a> {
    /// Little-endian bytes of a numeric or boolean type.
    Bytes(&'a [u8]),
    /// Text.
    Strings(&'a [String]),
    /// Byte strings.
    Blobs(&'a [Buffer]),
}

/// Borrowed elements to write.
#[derive(Debug)]
pub enum DataMut<'a> {
    /// Little-endian bytes of a numeric or boolean type.
    Bytes(&'a mut [u8]),
    /// Text.
    Strings(&'a mut [String]),
}

/// A borrowed, dense, row-major tensor.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    dtype: DType,
    shape: &'a [usize],
    data: Data<'a>,
}

impl<'a> TensorView<'a> {
    /// A view whose data must fill its shape exactly.
    pub fn new(
        dtype: DType,
        shape: &'a [usize],
        data: Data<'a>,
    ) -> Result<TensorView<'a>, TensorError> {
        check(dtype, shape, data)?;
        Ok(TensorView { dtype, shape, data })
    }

    pub(crate) fn new_unchecked(dtype: DType, shape: &'a [usize], data: Data<'a>) -> Self {
        TensorView { dtype, shape, data }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extent of every axis.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The same elements under another shape of as many elements.
    pub fn reshaped(self, shape: &'a [usize]) -> Result<TensorView<'a>, TensorError> {
        TensorView::new(self.dtype, shape, self.data)
    }

    /// An owned copy.
    pub fn to_tensor(&self) -> Result<crate::Tensor, TensorError> {
        let shape = crate::Shape::from(self.shape);
        match self.data {
            Data::Bytes(bytes) => crate::Tensor::from_bytes(self.dtype, shape, bytes),
            Data::Strings(strings) => crate::Tensor::from_strings(shape, strings.to_vec()),
            Data::Blobs(blobs) => crate::Tensor::from_blobs(shape, blobs.to_vec()),
        }
    }

    /// The elements, row-major; booleans as `u8`.
    pub fn as_slice<T: Element>(&self) -> Result<&'a [T], TensorError> {
        expect::<T>(self.dtype)?;
        match self.data {
            Data::Bytes(bytes) => {
                bytemuck::try_cast_slice(bytes).map_err(|_| TensorError::Alignment(self.dtype))
            }
            Data::Strings(_) | Data::Blobs(_) => {
                Err(TensorError::DType { expected: T::DTYPE, found: self.dtype })
            }
        }
    }

    /// The bytes; `None` for strings and byte strings.
    pub fn bytes(&self) -> Option<&'a [u8]> {
        match self.data {
            Data::Bytes(bytes) => Some(bytes),
            Data::Strings(_) | Data::Blobs(_) => None,
        }
    }

    /// The elements of a string tensor.
    pub fn strings(&self) -> Result<&'a [String], TensorError> {
        match self.data {
            Data::Strings(strings) => Ok(strings),
            Data::Bytes(_) | Data::Blobs(_) => {
                Err(TensorError::DType { expected: DType::String, found: self.dtype })
            }
        }
    }

    /// The elements of a byte-string tensor.
    pub fn blobs(&self) -> Result<&'a [Buffer], TensorError> {
        match self.data {
            Data::Blobs(blobs) => Ok(blobs),
            Data::Bytes(_) | Data::Strings(_) => {
                Err(TensorError::DType { expected: DType::Bytes, found: self.dtype })
            }
        }
    }
}

/// A borrowed, dense, row-major tensor to write.
#[derive(Debug)]
pub struct TensorMut<'a> {
    dtype: DType,
    shape: &'a [usize],
    data: DataMut<'a>,
}

impl<'a> TensorMut<'a> {
    /// A view whose data must fill its shape exactly.
    pub fn new(
        dtype: DType,
        shape: &'a [usize],
        data: DataMut<'a>,
    ) -> Result<TensorMut<'a>, TensorError> {
        let shared = match &data {
            DataMut::Bytes(bytes) => Data::Bytes(bytes),
            DataMut::Strings(strings) => Data::Strings(strings),
        };
        check(dtype, shape, shared)?;
        Ok(TensorMut { dtype, shape, data })
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extent of every axis.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The elements, row-major; booleans as `u8`.
    pub fn as_mut_slice<T: Element>(&mut self) -> Result<&mut [T], TensorError> {
        expect::<T>(self.dtype)?;
        match &mut self.data {
            DataMut::Bytes(bytes) => {
                bytemuck::try_cast_slice_mut(bytes).map_err(|_| TensorError::Alignment(self.dtype))
            }
            DataMut::Strings(_) => {
                Err(TensorError::DType { expected: T::DTYPE, found: DType::String })
            }
        }
    }

    /// The bytes; `None` for strings.
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        match &mut self.data {
            DataMut::Bytes(bytes) => Some(bytes),
            DataMut::Strings(_) => None,
        }
    }

    /// The elements of a string tensor.
    pub fn strings_mut(&mut self) -> Result<&mut [String], TensorError> {
        match &mut self.data {
            DataMut::Strings(strings) => Ok(strings),
            DataMut::Bytes(_) => {
                Err(TensorError::DType { expected: DType::String, found: self.dtype })
            }
        }
    }
}

fn expect<T: Element>(found: DType) -> Result<(), TensorError> {
    if found == T::DTYPE || (found == DType::Bool && T::DTYPE == DType::U8) {
        return Ok(());
    }
    Err(TensorError::DType { expected: T::DTYPE, found })
}

fn check(dtype: DType, dims: &[usize], data: Data<'_>) -> Result<(), TensorError> {
    let shape = crate::Shape::from(dims);
    let elements = shape.checked_elements()?;
    match data {
        Data::Strings(_) if dtype != DType::String => {
            Err(TensorError::DType { expected: dtype, found: DType::String })
        }
        Data::Blobs(_) if dtype != DType::Bytes => {
            Err(TensorError::DType { expected: dtype, found: DType::Bytes })
        }
        Data::Strings(strings) => check_length(&shape, elements, strings.len()),
        Data::Blobs(blobs) => check_length(&shape, elements, blobs.len()),
        Data::Bytes(bytes)
            if dtype.size() > 0 && Some(bytes.len()) == elements.checked_mul(dtype.size()) =>
        {
            Ok(())
        }
        Data::Bytes(bytes) => Err(TensorError::ByteLength {
            dtype,
            shape: shape.to_string(),
            expected: elements.saturating_mul(dtype.size()),
            found: bytes.len(),
        }),
    }
}

fn check_length(shape: &crate::Shape, expected: usize, found: usize) -> Result<(), TensorError> {
    if expected == found {
        return Ok(());
    }
    Err(TensorError::Length { shape: shape.to_string(), expected, found })
}
