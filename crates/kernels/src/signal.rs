//! Fourier transforms of any length, in double precision.
//!
//! Lengths that are powers of two by decimation in time (Cooley and Tukey, 1965); others as a
//! convolution of such a length (Bluestein, 1970).

use std::f64::consts::PI;

/// A complex number: real and imaginary part.
pub type Complex = [f64; 2];

fn multiply(a: Complex, b: Complex) -> Complex {
    [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]]
}

/// `e^(i angle)`.
fn turn(angle: f64) -> Complex {
    [angle.cos(), angle.sin()]
}

/// `data[k] = Σ data[n] e^(∓2πi kn / N)`, minus for the forward transform; the inverse is not
/// divided by the length.
pub fn fourier(data: &mut [Complex], inverse: bool) {
    let n = data.len();
    if n < 2 {
        return;
    }
    if n.is_power_of_two() { radix_2(data, inverse) } else { bluestein(data, inverse) }
}

fn radix_2(data: &mut [Complex], inverse: bool) {
    let n = data.len();
    let shift = usize::BITS - n.trailing_zeros();
    for i in 0..n {
        let j = i.reverse_bits() >> shift;
        if i < j {
            data.swap(i, j);
        }
    }
    let sign = if inverse { 1.0 } else { -1.0 };
    let table: Vec<Complex> =
        (0..n / 2).map(|k| turn(sign * 2.0 * PI * k as f64 / n as f64)).collect();
    let mut half = 1;
    while half < n {
        for block in data.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (k, (a, b)) in low.iter_mut().zip(high).enumerate() {
                let turned = multiply(*b, table[k * (n / (2 * half))]);
                *b = [a[0] - turned[0], a[1] - turned[1]];
                *a = [a[0] + turned[0], a[1] + turned[1]];
            }
        }
        half *= 2;
    }
}

fn bluestein(data: &mut [Complex], inverse: bool) {
    let n = data.len();
    let size = (2 * n - 1).next_power_of_two();
    let sign = if inverse { 1.0 } else { -1.0 };
    // The chirp's phase k² is taken modulo 2n before it loses precision.
    let chirp = |k: usize| {
        let square = (k as u128 * k as u128 % (2 * n as u128)) as f64;
        turn(sign * PI * square / n as f64)
    };
    let conjugate = |c: Complex| [c[0], -c[1]];
    let mut signal = vec![[0.0; 2]; size];
    let mut filter = vec![[0.0; 2]; size];
    for (k, &x) in data.iter().enumerate() {
        signal[k] = multiply(x, chirp(k));
        filter[k] = conjugate(chirp(k));
        filter[(size - k) % size] = filter[k];
    }
    radix_2(&mut signal, false);
    radix_2(&mut filter, false);
    for (x, &f) in signal.iter_mut().zip(&filter) {
        *x = multiply(*x, f);
    }
    radix_2(&mut signal, true);
    for (k, out) in data.iter_mut().enumerate() {
        let y = multiply(signal[k], chirp(k));
        *out = [y[0] / size as f64, y[1] / size as f64];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_agrees_with_the_definition() {
        for n in 0..40 {
            let input: Vec<Complex> =
                (0..n).map(|k| [(k * k % 7) as f64 - 3.0, (k % 5) as f64]).collect();
            for inverse in [false, true] {
                let mut got = input.clone();
                fourier(&mut got, inverse);
                let sign = if inverse { 2.0 } else { -2.0 };
                for (k, got) in got.iter().enumerate() {
                    let want = input.iter().enumerate().fold([0.0, 0.0], |sum, (m, &x)| {
                        let t = multiply(x, turn(sign * PI * (k * m) as f64 / n as f64));
                        [sum[0] + t[0], sum[1] + t[1]]
                    });
                    let error = (got[0] - want[0]).hypot(got[1] - want[1]);
                    assert!(error < 1e-10, "length {n}, bin {k}: {got:?} is not {want:?}");
                }
            }
        }
    }
}
