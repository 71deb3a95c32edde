//! The macro behind the operator declarations: enum, typed attributes, and their untyped form.

use crate::attribute::{Attribute, AttributeError, AttributeValue, Attributes};

/// Removes and reads one attribute; `default` stands in for an absent one.
pub(crate) fn take<T: AttributeValue>(
    attributes: &mut Attributes,
    name: &'static str,
    default: Option<T>,
) -> Result<T, AttributeError> {
    match attributes.remove(name) {
        None => default.or_else(T::absent).ok_or(AttributeError::Missing(name)),
        Some(attribute) => {
            let found = match &attribute {
                Attribute::Int(value) => value.to_string(),
                Attribute::Text(text) => format!("'{text}'"),
                other => other.kind().to_owned(),
            };
            T::from_attribute(attribute).map_err(|expected| AttributeError::Value {
                name,
                expected,
                found,
            })
        }
    }
}

macro_rules! name_of {
    ($name:ident) => {
        stringify!($name)
    };
    ($name:ident $text:literal) => {
        $text
    };
}

macro_rules! default_of {
    () => {
        None
    };
    ($default:expr) => {
        Some($default)
    };
}

macro_rules! operators {
    ($($domain:literal {
        plain: { $($plain:ident $(as $plain_name:literal)?,)* }
        attributed: { $($op:ident $(as $op_name:literal)? {
            $($field:ident $(as $field_name:literal)?: $ty:ty $(= $default:expr)?,)*
        })* }
    })*) => {
        $($(
            #[doc = concat!("Attributes of `", name_of!($op $($op_name)?), "`.")]
            #[derive(Debug, Clone, PartialEq)]
            pub struct $op {
                $(
                    #[doc = concat!("Attribute `", name_of!($field $($field_name)?), "`.")]
                    pub $field: $ty,
                )*
            }

            impl $op {
                fn read(attributes: &mut Attributes) -> Result<$op, AttributeError> {
                    Ok($op { $(
                        $field: take(
                            attributes,
                            name_of!($field $($field_name)?),
                            default_of!($($default)?),
                        )?,
                    )* })
                }

                fn write(&self) -> Attributes {
                    let mut attributes = Attributes::new();
                    $({
                        let default: Option<$ty> =
                            default_of!($($default)?).or_else(<$ty as AttributeValue>::absent);
                        if default.as_ref() != Some(&self.$field)
                            && let Some(value) = self.$field.to_attribute()
                        {
                            attributes.insert(name_of!($field $($field_name)?).to_owned(), value);
                        }
                    })*
                    attributes
                }
            }
        )*)*

        /// An operator with its attributes.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Op {
            $(
                $(
                    #[doc = concat!("`", $domain, ".", name_of!($plain $($plain_name)?), "`.")]
                    $plain,
                )*
                $(
                    #[doc = concat!("`", $domain, ".", name_of!($op $($op_name)?), "`.")]
                    $op($op),
                )*
            )*
        }

        impl Op {
            /// The operator of that domain and name; every attribute given must be known to it.
            pub fn new(
                domain: &str,
                name: &str,
                mut attributes: Attributes,
            ) -> Result<Op, AttributeError> {
                let op = match (domain, name) {
                    $(
                        $(($domain, name_of!($plain $($plain_name)?)) => Op::$plain,)*
                        $(($domain, name_of!($op $($op_name)?)) => {
                            Op::$op($op::read(&mut attributes)?)
                        })*
                    )*
                    _ => {
                        return Err(AttributeError::Operator {
                            domain: domain.to_owned(),
                            name: name.to_owned(),
                        });
                    }
                };
                match attributes.into_keys().next() {
                    Some(name) => Err(AttributeError::Unknown(name)),
                    None => Ok(op),
                }
            }

            /// The operator's domain: `ai.onnx`, `ai.onnx.ml`, `com.microsoft` or `landfall`.
            pub fn domain(&self) -> &'static str {
                match self {
                    $(
                        $(Op::$plain => $domain,)*
                        $(Op::$op(_) => $domain,)*
                    )*
                }
            }

            /// The operator's name within its domain.
            pub fn name(&self) -> &'static str {
                match self {
                    $(
                        $(Op::$plain => name_of!($plain $($plain_name)?),)*
                        $(Op::$op(_) => name_of!($op $($op_name)?),)*
                    )*
                }
            }

            /// The attributes that differ from their defaults.
            pub fn attributes(&self) -> Attributes {
                match self {
                    $(
                        $(Op::$plain => Attributes::new(),)*
                        $(Op::$op(op) => op.write(),)*
                    )*
                }
            }

            /// Domain and name of every operator.
            pub const ALL: &[(&str, &str)] = &[
                $(
                    $(($domain, name_of!($plain $($plain_name)?)),)*
                    $(($domain, name_of!($op $($op_name)?)),)*
                )*
            ];

            /// Name of every attribute of an operator, with whether it holds a datatype; empty if
            /// the operator is not known or has none.
            pub fn attribute_names(domain: &str, name: &str) -> &'static [(&'static str, bool)] {
                match (domain, name) {
                    $($(
                        ($domain, name_of!($op $($op_name)?)) => &[
                            $((
                                name_of!($field $($field_name)?),
                                <$ty as AttributeValue>::IS_DTYPE,
                            ),)*
                        ],
                    )*)*
                    _ => &[],
                }
            }
        }
    };
}

pub(crate) use {default_of, name_of, operators};
