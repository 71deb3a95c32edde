//! Untyped attributes: what the text form prints, what importers fill, what operators are read
//! from.

use std::collections::BTreeMap;
use std::sync::Arc;

use landfall_tensor::{DType, Tensor};

use crate::Graph;

/// The value of one attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// An integer; booleans are 0 and 1.
    Int(i64),
    /// A real number.
    Float(f32),
    /// Text.
    Text(String),
    /// Integers. Also stands for an empty list of anything.
    Ints(Vec<i64>),
    /// Real numbers.
    Floats(Vec<f32>),
    /// Texts; equal ones may share their memory.
    Texts(Vec<Arc<str>>),
    /// A tensor.
    Tensor(Tensor),
    /// A sub-graph.
    Graph(Box<Graph>),
}

impl Attribute {
    /// The name of the kind, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Attribute::Int(_) => "int",
            Attribute::Float(_) => "float",
            Attribute::Text(_) => "string",
            Attribute::Ints(_) => "ints",
            Attribute::Floats(_) => "floats",
            Attribute::Texts(_) => "strings",
            Attribute::Tensor(_) => "tensor",
            Attribute::Graph(_) => "graph",
        }
    }
}

/// Attributes by name.
pub type Attributes = BTreeMap<String, Attribute>;

/// Why attributes do not make an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttributeError {
    /// A required attribute is absent.
    #[error("attribute '{0}' is required")]
    Missing(&'static str),
    /// The attribute has a value of another kind, or one that is not allowed.
    #[error("attribute '{name}' must be {expected}, found {found}")]
    Value {
        /// The attribute.
        name: &'static str,
        /// What is allowed.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The operator has no such attribute.
    #[error("there is no attribute '{0}'")]
    Unknown(String),
    /// There is no such operator.
    #[error("operator {domain}.{name} is not known")]
    Operator {
        /// Operator domain.
        domain: String,
        /// Operator name.
        name: String,
    },
}

/// A Rust type that an operator's field may have.
pub trait AttributeValue: Sized {
    /// Reads the value; the error says what is expected.
    fn from_attribute(attribute: Attribute) -> Result<Self, String>;
    /// Writes the value; `None` if the attribute is to be left out.
    fn to_attribute(&self) -> Option<Attribute>;
    /// The value when the attribute is absent and the operator declares no default.
    fn absent() -> Option<Self> {
        None
    }
    /// Whether importers must translate a numeric type code into a type name.
    const IS_DTYPE: bool = false;
}

macro_rules! attribute_values {
    ($($rust:ty, $variant:ident, $expected:literal;)*) => {$(
        impl AttributeValue for $rust {
            fn from_attribute(attribute: Attribute) -> Result<Self, String> {
                match attribute {
                    Attribute::$variant(value) => Ok(value),
                    _ => Err($expected.to_owned()),
                }
            }
            fn to_attribute(&self) -> Option<Attribute> {
                Some(Attribute::$variant(self.clone()))
            }
        }
    )*};
}

attribute_values! {
    i64, Int, "an int";
    String, Text, "a string";
    Vec<i64>, Ints, "ints";
    Tensor, Tensor, "a tensor";
    Box<Graph>, Graph, "a graph";
}

impl AttributeValue for f32 {
    fn from_attribute(attribute: Attribute) -> Result<Self, String> {
        match attribute {
            Attribute::Float(value) => Ok(value),
            _ => Err("a float".to_owned()),
        }
    }
    fn to_attribute(&self) -> Option<Attribute> {
        Some(Attribute::Float(*self))
    }
}

impl AttributeValue for bool {
    fn from_attribute(attribute: Attribute) -> Result<Self, String> {
        match attribute {
            Attribute::Int(value @ 0..=1) => Ok(value == 1),
            _ => Err("0 or 1".to_owned()),
        }
    }
    fn to_attribute(&self) -> Option<Attribute> {
        Some(Attribute::Int(i64::from(*self)))
    }
}

impl AttributeValue for DType {
    fn from_attribute(attribute: Attribute) -> Result<Self, String> {
        match &attribute {
            Attribute::Text(name) => DType::from_name(name),
            _ => None,
        }
        .ok_or_else(|| "a supported datatype".to_owned())
    }
    fn to_attribute(&self) -> Option<Attribute> {
        Some(Attribute::Text(self.name().to_owned()))
    }
    const IS_DTYPE: bool = true;
}

impl AttributeValue for Vec<f32> {
    fn from_attribute(attribute: Attribute) -> Result<Self, String> {
        match attribute {
            Attribute::Floats(value) => Ok(value),
            Attribute::Ints(value) if value.is_empty() => Ok(Vec::new()),
            _ => Err("floats".to_owned()),
        }
    }
    fn to_attribute(&self) -> Option<Attribute> {
        Some(Attribute::Floats(self.clone()))
    }
}

impl AttributeValue for Vec<String> {
    fn from_attribute(attribute: Attribute) -> Result<Self, String> {
        match attribute {
            Attribute::Texts(texts) => Ok(texts.iter().map(|text| text.to_string()).collect()),
            Attribute::Ints(value) if value.is_empty() => Ok(Vec::new()),
            _ => Err("strings".to_owned()),
        }
    }
    fn to_attribute(&self) -> Option<Attribute> {
        Some(Attribute::Texts(self.iter().map(|text| text.as_str().into()).collect()))
    }
}

impl<T: AttributeValue> AttributeValue for Option<T> {
    fn from_attribute(attribute: Attribute) -> Result<Self, String> {
        T::from_attribute(attribute).map(Some)
    }
    fn to_attribute(&self) -> Option<Attribute> {
        self.as_ref().and_then(T::to_attribute)
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
    const IS_DTYPE: bool = T::IS_DTYPE;
}

/// An enumeration that is written as text in attributes.
pub(crate) trait Choice: Copy + PartialEq + 'static {
    /// Every value with its text.
    const ALL: &'static [(&'static str, Self)];
}

