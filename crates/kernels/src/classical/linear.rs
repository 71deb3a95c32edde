//! Linear regression and classification.

use super::Transform;
use super::rows::{RowModel, dot};
use crate::trees::largest;

/// How one score becomes two classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecondClass {
    /// It does not: there is a score for each class.
    #[default]
    None,
    /// The score `s` is the second class's: it wins if `s > 0`. The scores are those of a logistic
    /// transform, or `1 - s` and `s`.
    Complement,
}

/// `x Wᵀ + b`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// `[targets, features]`.
    pub coefficients: Vec<f32>,
    /// `[targets]`, or empty.
    pub intercepts: Vec<f32>,
    /// Number of scores.
    pub targets: usize,
    /// Applied to the scores of a row.
    pub transform: Transform,
    /// Whether one score stands for two classes.
    pub second_class: SecondClass,
}

impl RowModel for Linear {
    fn features(&self) -> usize {
        self.coefficients.len().checked_div(self.targets).unwrap_or(0)
    }

    fn columns(&self) -> usize {
        if self.second_class == SecondClass::Complement { 2 } else { self.targets }
    }

    fn width(&self) -> usize {
        self.columns().max(self.targets)
    }

    fn cost(&self) -> usize {
        self.coefficients.len() + 16 * self.targets
    }

    fn row(&self, x: &[f64], values: &mut [f64]) -> usize {
        for (target, row) in self.coefficients.chunks_exact(x.len().max(1)).enumerate() {
            let intercept = self.intercepts.get(target).copied().unwrap_or(0.0);
            values[target] = dot(x, row) + f64::from(intercept);
        }
        match self.second_class {
            SecondClass::None => {
                let class = largest(&values[..self.targets]);
                self.transform.apply(&mut values[..self.targets]);
                class
            }
            SecondClass::Complement => {
                let score = values[0];
                values[1] = score;
                values[0] = match self.transform {
                    Transform::Logistic => -score,
                    _ => 1.0 - score,
                };
                if matches!(self.transform, Transform::Logistic | Transform::Probit) {
                    self.transform.apply(&mut values[..2]);
                }
                usize::from(score > 0.0)
            }
        }
    }
}
