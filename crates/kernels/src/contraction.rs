//! Sums of products over any axes of any number of operands, and determinants.

use landfall_tensor::{Element, bf16, f16};

use crate::Exec;
use crate::parallel::over_chunks;

/// An element that can be a factor. Floats are multiplied and summed in `f64`; integers wrap.
pub trait Factor: Element {
    /// The type of products and sums.
    type Sum: Copy;
    /// The empty product.
    const ONE: Self::Sum;
    /// The empty sum.
    const ZERO: Self::Sum;
    /// `product x`.
    fn times(product: Self::Sum, x: Self) -> Self::Sum;
    /// `a + b`.
    fn plus(a: Self::Sum, b: Self::Sum) -> Self::Sum;
    /// The sum as an element.
    fn finish(sum: Self::Sum) -> Self;
}

macro_rules! factors {
    (real [$($real:ty, $from:expr;)*] integer [$($integer:ty)*]) => {
        $(impl Factor for $real {
            type Sum = f64;
            const ONE: f64 = 1.0;
            const ZERO: f64 = 0.0;
            #[inline(always)]
            fn times(product: f64, x: $real) -> f64 { product * f64::from(x) }
            #[inline(always)]
            fn plus(a: f64, b: f64) -> f64 { a + b }
            #[inline(always)]
            fn finish(sum: f64) -> $real { ($from)(sum) }
        })*
        $(impl Factor for $integer {
            type Sum = i64;
            const ONE: i64 = 1;
            const ZERO: i64 = 0;
            #[inline(always)]
            fn times(product: i64, x: $integer) -> i64 { product.wrapping_mul(x as i64) }
            #[inline(always)]
            fn plus(a: i64, b: i64) -> i64 { a.wrapping_add(b) }
            #[inline(always)]
            fn finish(sum: i64) -> $integer { sum as $integer }
        })*
    };
}

factors! {
    real [f32, |x: f64| x as f32; f64, |x: f64| x; f16, f16::from_f64; bf16, bf16::from_f64;]
    integer [i8 u8 i16 u16 i32 u32 i64 u64]
}

/// Which elements are multiplied, and over which axes products are summed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contraction {
    /// Extents of the result's axes, then of the axes summed over.
    pub extents: Vec<usize>,
    /// How many of them are the result's.
    pub kept: usize,
    /// For every operand, its stride along every axis.
    pub strides: Vec<Vec<usize>>,
}

/// Moves to the next position; false after the last.
fn advance(at: &mut [usize], extents: &[usize]) -> bool {
    for (at, &extent) in at.iter_mut().zip(extents).rev() {
        *at += 1;
        if *at < extent {
            return true;
        }
        *at = 0;
    }
    false
}

/// `out = Σ Π operands`.
///
/// # Panics
/// If a slice is shorter than the extents and strides demand.
pub fn contract<T: Factor>(exec: Exec<'_>, c: &Contraction, operands: &[&[T]], out: &mut [T]) {
    let (kept, summed) = c.extents.split_at(c.kept);
    let terms: usize = summed.iter().product();
    assert_eq!(out.len(), kept.iter().product::<usize>(), "output length");
    let cost = terms.saturating_mul(operands.len() + 2);
    over_chunks(exec, out, 1, cost, &|first, chunk| {
        let mut at = vec![0usize; kept.len()];
        let mut inner = vec![0usize; summed.len()];
        let mut rest = first;
        for (at, &extent) in at.iter_mut().zip(kept).rev() {
            *at = rest % extent;
            rest /= extent;
        }
        for out in chunk {
            let mut sum = T::ZERO;
            if terms > 0 {
                loop {
                    let mut product = T::ONE;
                    for (operand, strides) in operands.iter().zip(&c.strides) {
                        let axes = at.iter().chain(&inner).zip(strides);
                        let index: usize = axes.map(|(at, stride)| at * stride).sum();
                        product = T::times(product, operand[index]);
                    }
                    sum = T::plus(sum, product);
                    if !advance(&mut inner, summed) {
                        break;
                    }
                }
            }
            *out = T::finish(sum);
            advance(&mut at, kept);
        }
    });
}

/// The determinant of a matrix `[n, n]`, which is destroyed, by elimination with partial pivoting.
///
/// # Panics
/// If the slice is not `[n, n]`.
pub fn determinant(matrix: &mut [f64], n: usize) -> f64 {
    assert_eq!(matrix.len(), n * n, "matrix length");
    let mut product = 1.0;
    for k in 0..n {
        let size = |i: &usize| matrix[i * n + k].abs();
        let pivot = (k..n).max_by(|a, b| size(a).total_cmp(&size(b))).unwrap_or(k);
        let value = matrix[pivot * n + k];
        if value == 0.0 {
            return 0.0;
        }
        if pivot != k {
            product = -product;
            (0..n).for_each(|j| matrix.swap(k * n + j, pivot * n + j));
        }
        product *= value;
        for i in k + 1..n {
            let factor = matrix[i * n + k] / value;
            for j in k..n {
                matrix[i * n + j] -= factor * matrix[k * n + j];
            }
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cpu, Pool};

    #[test]
    fn three_operands_and_a_diagonal() {
        let exec = Exec { cpu: Cpu::detect(), pool: Pool::inline() };
        let c = Contraction {
            extents: vec![2, 3],
            kept: 1,
            strides: vec![vec![3, 1], vec![0, 1], vec![1, 0]],
        };
        let (a, b, d) = ([1i32, 2, 3, 4, 5, 6], [1, 10, 100], [1, -1]);
        let mut out = [0; 2];
        contract(exec, &c, &[&a, &b, &d], &mut out);
        assert_eq!(out, [321, -654]);
        let diagonal = Contraction { extents: vec![2], kept: 0, strides: vec![vec![3]] };
        let mut trace = [0];
        contract(exec, &diagonal, &[&a[..4]], &mut trace);
        assert_eq!(trace, [5]);
    }

    #[test]
    fn determinants_of_permuted_and_singular_matrices() {
        assert_eq!(determinant(&mut [0.0, 2.0, 3.0, 4.0], 2), -6.0);
        assert_eq!(determinant(&mut [1.0, 2.0, 2.0, 4.0], 2), 0.0);
        assert_eq!(determinant(&mut [], 0), 1.0);
        assert!(determinant(&mut [f64::NAN], 1).is_nan());
    }
}
