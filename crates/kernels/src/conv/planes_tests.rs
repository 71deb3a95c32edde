use proptest::prelude::*;

use super::*;
use crate::generic::{direct_conv, direct_transposed};
use crate::{Cpu, test_data};

fn axis() -> impl Strategy<Value = [usize; 5]> {
    (1usize..9, 1usize..4, 1usize..4, 1usize..3, 0usize..3)
        .prop_map(|(a, b, c, d, e)| [a, b, c, d, e])
}

fn close(got: &[f32], want: &[f32]) {
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= 1e-4, "at {i}: {g}, expected {w}");
    }
}

fn with_bias(out: &mut [f32], bias: &[f32], pixels: usize) {
    out.iter_mut().enumerate().for_each(|(i, x)| *x += bias[i / pixels % bias.len()]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn both_directions_agree_with_direct_loops(
        axes in [axis(), axis(), axis()],
        (batch, groups, inputs, outputs) in (1usize..3, 1usize..3, 1usize..4, 1usize..5),
        threads in 1usize..4,
    ) {
        let field = |k: usize| [axes[0][k], axes[1][k], axes[2][k]];
        let (small, kernel, stride, dilation, pad) =
            (field(0), field(1), field(2), field(3), field(4));
        // The larger side of the window: any extent that gives the smaller one.
        let mut large = [0; 3];
        for i in 0..3 {
            let reach = (kernel[i] - 1) * dilation[i] + 1;
            large[i] = ((small[i] - 1) * stride[i] + reach + stride[i] / 2)
                .saturating_sub(2 * pad[i])
                .max(1);
        }
        let pool = Pool::new(threads).unwrap();
        let (channels, out_channels) = (inputs * groups, outputs * groups);
        let bias = test_data(out_channels, 3);
        let taps = size(kernel);
        let w = test_data(channels * outputs * taps, 2);
        for cpu in Cpu::available() {
            let exec = Exec { cpu, pool: &pool };
            let window = Window3d { input: large, output: small, kernel, stride, dilation, pad };
            let conv =
                DirectConv { batch, channels, out_channels, groups, window, channels_last: false };
            let x = test_data(batch * channels * size(large), 1);
            let mut want = vec![0.0; batch * out_channels * size(small)];
            let mut got = want.clone();
            direct_conv(exec, &conv, &x, &w, &mut want);
            with_bias(&mut want, &bias, size(small));
            conv_planes(exec, &conv, [&x, &w], Some(&bias), &mut got);
            close(&got, &want);

            let window = Window3d { input: small, output: large, ..window };
            let conv = TransposedConv { batch, channels, out_channels, groups, window };
            let x = test_data(batch * channels * size(small), 4);
            let mut want = vec![0.0; batch * out_channels * size(large)];
            let mut got = want.clone();
            direct_transposed(exec, &conv, [&x, &w], &mut want);
            with_bias(&mut want, &bias, size(large));
            let mut packed = vec![0.0; w.len()];
            conv.pack_weights(&w, &mut packed);
            transposed_conv(exec, &conv, [&x, &packed], Some(&bias), &mut got);
            close(&got, &want);
        }
    }
}
