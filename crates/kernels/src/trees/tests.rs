//! Tree ensembles against a walk of every tree.
use proptest::prelude::*;

use super::*;
use crate::classical::Transform;
use crate::{Cpu, Exec, Pool, test_data};

/// The answer of one row by following the description.
fn follow(spec: &ForestSpec, aggregate: Aggregate, x: &[f64]) -> Vec<f64> {
    let mut sums = vec![aggregate.start(); spec.targets];
    for &root in &spec.roots {
        let mut at = root;
        let leaf = loop {
            match at {
                Child::Leaf(leaf) => break leaf,
                Child::Branch(index) => {
                    let branch = &spec.branches[index];
                    let x = x[branch.feature];
                    let yes = match &branch.test {
                        Test::AtMost(split) => x <= *split,
                        Test::Below(split) => x < *split,
                        Test::AtLeast(split) => x >= *split,
                        Test::Above(split) => x > *split,
                        Test::Equal(split) => x == *split,
                        Test::NotEqual(split) => x != *split,
                        Test::Member(values) => values.contains(&x),
                    };
                    let yes = yes || (x.is_nan() && branch.missing_is_true);
                    at = if yes { branch.on_true } else { branch.on_false };
                }
            }
        };
        for &(target, weight) in &spec.weights[spec.leaves[leaf].clone()] {
            aggregate.add(&mut sums[target], weight);
        }
    }
    sums
}

/// Grows a random tree; inputs and splits come from a few small numbers, so that they often meet.
fn grow(spec: &mut ForestSpec, random: &mut impl FnMut(usize) -> usize, depth: usize) -> Child {
    const SPLITS: [f64; 6] = [-1.0, 0.0, 0.5, 2.0, f64::INFINITY, f64::NAN];
    if depth == 0 || random(5) == 0 {
        let start = spec.weights.len();
        for _ in 0..random(3) {
            spec.weights.push((random(spec.targets), random(9) as f64 / 4.0 - 1.0));
        }
        spec.leaves.push(start..spec.weights.len());
        return Child::Leaf(spec.leaves.len() - 1);
    }
    let split = SPLITS[random(6)];
    let test = match random(7) {
        0 => Test::AtMost(split),
        1 => Test::Below(split),
        2 => Test::AtLeast(split),
        3 => Test::Above(split),
        4 => Test::Equal(split),
        5 => Test::NotEqual(split),
        _ => Test::Member(vec![split, 0.5]),
    };
    let (feature, missing_is_true) = (random(3), random(2) == 0);
    let on_true = grow(spec, random, depth - 1);
    let on_false = grow(spec, random, depth - 1);
    spec.branches.push(Branch { feature, test, missing_is_true, on_true, on_false });
    Child::Branch(spec.branches.len() - 1)
}

fn forest(seed: u64, trees: usize, targets: usize, double: bool) -> ForestSpec {
    let mut state = seed | 1;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    let mut spec = ForestSpec { targets, double, ..ForestSpec::default() };
    for _ in 0..trees {
        let depth = random(12);
        let root = grow(&mut spec, &mut random, depth);
        spec.roots.push(root);
    }
    spec
}

