//! The ONNX messages, as far as they are needed, borrowing from the file.
//!
//! Field numbers are those of `onnx.proto`. Unknown fields are skipped. The payload of a tensor is
//! not decoded here: [`Tensor::body`] is read again once its datatype is known.

use std::ops::Range;

use crate::error::Malformed;
use crate::wire::{Field, Message};

/// A field that takes in one occurrence from the wire.
trait Merge<'a> {
    fn merge(&mut self, field: &Field<'a>) -> Result<(), Malformed>;
    /// Takes in further occurrences that follow at once.
    fn merge_next(&mut self, _message: &mut Message<'a>, _number: u32) -> Result<(), Malformed> {
        Ok(())
    }
}

/// A type that may stand in a repeated field.
trait Item<'a>: Sized {
    fn append(field: &Field<'a>, items: &mut Vec<Self>) -> Result<(), Malformed>;
    /// The next occurrence, if it follows at once.
    fn next(_message: &mut Message<'a>, _number: u32) -> Result<Option<Self>, Malformed> {
        Ok(None)
    }
}

impl<'a, T: Item<'a>> Merge<'a> for Vec<T> {
    fn merge(&mut self, field: &Field<'a>) -> Result<(), Malformed> {
        let index = self.len();
        T::append(field, self).map_err(|error| error.within(format_args!("[{index}]")))
    }

    fn merge_next(&mut self, message: &mut Message<'a>, number: u32) -> Result<(), Malformed> {
        loop {
            match T::next(message, number) {
                Ok(Some(item)) => self.push(item),
                Ok(None) => return Ok(()),
                Err(error) => return Err(error.within(format_args!("[{}]", self.len()))),
            }
        }
    }
}

macro_rules! single {
    ($($ty:ty: $read:ident;)*) => {$(
        impl<'a> Merge<'a> for $ty {
            fn merge(&mut self, field: &Field<'a>) -> Result<(), Malformed> {
                *self = field.$read()?.into();
                Ok(())
            }
        }
    )*};
}

single! {
    i64: int;
    Option<i64>: int;
    f32: float;
    Option<f32>: float;
    &'a str: text;
    Option<&'a str>: text;
    Option<Range<usize>>: span;
}

impl<'a> Item<'a> for &'a str {
    fn append(field: &Field<'a>, items: &mut Vec<Self>) -> Result<(), Malformed> {
        items.push(field.text()?);
        Ok(())
    }

    fn next(message: &mut Message<'a>, number: u32) -> Result<Option<Self>, Malformed> {
        if message.accept(number, 2) { message.text(number).map(Some) } else { Ok(None) }
    }
}

impl<'a> Item<'a> for i64 {
    fn append(field: &Field<'a>, items: &mut Vec<Self>) -> Result<(), Malformed> {
        let Some(mut packed) = field.packed() else {
            items.push(field.int()?);
            return Ok(());
        };
        while !packed.is_empty() {
            items.push(packed.varint()? as i64);
        }
        Ok(())
    }

    fn next(message: &mut Message<'a>, number: u32) -> Result<Option<Self>, Malformed> {
        if message.accept(number, 0) { Ok(Some(message.varint()? as i64)) } else { Ok(None) }
    }
}

impl<'a> Item<'a> for f32 {
    fn append(field: &Field<'a>, items: &mut Vec<Self>) -> Result<(), Malformed> {
        let Some(mut packed) = field.packed() else {
            items.push(field.float()?);
            return Ok(());
        };
        while !packed.is_empty() {
            items.push(f32::from_le_bytes(packed.fixed()?));
        }
        Ok(())
    }

    fn next(message: &mut Message<'a>, number: u32) -> Result<Option<Self>, Malformed> {
        if !message.accept(number, 5) {
            return Ok(None);
        }
        Ok(Some(f32::from_le_bytes(message.fixed()?)))
    }
}

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident $(as $body:ident)? {
        $($number:literal $field:ident: $ty:ty,)*
    })*) => {$(
        $(#[$doc])*
        pub(crate) struct $name<'a> {
            $(pub(crate) $field: $ty,)*
            $(
                /// The undecoded message.
                pub(crate) $body: Message<'a>,
            )?
        }

        impl<'a> $name<'a> {
            pub(crate) fn read(mut message: Message<'a>) -> Result<Self, Malformed> {
                let mut read = $name {
                    $($field: Default::default(),)*
                    $($body: message.clone(),)?
                };
                while let Some(field) = message.next_field()? {
                    match field.number {
                        $($number => {
                            let merged = read.$field.merge(&field);
                            let merged =
                                merged.and_then(|()| read.$field.merge_next(&mut message, $number));
                            merged.map_err(|error| error.within(stringify!($field)))?;
                        })*
                        _ => (),
                    }
                }
                Ok(read)
            }
        }

        impl<'a> Item<'a> for $name<'a> {
            fn append(field: &Field<'a>, items: &mut Vec<Self>) -> Result<(), Malformed> {
                items.push($name::read(field.message()?)?);
                Ok(())
            }
        }

        impl<'a> Merge<'a> for Option<Box<$name<'a>>> {
            fn merge(&mut self, field: &Field<'a>) -> Result<(), Malformed> {
                *self = Some(Box::new($name::read(field.message()?)?));
                Ok(())
            }
        }
    )*};
}