/// The value that a text stands for.
pub(crate) fn choice<T: Choice>(text: &str) -> Option<T> {
    T::ALL.iter().find(|(known, _)| *known == text).map(|(_, value)| *value)
}

/// Every text that stands for a value, for messages.
pub(crate) fn choices_text<T: Choice>() -> String {
    let texts: Vec<&str> = T::ALL.iter().map(|(text, _)| *text).collect();
    texts.join(", ")
}

impl<T: Choice> AttributeValue for Vec<T> {
    fn from_attribute(attribute: Attribute) -> Result<Self, String> {
        let expected = || format!("a list of {}", choices_text::<T>());
        match attribute {
            Attribute::Texts(texts) => {
                texts.iter().map(|text| choice(text).ok_or_else(expected)).collect()
            }
            Attribute::Ints(value) if value.is_empty() => Ok(Vec::new()),
            _ => Err(expected()),
        }
    }
    fn to_attribute(&self) -> Option<Attribute> {
        let texts: Vec<Arc<str>> = T::ALL.iter().map(|(text, _)| Arc::from(*text)).collect();
        let index = |value: &T| T::ALL.iter().position(|(_, known)| known == value);
        let list = self.iter().filter_map(|value| Some(texts[index(value)?].clone()));
        Some(Attribute::Texts(list.collect()))
    }
}

/// Declares an enumeration that is written as text in attributes.
macro_rules! choices {
    ($(
        $(#[$doc:meta])*
        $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }
    )*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub enum $name { $($(#[$vdoc])* #[doc = concat!("`", $text, "`.")] $variant),* }

        impl crate::attribute::Choice for $name {
            const ALL: &'static [(&'static str, $name)] = &[$(($text, $name::$variant)),*];
        }

        impl crate::attribute::AttributeValue for $name {
            fn from_attribute(attribute: crate::Attribute) -> Result<Self, String> {
                let choice = match &attribute {
                    crate::Attribute::Text(text) => crate::attribute::choice(text),
                    _ => None,
                };
                choice.ok_or_else(crate::attribute::choices_text::<$name>)
            }
            fn to_attribute(&self) -> Option<crate::Attribute> {
                let text = match self { $($name::$variant => $text),* };
                Some(crate::Attribute::Text(text.to_owned()))
            }
        }
    )*};
}
pub(crate) use choices;