fn scores(forest: &Forest, pool: &Pool, finish: &Finish, x: &[f32], row_len: usize) -> Vec<f64> {
    let exec = Exec { cpu: Cpu::detect(), pool };
    let mut scores = vec![f64::NAN; x.len() / row_len * finish.columns(forest.targets())];
    forest.evaluate(exec, finish, (x, row_len), &mut scores, None);
    scores
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn agrees_with_following_the_description(
        seed: u64, trees in 0usize..150, targets in 1usize..4, double: bool, rows in 1usize..20,
        aggregate in prop::sample::select(vec![Aggregate::Sum, Aggregate::Min, Aggregate::Max]),
    ) {
        let spec = forest(seed, trees, targets, double);
        let forest = Forest::build(&spec).unwrap();
        let values = [-1.0, -0.0, 0.0, 0.5, 0.75, 2.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        let pick = |x: &f32| values[((x + 1.0) * 4.5) as usize % 9];
        let x: Vec<f32> = test_data(rows * 3, seed).iter().map(pick).collect();
        let finish = Finish { aggregate, ..Finish::default() };
        let expected: Vec<f64> = x
            .chunks_exact(3)
            .flat_map(|row| follow(&spec, aggregate, &[0, 1, 2].map(|i| f64::from(row[i]))))
            .map(|sum| if sum.is_nan() { 0.0 } else { sum })
            .collect();
        prop_assert_eq!(scores(&forest, Pool::inline(), &finish, &x, 3), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn damaged_memory_never_leads_astray(
        seed: u64, double: bool, targets in 1usize..3,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let forest = Forest::build(&forest(seed, 9, targets, double)).unwrap();
        let mut bytes = forest.bytes().to_vec();
        for (index, value) in &edits {
            let at = index.index(bytes.len());
            bytes[at] = *value;
        }
        let Ok(opened) = Forest::open(Buffer::copy_of(&bytes)) else { return Ok(()) };
        if opened.targets() == targets && opened.features() <= 3 {
            let x = test_data(10 * 3, seed);
            let found = scores(&opened, Pool::inline(), &Finish::default(), &x, 3);
            if edits.is_empty() {
                let expected = scores(&forest, Pool::inline(), &Finish::default(), &x, 3);
                prop_assert_eq!(found, expected);
            }
        }
    }
}

#[test]
fn memory_that_is_cut_off_is_refused() {
    let forest = Forest::build(&forest(3, 5, 2, false)).unwrap();
    let bytes = forest.bytes();
    for len in [0, 1, 127, 128, bytes.len() - 1] {
        let error = Forest::open(bytes.slice(0..len).unwrap()).err();
        assert_eq!(error, Some(ForestError::Damaged("it is cut off")), "{len}");
    }
    let moved = [&[0], &bytes[..]].concat();
    let moved = Buffer::copy_of(&moved).slice(1..moved.len()).unwrap();
    assert!(Forest::open(moved).is_ok(), "memory may lie anywhere");
}

#[test]
fn threads_do_not_change_sums() {
    let mut spec = forest(7, 3000, 2, false);
    for (index, (_, weight)) in spec.weights.iter_mut().enumerate() {
        *weight = f64::from((index as f32 * 0.37).sin());
    }
    let forest = Forest::build(&spec).unwrap();
    let pools = [Pool::new(2).unwrap(), Pool::new(3).unwrap()];
    let finish = Finish::default();
    for rows in [1, 7, 8, 50, 300] {
        let x = test_data(rows * 3, rows as u64);
        let alone = scores(&forest, Pool::inline(), &finish, &x, 3);
        for pool in &pools {
            assert_eq!(scores(&forest, pool, &finish, &x, 3), alone, "{rows} rows");
        }
        assert_eq!(scores(&forest, Pool::inline(), &finish, &x[..3], 3), alone[..2]);
    }
}

#[test]
fn a_chain_too_long_for_narrow_nodes() {
    // Every feature is tested once: more columns than 16 bits address.
    let features = 9000;
    let leaf = |weight: f64| vec![(0, weight)];
    let mut spec = ForestSpec { targets: 1, ..ForestSpec::default() };
    for feature in 0..features {
        spec.weights.extend(leaf(feature as f64));
        spec.leaves.push(feature..feature + 1);
        let last = feature + 1 == features;
        let next = if last { Child::Leaf(feature) } else { Child::Branch(feature + 1) };
        let (test, on_true) = (Test::Above(0.0), Child::Leaf(feature));
        let branch = Branch { feature, test, missing_is_true: false, on_true, on_false: next };
        spec.branches.push(branch);
    }
    spec.roots.push(Child::Branch(0));
    let forest = Forest::build(&spec).unwrap();
    assert_eq!(forest.layout(), "trees_f32_wide");
    let mut x = vec![0.0; features];
    x[8765] = 1.0;
    assert_eq!(scores(&forest, Pool::inline(), &Finish::default(), &x, features), [8765.0]);
}

#[test]
fn graphs_that_are_not_trees_are_refused() {
    let branch = |on_true, on_false| Branch {
        feature: 0,
        test: Test::AtMost(0.0),
        missing_is_true: false,
        on_true,
        on_false,
    };
    let build = |branches| {
        let spec = ForestSpec {
            branches,
            leaves: std::iter::once(0..1).collect(),
            weights: vec![(0, 1.0)],
            roots: vec![Child::Branch(0)],
            targets: 1,
            double: false,
        };
        Forest::build(&spec).map(|forest| forest.trees())
    };
    let leaf = Child::Leaf(0);
    assert_eq!(build(vec![branch(leaf, leaf)]), Ok(1));
    assert_eq!(build(vec![branch(Child::Branch(0), leaf)]), Err(ForestError::Shared(0)));
    let missing = ForestError::Dangling { what: "branch", index: 4, count: 1 };
    assert_eq!(build(vec![branch(Child::Branch(4), leaf)]), Err(missing));
}

#[test]
fn one_target_decides_between_two_classes() {
    let spec = ForestSpec {
        leaves: std::iter::once(0..1).collect(),
        weights: vec![(0, 0.3)],
        roots: vec![Child::Leaf(0)],
        targets: 1,
        ..ForestSpec::default()
    };
    let forest = Forest::build(&spec).unwrap();
    let exec = Exec { cpu: Cpu::detect(), pool: Pool::inline() };
    let run = |probability, transform| {
        let decision = Decision::Binary { probability };
        let finish = Finish { decision, transform, ..Finish::default() };
        let (mut scores, mut classes) = ([0.0f32; 2], [7i64]);
        forest.evaluate(exec, &finish, (&[0.0f32], 1), &mut scores, Some(&mut classes));
        (scores, classes[0])
    };
    assert_eq!(run(true, Transform::None), ([0.7, 0.3], 0));
    assert_eq!(run(false, Transform::None), ([-0.3, 0.3], 1));
    let (scores, class) = run(true, Transform::Logistic);
    assert!((scores[1] - 0.574_442_5).abs() < 1e-6 && class == 1);
}
