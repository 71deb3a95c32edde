//! The precision that a model's arithmetic is asked to have.

use std::fmt;
use std::str::FromStr;

/// The precision of the operands of matrix products and convolutions between f32 tensors. Sums and
/// everything else are f32; operators on other types keep their own arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Precision {
    /// As the model says.
    #[default]
    F32,
    /// Rounded to bf16: 8 significant bits, the range of f32.
    Bf16,
}

impl Precision {
    /// All of them.
    pub const ALL: [Precision; 2] = [Precision::F32, Precision::Bf16];

    /// The name that users give.
    pub const fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Precision, String> {
        let found = Precision::ALL.into_iter().find(|precision| precision.name() == name);
        found.ok_or_else(|| match name {
            "auto" => "there is no precision 'auto' yet; choose f32 or bf16".to_owned(),
            "int8" => "a model in int8 is made by quantising it; choose f32 or bf16".to_owned(),
            _ => format!("expected f32 or bf16, found '{name}'"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for precision in Precision::ALL {
            assert_eq!(precision.name().parse(), Ok(precision));
        }
        for name in ["auto", "int8", "FP32", ""] {
            assert!(name.parse::<Precision>().unwrap_err().contains("f32 or bf16"), "{name}");
        }
    }
}
