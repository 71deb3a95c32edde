//! Whole little networks, channels first in, channels last out.

use super::PASS;
use crate::passes::{dead, noop, reshape, transpose};
use crate::pipeline::Pass;
use crate::testing::{check, check_unchanged};

const ALL: &[Pass] =
    &[PASS, transpose::PASS, transpose::PASS, reshape::PASS, reshape::PASS, noop::PASS, dead::PASS];

#[test]
fn a_classifier_transposes_its_image_once() {
    check(
        ALL,
        r#"graph "g" {
          input %x: f32[N,1,4,4]
          const %w: f32[2,1,1,1] = [1.0, 2.0]
          const %s: f32[2,1,1] = [3.0, 4.0]
          %a = landfall.FusedConv(%x, %w) {pads=[0,0,0,0], strides=[1,1], dilations=[1,1]}
          %b = Mul(%a, %s)
          %c = MaxPool(%b) {kernel_shape=[2,2], strides=[2,2]}
          %d = Concat(%c, %c) {axis=1}
          %e = GlobalAveragePool(%d)
          %y = Flatten(%e)
          output %y
        }"#,
        r#"graph "g" {
          input %x: f32[N,1,4,4]
          const %s: f32[1,1,1,2] = [3.0, 4.0]
          const %w: f32[2,1,1,1] = [1.0, 2.0]
          const %axes: i64[2] = [1, 2]
          const %r: i64[4] = [0, 4, 4, 1]
          const %f: i64[2] = [0, 4]
          %t = Reshape(%x, %r)
          %a = landfall.FusedConv(%t, %w)
   {channels_last=1, pads=[0,0,0,0], strides=[1,1], dilations=[1,1]}
          %b = Mul(%a, %s)
          %c = landfall.ChannelsLastPool(%b)
      {kernel_shape=[2,2], strides=[2,2], pads=[0,0,0,0], dilations=[1,1]}
          %d = Concat(%c, %c) {axis=3}
          %e = ReduceMean(%d, %axes)
          %y: f32[N,4] = Reshape(%e, %f)
          output %y
        }"#,
    );
}

#[test]
fn residuals_and_outputs_meet_the_other_layout_at_the_edge() {
    check(
        ALL,
        r#"graph "g" {
          input %x: f32[N,2,4,4]
          const %w: f32[2,2,1,1] = [1.0, 2.0, 3.0, 4.0]
          %a = landfall.FusedConv(%x, %w) {pads=[0,0,0,0], strides=[1,1], dilations=[1,1]}
          %y = landfall.FusedConv(%a, %w, _, %x) {pads=[0,0,0,0], strides=[1,1], dilations=[1,1]}
          output %y
        }"#,
        r#"graph "g" {
          input %x: f32[N,2,4,4]
          const %w: f32[2,2,1,1] = [1.0, 2.0, 3.0, 4.0]
          %t = Transpose(%x) {perm=[0,2,3,1]}
          %a = landfall.FusedConv(%t, %w)
   {channels_last=1, pads=[0,0,0,0], strides=[1,1], dilations=[1,1]}
          %b = landfall.FusedConv(%a, %w, _, %t)
          {channels_last=1, pads=[0,0,0,0], strides=[1,1], dilations=[1,1]}
          %y: f32[N,2,4,4] = Transpose(%b) {perm=[0,3,1,2]}
          output %y
        }"#,
    );
}

#[test]
fn an_image_that_comes_channels_last_is_not_transposed() {
    check(
        ALL,
        r#"graph "g" {
          input %x: f32[N,4,4,2]
          const %w: f32[2,2,1,1] = [1.0, 2.0, 3.0, 4.0]
          const %scales: f32[4] = [1.0, 1.0, 2.0, 3.0]
          %t = Transpose(%x) {perm=[0,3,1,2]}
          %a = landfall.FusedConv(%t, %w) {pads=[0,0,0,0], strides=[1,1], dilations=[1,1]}
          %b = Resize(%a, _, %scales)
          %y: f32[N,8,12,2] = Transpose(%b) {perm=[0,2,3,1]}
          output %y
        }"#,
        r#"graph "g" {
          input %x: f32[N,4,4,2]
          const %w: f32[2,2,1,1] = [1.0, 2.0, 3.0, 4.0]
          const %scales: f32[4] = [1.0, 2.0, 3.0, 1.0]
          %a = landfall.FusedConv(%x, %w)
   {channels_last=1, pads=[0,0,0,0], strides=[1,1], dilations=[1,1]}
          %y: f32[N,8,12,2] = Resize(%a, _, %scales)
          output %y
        }"#,
    );
}

#[test]
fn channels_shuffle_along_the_last_axis() {
    check(
        ALL,
        r#"graph "g" {
          input %x: f32[2,1,4,4]
          const %w: f32[4,1,1,1] = [1.0, 2.0, 3.0, 4.0]
          const %wide: i64[5] = [2, 2, 2, 4, 4]
          const %back: i64[4] = [2, 4, 4, 4]
          const %v: f32[1,4,1,1] = [1.0, 2.0, 3.0, 4.0]
          %a = landfall.FusedConv(%x, %w) {pads=[0,0,0,0], strides=[1,1], dilations=[1,1]}
          %b = Reshape(%a, %wide)
          %c = Transpose(%b) {perm=[0,2,1,3,4]}
          %d = Reshape(%c, %back)
          %y = landfall.FusedConv(%d, %v) {pads=[0,0,0,0], strides=[1,1], dilations=[1,1]}
          output %y
        }"#,
        r#"graph "g" {
          input %x: f32[2,1,4,4]
          const %r: i64[4] = [2, 4, 4, 1]
          const %w: f32[4,1,1,1] = [1.0, 2.0, 3.0, 4.0]
          const %wide: i64[5] = [0, 0, 0, 2, 2]
          const %back: i64[4] = [0, 0, 0, 4]
          const %v: f32[1,4,1,1] = [1.0, 2.0, 3.0, 4.0]
          const %z: i64[4] = [2, 1, 4, 4]
          %t = Reshape(%x, %r)
          %a = landfall.FusedConv(%t, %w)
   {channels_last=1, pads=[0,0,0,0], strides=[1,1], dilations=[1,1]}
          %b = Reshape(%a, %wide)
          %c = Transpose(%b) {perm=[0,1,2,4,3]}
          %d = Reshape(%c, %back)
          %e = landfall.FusedConv(%d, %v)
   {channels_last=1, pads=[0,0,0,0], strides=[1,1], dilations=[1,1]}
          %y = Reshape(%e, %z)
          output %y
        }"#,
    );
}

#[test]
fn without_convolutions_nothing_moves() {
    check_unchanged(
        &[PASS],
        r#"graph "g" {
          input %x: f32[N,2,4,4]
          %y: f32[N,2,2,2] = MaxPool(%x) {kernel_shape=[2,2], strides=[2,2]}
          output %y
        }"#,
    );
}