messages! {
    /// `ModelProto`.
    Model {
        1 ir_version: i64,
        2 producer_name: &'a str,
        3 producer_version: &'a str,
        4 domain: &'a str,
        5 model_version: i64,
        6 doc_string: &'a str,
        7 graph: Option<Box<Graph<'a>>>,
        8 opset_import: Vec<OperatorSet<'a>>,
        14 metadata_props: Vec<Entry<'a>>,
        25 functions: Vec<Function<'a>>,
    }
    /// `OperatorSetIdProto`.
    OperatorSet {
        1 domain: &'a str,
        2 version: i64,
    }
    /// `StringStringEntryProto`.
    Entry {
        1 key: &'a str,
        2 value: &'a str,
    }
    /// `FunctionProto`.
    Function {
        1 name: &'a str,
        4 input: Vec<&'a str>,
        5 output: Vec<&'a str>,
        6 attribute: Vec<&'a str>,
        7 node: Vec<Node<'a>>,
        9 opset_import: Vec<OperatorSet<'a>>,
        10 domain: &'a str,
        11 attribute_proto: Vec<Attribute<'a>>,
        13 overload: &'a str,
    }
    /// `GraphProto`.
    Graph {
        1 node: Vec<Node<'a>>,
        2 name: &'a str,
        5 initializer: Vec<Tensor<'a>>,
        11 input: Vec<ValueInfo<'a>>,
        12 output: Vec<ValueInfo<'a>>,
        13 value_info: Vec<ValueInfo<'a>>,
        15 sparse_initializer: Vec<SparseTensor<'a>>,
    }
    /// `NodeProto`.
    Node as body {
        1 input: Vec<&'a str>,
        2 output: Vec<&'a str>,
        3 name: &'a str,
        4 op_type: &'a str,
        5 attribute: Vec<Attribute<'a>>,
        7 domain: &'a str,
        8 overload: &'a str,
    }
    /// `AttributeProto`.
    Attribute {
        1 name: &'a str,
        2 f: Option<f32>,
        3 i: Option<i64>,
        4 s: Option<&'a str>,
        5 t: Option<Box<Tensor<'a>>>,
        6 g: Option<Box<Graph<'a>>>,
        7 floats: Vec<f32>,
        8 ints: Vec<i64>,
        9 strings: Vec<&'a str>,
        20 kind: i64,
        21 ref_attr_name: &'a str,
        22 sparse_tensor: Option<Box<SparseTensor<'a>>>,
    }
    /// `ValueInfoProto`.
    ValueInfo {
        1 name: &'a str,
        2 r#type: Option<Box<Type<'a>>>,
    }
    /// `TypeProto`.
    Type {
        1 tensor: Option<Box<TensorType<'a>>>,
        4 sequence: Option<Range<usize>>,
        5 map: Option<Range<usize>>,
        7 opaque: Option<Range<usize>>,
        8 sparse_tensor: Option<Range<usize>>,
        9 optional: Option<Range<usize>>,
    }
    /// `TypeProto.Tensor`.
    TensorType {
        1 elem_type: i64,
        2 shape: Option<Box<TensorShape<'a>>>,
    }
    /// `TensorShapeProto`.
    TensorShape {
        1 dim: Vec<Dimension<'a>>,
    }
    /// `TensorShapeProto.Dimension`.
    Dimension {
        1 dim_value: Option<i64>,
        2 dim_param: &'a str,
    }
    /// `TensorProto`.
    Tensor as body {
        1 dims: Vec<i64>,
        2 data_type: i64,
        8 name: &'a str,
        9 raw_data: Option<Range<usize>>,
        13 external_data: Vec<Entry<'a>>,
        14 data_location: i64,
    }
    /// `SparseTensorProto`.
    SparseTensor {
        1 values: Option<Box<Tensor<'a>>>,
        2 indices: Option<Box<Tensor<'a>>>,
        3 dims: Vec<i64>,
    }
}
