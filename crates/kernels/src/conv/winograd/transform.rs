//! The transforms of Winograd's algorithms in one and two dimensions.
//!
//! Toom-Cook with points 0, ±a (, ±b) and infinity: a filter of 3 taps over `N` inputs gives
//! `M = N - 2` outputs with `N` products. Signs ± share their even and odd halves, and every
//! constant is an exact f32, so that only the sums round.

/// Arithmetic on one value or on a vector of them, the same operations in the same order.
pub(super) trait Lanes: Copy {
    type F: Copy;
    fn splat(self, x: f32) -> Self::F;
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c` with one rounding.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
}

/// One value: the scalar twin.
#[derive(Clone, Copy)]
pub(super) struct Scalar;

impl Lanes for Scalar {
    type F = f32;

    fn splat(self, x: f32) -> f32 {
        x
    }
    fn add(self, a: f32, b: f32) -> f32 {
        a + b
    }
    fn sub(self, a: f32, b: f32) -> f32 {
        a - b
    }
    fn mul(self, a: f32, b: f32) -> f32 {
        a * b
    }
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// A vector of an instruction set.
#[derive(Clone, Copy)]
pub(super) struct Vector<S>(pub(super) S);

impl<S: crate::simd::Simd> Lanes for Vector<S> {
    type F = S::F;

    #[inline(always)]
    fn splat(self, x: f32) -> S::F {
        self.0.splat(x)
    }
    #[inline(always)]
    fn add(self, a: S::F, b: S::F) -> S::F {
        self.0.add(a, b)
    }
    #[inline(always)]
    fn sub(self, a: S::F, b: S::F) -> S::F {
        self.0.sub(a, b)
    }
    #[inline(always)]
    fn mul(self, a: S::F, b: S::F) -> S::F {
        self.0.mul(a, b)
    }
    #[inline(always)]
    fn fma(self, a: S::F, b: S::F, c: S::F) -> S::F {
        self.0.fma(a, b, c)
    }
}

/// `F(M, 3)`: `N = M + 2` inputs to `M` outputs.
pub(super) trait Variant<const N: usize, const M: usize>:
    Copy + Send + Sync + 'static
{
    /// The filter's transform `[N, 3]`, in double precision.
    const FILTER: [[f64; 3]; N];
    /// The transform of `N` neighbouring inputs.
    fn input<L: Lanes>(l: L, d: [L::F; N]) -> [L::F; N];
    /// Outputs from `N` products.
    fn output<L: Lanes>(l: L, m: [L::F; N]) -> [L::F; M];
}

/// `F(2, 3)` with points 0, ±1 and infinity.
#[derive(Clone, Copy)]
pub(super) struct F2;

impl Variant<4, 2> for F2 {
    const FILTER: [[f64; 3]; 4] =
        [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];

    #[inline(always)]
    fn input<L: Lanes>(l: L, d: [L::F; 4]) -> [L::F; 4] {
        [l.sub(d[0], d[2]), l.add(d[2], d[1]), l.sub(d[2], d[1]), l.sub(d[3], d[1])]
    }

    #[inline(always)]
    fn output<L: Lanes>(l: L, m: [L::F; 4]) -> [L::F; 2] {
        let (even, odd) = (l.add(m[1], m[2]), l.sub(m[1], m[2]));
        [l.add(m[0], even), l.add(odd, m[3])]
    }
}

/// `F(4, 3)` with points 0, ±5/8, ±3/2 and infinity.
#[derive(Clone, Copy)]
pub(super) struct F4;

const A: f32 = 0.625;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;

/// The filter's row of a point `x` whose square is not `other`, the other pair's: `[1, x, x²]` over
/// the product of its distances from all other points, `2 x² (x² - other)`.
const fn filter_row(x: f64, other: f64) -> [f64; 3] {
    let n = 2.0 * x * x * (x * x - other);
    [1.0 / n, x / n, x * x / n]
}

impl Variant<6, 4> for F4 {
    const FILTER: [[f64; 3]; 6] = {
        let (a, b) = (A as f64, B as f64);
        [
            [1.0 / (a * a * b * b), 0.0, 0.0],
            filter_row(a, b * b),
            filter_row(-a, b * b),
            filter_row(b, a * a),
            filter_row(-b, a * a),
            [0.0, 0.0, 1.0],
        ]
    };

    #[inline(always)]
    fn input<L: Lanes>(l: L, d: [L::F; 6]) -> [L::F; 6] {
        let (a, b) = (l.splat(A), l.splat(B));
        let (minus_a, minus_b) = (l.splat(-A), l.splat(-B));
        let (minus_a2, minus_b2) = (l.splat(-A2), l.splat(-B2));
        let (product, minus_sum) = (l.splat(A2 * B2), l.splat(-(A2 + B2)));
        let (even_a, odd_a) = (l.fma(minus_b2, d[2], d[4]), l.fma(minus_b2, d[1], d[3]));
        let (even_b, odd_b) = (l.fma(minus_a2, d[2], d[4]), l.fma(minus_a2, d[1], d[3]));
        [
            l.fma(product, d[0], l.fma(minus_sum, d[2], d[4])),
            l.fma(a, odd_a, even_a),
            l.fma(minus_a, odd_a, even_a),
            l.fma(b, odd_b, even_b),
            l.fma(minus_b, odd_b, even_b),
            l.fma(product, d[1], l.fma(minus_sum, d[3], d[5])),
        ]
    }

    #[inline(always)]
    fn output<L: Lanes>(l: L, m: [L::F; 6]) -> [L::F; 4] {
        let (even_a, odd_a) = (l.add(m[1], m[2]), l.sub(m[1], m[2]));
        let (even_b, odd_b) = (l.add(m[3], m[4]), l.sub(m[3], m[4]));
        [
            l.add(l.add(m[0], even_a), even_b),
            l.fma(l.splat(B), odd_b, l.mul(l.splat(A), odd_a)),
            l.fma(l.splat(B2), even_b, l.mul(l.splat(A2), even_a)),
            l.fma(l.splat(B2 * B), odd_b, l.fma(l.splat(A2 * A), odd_a, m[5])),
        ]
    }
}

/// Transforms a tile of `N` by `N` inputs: `load(row, column)`, `store(row, column, value)`.
#[inline(always)]
pub(super) fn input_tile<L: Lanes, V: Variant<N, M>, const N: usize, const M: usize>(
    l: L,
    load: impl Fn(usize, usize) -> L::F,
    mut store: impl FnMut(usize, usize, L::F),
) {
    let mut lines = [[l.splat(0.0); N]; N];
    for x in 0..N {
        let mut column = [l.splat(0.0); N];
        for (y, value) in column.iter_mut().enumerate() {
            *value = load(y, x);
        }
        for (line, value) in lines.iter_mut().zip(V::input(l, column)) {
            line[x] = value;
        }
    }
    for (y, line) in lines.into_iter().enumerate() {
        let line = V::input(l, line);
        for (x, value) in line.into_iter().enumerate() {
            store(y, x, value);
        }
    }
}

/// `M` by `M` outputs from `N` by `N` sums: `load(row, column)`, `store(row, column, value)`.
#[inline(always)]
pub(super) fn output_tile<L: Lanes, V: Variant<N, M>, const N: usize, const M: usize>(
    l: L,
    load: impl Fn(usize, usize) -> L::F,
    mut store: impl FnMut(usize, usize, L::F),
) {
    let mut lines = [[l.splat(0.0); N]; M];
    for x in 0..N {
        let mut column = [l.splat(0.0); N];
        for (y, value) in column.iter_mut().enumerate() {
            *value = load(y, x);
        }
        for (line, value) in lines.iter_mut().zip(V::output(l, column)) {
            line[x] = value;
        }
    }
    for (y, line) in lines.into_iter().enumerate() {
        let line = V::output(l, line);
        for (x, value) in line.into_iter().enumerate() {
            store(y, x, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The algorithm's identity in exact arithmetic over f32 integers small enough not to round
    /// visibly.
    fn check<V: Variant<N, M>, const N: usize, const M: usize>() {
        let d: [f32; N] = std::array::from_fn(|i| (i * i % 7) as f32 - 2.0);
        let g = [3.0, -1.0, 2.0];
        let v = V::input(Scalar, d);
        let m = std::array::from_fn(|i| {
            let u: f64 = (0..3).map(|k| V::FILTER[i][k] * g[k]).sum();
            v[i] * u as f32
        });
        for (i, y) in V::output(Scalar, m).into_iter().enumerate() {
            let expected: f64 = (0..3).map(|k| f64::from(d[i + k]) * g[k]).sum();
            assert!((f64::from(y) - expected).abs() < 1e-4, "{i}: {y} not {expected}");
        }
    }

    #[test]
    fn a_line_is_its_correlation() {
        check::<F2, 4, 2>();
        check::<F4, 6, 4>();
    }

    #[test]
    fn constants_are_exact() {
        let (a, b) = (f64::from(A), f64::from(B));
        for (rounded, exact) in [
            (A2 * B2, a * a * b * b),
            (A2 + B2, a * a + b * b),
            (A2 * A, a * a * a),
            (B2 * B, b * b * b),
        ] {
            assert_eq!(f64::from(rounded), exact);
        }
    }
}
