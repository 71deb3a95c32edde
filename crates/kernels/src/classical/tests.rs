//! Classical models against their definitions.
use super::*;
use crate::{Cpu, Exec, Pool};

#[test]
fn probit_inverts_the_normal_distribution() {
    // Quantiles of the standard normal distribution to 12 digits.
    let known = [(0.5, 0.0), (0.975, 1.959963984540), (0.01, -2.326347874041)];
    for (p, expected) in known {
        let mut scores = [p];
        Transform::Probit.apply(&mut scores);
        assert!((scores[0] - expected).abs() < 1e-10, "{p}: {}", scores[0]);
    }
}

#[test]
fn softmax_without_zeros() {
    let mut scores = [1.0, 0.0, 1.0];
    Transform::SoftmaxZero.apply(&mut scores);
    assert_eq!(scores, [0.5, 0.0, 0.5]);
    let mut none = [0.0, 0.0];
    Transform::SoftmaxZero.apply(&mut none);
    assert_eq!(none, [0.0, 0.0]);
}

#[test]
fn one_score_stands_for_two_classes() {
    let mut model = Linear {
        coefficients: vec![1.0, -2.0],
        intercepts: vec![0.5],
        targets: 1,
        transform: Transform::None,
        second_class: SecondClass::Complement,
    };
    let exec = Exec { cpu: Cpu::detect(), pool: Pool::inline() };
    let (mut scores, mut classes) = ([0.0f32; 4], [9i64; 2]);
    let x = [1.0f32, 0.5, 0.0, 1.0];
    score_rows(exec, &model, &x, &mut scores, Some(&mut classes));
    assert_eq!((scores, classes), ([0.5, 0.5, 2.5, -1.5], [1, 0]));
    model.transform = Transform::Logistic;
    score_rows(exec, &model, &x, &mut scores, None);
    assert!((scores[0] + scores[1] - 1.0).abs() < 1e-6 && scores[1] > 0.5);
}
