//! Tree ensembles: the three forms that ONNX has had, as one description.

use landfall_graph::{Op, PostTransform, TreeMode, ops};
use landfall_kernels::classical::Transform;
use landfall_kernels::trees::{
    Aggregate, Branch, Child, Decision, Finish, Forest, ForestError, ForestSpec, Test,
};
use landfall_tensor::{DType, Tensor};

use super::classical::{Labels, input_rows, number};
use super::tree_names::Names;
use super::types::dispatch;
use super::{Lowered, Site};
use crate::kernel::Io;
use crate::{Kernel, KernelError, KernelInfo};

pub(super) fn lower(site: &Site<'_>) -> Option<Result<Lowered, KernelError>> {
    let build: Build = match site.op {
        Op::TreeEnsembleClassifier(_) | Op::TreeEnsembleRegressor(_) => legacy,
        Op::TreeEnsemble(_) => current,
        _ => return None,
    };
    Some(lower_with(site, build))
}

/// Makes an ensemble of an operator: whether the input is `f64`, and how its forest is taken from
/// its description, which is made only if it is needed.
type Build = fn(&Op, bool, ForestOf<'_>) -> Result<Trees, KernelError>;
type ForestOf<'a> =
    &'a mut dyn FnMut(&dyn Fn() -> Result<ForestSpec, KernelError>) -> Result<Forest, KernelError>;

fn lower_with(site: &Site<'_>, build: Build) -> Result<Lowered, KernelError> {
    let (_, columns) = input_rows(&site.shape(0)?)?;
    let double = site.dtype(0)? == DType::F64;
    let invalid = |error: ForestError| KernelError::Invalid(error.to_string());
    let trees = site.compiled(|| {
        let trees = build(site.op, double, &mut |spec| {
            let mut built = None;
            let bytes = site.stored("trees", || {
                let forest = Forest::build(&spec()?).map_err(invalid)?;
                let bytes = forest.bytes().clone();
                built = Some(forest);
                Ok(bytes)
            })?;
            built.map_or_else(|| Forest::open(bytes).map_err(invalid), Ok)
        })?;
        Ok((trees, 0))
    })?;
    let needed = trees.forest.features().max(1);
    if columns < needed {
        return KernelError::invalid(format!(
            "the input has {columns} columns, the trees look at {needed}"
        ));
    }
    Ok(Lowered::Kernel(Box::new(Ensemble { trees, columns })))
}

/// An ensemble with what follows it.
struct Trees {
    forest: Forest,
    finish: Finish,
    /// Of classifiers.
    labels: Option<Labels>,
}

struct Ensemble {
    trees: std::sync::Arc<Trees>,
    /// Columns of the input.
    columns: usize,
}

impl Kernel for Ensemble {
    fn run(&self, io: &mut Io<'_>) -> Result<(), KernelError> {
        let (input, exec) = (io.input(0)?, io.exec);
        let Trees { forest, finish, labels } = &*self.trees;
        let Some(labels) = labels else {
            let out = &mut io.outputs[0];
            if out.dtype() == DType::F32 {
                let out = out.as_mut_slice::<f32>()?;
                number!(input.dtype(), T => {
                    let x = (input.as_slice::<T>()?, self.columns);
                    forest.evaluate(exec, finish, x, out, None);
                });
            } else {
                dispatch!(input.dtype(), T => {
                    let x = (input.as_slice::<T>()?, self.columns);
                    forest.evaluate(exec, finish, x, out.as_mut_slice::<T>()?, None);
                }, F64 f64, F16 landfall_tensor::f16);
            }
            return Ok(());
        };
        let columns = finish.columns(forest.targets());
        labels.classify(&mut io.outputs, columns, &mut |scores, classes| {
            number!(input.dtype(), T => {
                let x = (input.as_slice::<T>()?, self.columns);
                forest.evaluate(exec, finish, x, scores, Some(classes));
            });
            Ok(())
        })
    }

    fn info(&self) -> KernelInfo {
        let kernel = self.trees.forest.layout();
        let precision = if kernel == "trees_f64" { "f64" } else { "f32" };
        KernelInfo::portable(kernel, precision)
    }
}

pub(super) fn transform(transform: PostTransform) -> Transform {
    match transform {
        PostTransform::None => Transform::None,
        PostTransform::Softmax => Transform::Softmax,
        PostTransform::Logistic => Transform::Logistic,
        PostTransform::SoftmaxZero => Transform::SoftmaxZero,
        PostTransform::Probit => Transform::Probit,
    }
}

/// Real numbers of an attribute that has a list and a tensor form, and whether they are `f64`.
fn reals(floats: &[f32], tensor: Option<&Tensor>) -> Result<(Vec<f64>, bool), KernelError> {
    let Some(tensor) = tensor else {
        return Ok((floats.iter().map(|&x| f64::from(x)).collect(), false));
    };
    let tensor = tensor.aligned();
    Ok(match tensor.dtype() {
        DType::F64 => (tensor.as_slice::<f64>()?.to_vec(), true),
        DType::F16 => {
            let values = tensor.as_slice::<landfall_tensor::f16>()?;
            (values.iter().map(|&x| f64::from(x)).collect(), false)
        }
        _ => (tensor.as_slice::<f32>()?.iter().map(|&x| f64::from(x)).collect(), false),
    })
}

fn index(value: i64, what: &str) -> Result<usize, KernelError> {
    usize::try_from(value)
        .map_err(|_| KernelError::Invalid(format!("{what} must not be negative, is {value}")))
}

/// The forms up to version 4: nodes and leaves share one list and are named by tree and node.
struct Nodes<'a> {
    tree_ids: &'a [i64],
    node_ids: &'a [i64],
    features: &'a [i64],
    modes: &'a [TreeMode],
    splits: Vec<f64>,
    on_true: &'a [i64],
    on_false: &'a [i64],
    missing: &'a [i64],
    weight_trees: &'a [i64],
    weight_nodes: &'a [i64],
    weight_targets: &'a [i64],
    weights: Vec<f64>,
    targets: usize,
    double: bool,
}

macro_rules! nodes {
    ($op:expr, $trees:ident, $nodes:ident, $targets:ident, $weights:ident, $tensor:ident) => {{
        let op = $op;
        let (splits, wide) = reals(&op.nodes_values, op.nodes_values_as_tensor.as_ref())?;
        let (weights, wide_weights) = reals(&op.$weights, op.$tensor.as_ref())?;
        Nodes {
            tree_ids: &op.nodes_treeids,
            node_ids: &op.nodes_nodeids,
            features: &op.nodes_featureids,
            modes: &op.nodes_modes,
            splits,
            on_true: &op.nodes_truenodeids,
            on_false: &op.nodes_falsenodeids,
            missing: &op.nodes_missing_value_tracks_true,
            weight_trees: &op.$trees,
            weight_nodes: &op.$nodes,
            weight_targets: &op.$targets,
            weights,
            targets: 0,
            double: wide || wide_weights,
        }
    }};
}

fn legacy(op: &Op, double: bool, forest: ForestOf<'_>) -> Result<Trees, KernelError> {
    match op {
        Op::TreeEnsembleClassifier(op) => classifier(op, double, forest),
        Op::TreeEnsembleRegressor(op) => regressor(op, double, forest),
        _ => KernelError::invalid("not a tree ensemble"),
    }
}

fn classifier(
    op: &ops::TreeEnsembleClassifier,
    double: bool,
    forest: ForestOf<'_>,
) -> Result<Trees, KernelError> {
    let labels = Labels::new(&op.classlabels_int64s, &op.classlabels_strings);
    let mut nodes =
        nodes!(op, class_treeids, class_nodeids, class_ids, class_weights, class_weights_as_tensor);
    nodes.double |= double;
    nodes.targets = labels.len();
    let (base, _) = reals(&op.base_values, op.base_values_as_tensor.as_ref())?;
    // Two classes of which only the first has weights: they are the second one's scores.
    let binary = labels.len() == 2 && base.len() < 2 && op.class_ids.iter().all(|&id| id == 0);
    let decision = if binary {
        nodes.targets = 1;
        Decision::Binary { probability: nodes.weights.iter().all(|&weight| weight >= 0.0) }
    } else {
        Decision::Largest
    };
    let forest = nodes.forest(forest)?;
    let finish = Finish {
        aggregate: Aggregate::Sum,
        base: base_values(base, forest.targets())?,
        transform: transform(op.post_transform),
        decision,
    };
    Ok(Trees { forest, finish, labels: Some(labels) })
}

fn regressor(
    op: &ops::TreeEnsembleRegressor,
    double: bool,
    forest: ForestOf<'_>,
) -> Result<Trees, KernelError> {
    let mut nodes = nodes!(
        op,
        target_treeids,
        target_nodeids,
        target_ids,
        target_weights,
        target_weights_as_tensor
    );
    nodes.double |= double;
    let last = op.target_ids.iter().max().map_or(0, |last| last.saturating_add(1));
    nodes.targets = index(op.n_targets.unwrap_or(last), "n_targets")?;
    let aggregate = match op.aggregate_function.as_str() {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => {
            let expected = "SUM, AVERAGE, MIN or MAX";
            return KernelError::invalid(format!(
                "aggregate_function must be {expected}, is {other}"
            ));
        }
    };
    let (base, _) = reals(&op.base_values, op.base_values_as_tensor.as_ref())?;
    let forest = nodes.forest(forest)?;
    let finish = Finish {
        aggregate,
        base: base_values(base, forest.targets())?,
        transform: transform(op.post_transform),
        decision: Decision::Regression,
    };
    Ok(Trees { forest, finish, labels: None })
}

/// The forest, if it gives as many values as the operator says. One from a package need not.
fn with_targets(forest: Forest, targets: usize) -> Result<Forest, KernelError> {
    match forest.targets() {
        found if found == targets => Ok(forest),
        found => KernelError::invalid(format!("the trees have {found} targets, not {targets}")),
    }
}

fn base_values(base: Vec<f64>, targets: usize) -> Result<Vec<f64>, KernelError> {
    if base.is_empty() || base.len() == targets || (base.len() == 1 && targets == 2) {
        return Ok(base);
    }
    KernelError::invalid(format!("there are {} base values for {targets} targets", base.len()))
}

impl Nodes<'_> {
    fn forest(&self, forest: ForestOf<'_>) -> Result<Forest, KernelError> {
        with_targets(forest(&|| self.spec())?, self.targets)
    }

    fn check_lengths(&self) -> Result<(), KernelError> {
        let count = self.node_ids.len();
        let weights = self.weights.len();
        let lengths = [
            ("nodes_treeids", self.tree_ids.len(), count),
            ("nodes_featureids", self.features.len(), count),
            ("nodes_modes", self.modes.len(), count),
            ("nodes_values", self.splits.len(), count),
            ("nodes_truenodeids", self.on_true.len(), count),
            ("nodes_falsenodeids", self.on_false.len(), count),
            ("the tree ids of weights", self.weight_trees.len(), weights),
            ("the node ids of weights", self.weight_nodes.len(), weights),
            ("the target ids of weights", self.weight_targets.len(), weights),
        ];
        match lengths.into_iter().find(|(_, found, expected)| found != expected) {
            None if self.missing.is_empty() || self.missing.len() == count => Ok(()),
            None => KernelError::invalid(format!(
                "nodes_missing_value_tracks_true has {} elements, there are {count} nodes",
                self.missing.len()
            )),
            Some((name, found, expected)) => {
                KernelError::invalid(format!("{name} has {found} elements, {expected} are needed"))
            }
        }
    }

    fn spec(&self) -> Result<ForestSpec, KernelError> {
        self.check_lengths()?;
        let mut spec =
            ForestSpec { targets: self.targets, double: self.double, ..ForestSpec::default() };
        let names = Names::new(self.tree_ids, self.node_ids)?;
        let (mut leaves, mut branches) = (0, 0);
        let child = |mode: &TreeMode| {
            let is_leaf = *mode == TreeMode::Leaf;
            let count = if is_leaf { &mut leaves } else { &mut branches };
            *count += 1;
            if is_leaf { Child::Leaf(*count - 1) } else { Child::Branch(*count - 1) }
        };
        let nodes: Vec<Child> = self.modes.iter().map(child).collect();
        self.leaf_weights(&mut spec, &names, &nodes, leaves)?;
        let mut is_root = vec![true; nodes.len()];
        spec.branches.reserve(branches);
        for (position, tree) in names.trees.iter().enumerate() {
            if let Some(test) = self.test(position) {
                let mut child = |node: i64| {
                    let found = names.position(*tree, node);
                    let found = found.ok_or_else(|| {
                        let tree = self.tree_ids[position];
                        KernelError::Invalid(format!("tree {tree} has no node {node}"))
                    })?;
                    is_root[found] = false;
                    Ok::<_, KernelError>(nodes[found])
                };
                spec.branches.push(Branch {
                    feature: index(self.features[position], "a feature id")?,
                    test,
                    missing_is_true: self.missing.get(position).is_some_and(|&flag| flag != 0),
                    on_true: child(self.on_true[position])?,
                    on_false: child(self.on_false[position])?,
                });
            }
        }
        spec.roots = nodes.iter().zip(is_root).filter_map(|(n, root)| root.then_some(*n)).collect();
        Ok(spec)
    }

    /// The test of a branch; `None` for a leaf.
    fn test(&self, position: usize) -> Option<Test> {
        let split = self.splits[position];
        Some(match self.modes[position] {
            TreeMode::BranchLeq => Test::AtMost(split),
            TreeMode::BranchLt => Test::Below(split),
            TreeMode::BranchGte => Test::AtLeast(split),
            TreeMode::BranchGt => Test::Above(split),
            TreeMode::BranchEq => Test::Equal(split),
            TreeMode::BranchNeq => Test::NotEqual(split),
            TreeMode::Leaf => return None,
        })
    }

    /// Sorts the weights by leaf, keeping the order within one.
    fn leaf_weights(
        &self,
        spec: &mut ForestSpec,
        names: &Names,
        nodes: &[Child],
        leaves: usize,
    ) -> Result<(), KernelError> {
        let mut counts = vec![0; leaves];
        let mut leaf_of = Vec::with_capacity(self.weights.len());
        let mut numbers = names.numbers();
        for (&tree, &node) in self.weight_trees.iter().zip(self.weight_nodes) {
            let found = numbers.of(tree).and_then(|tree| names.position(tree, node));
            let Some(Child::Leaf(leaf)) = found.map(|position| nodes[position]) else {
                return KernelError::invalid(format!(
                    "a weight is for node {node} of tree {tree}, which is not a leaf"
                ));
            };
            counts[leaf] += 1;
            leaf_of.push(leaf);
        }
        let mut end = 0;
        for count in counts {
            spec.leaves.push(end..end);
            end += count;
        }
        spec.weights = vec![(0, 0.0); end];
        let weights = self.weight_targets.iter().zip(&self.weights);
        for (leaf, (&target, &weight)) in leaf_of.into_iter().zip(weights) {
            let next = &mut spec.leaves[leaf].end;
            spec.weights[*next] = (index(target, "a target id")?, weight);
            *next += 1;
        }
        Ok(())
    }
}

/// The form of version 5: branches and leaves in lists of their own.
fn current(op: &Op, double: bool, forest: ForestOf<'_>) -> Result<Trees, KernelError> {
    let Op::TreeEnsemble(op) = op else { return KernelError::invalid("not a tree ensemble") };
    let last = op.leaf_targetids.iter().max().map_or(0, |last| last.saturating_add(1));
    let targets = index(op.n_targets.unwrap_or(last), "n_targets")?;
    let aggregate = match op.aggregate_function {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => {
            return KernelError::invalid(format!("aggregate_function must be 0 to 3, is {other}"));
        }
    };
    let transform = match op.post_transform {
        0 => Transform::None,
        1 => Transform::Softmax,
        2 => Transform::Logistic,
        3 => Transform::SoftmaxZero,
        4 => Transform::Probit,
        other => return KernelError::invalid(format!("post_transform must be 0 to 4, is {other}")),
    };
    let forest = with_targets(forest(&|| current_spec(op, targets, double))?, targets)?;
    let finish = Finish { aggregate, transform, ..Finish::default() };
    Ok(Trees { forest, finish, labels: None })
}

fn current_spec(
    op: &ops::TreeEnsemble,
    targets: usize,
    double: bool,
) -> Result<ForestSpec, KernelError> {
    let (splits, wide) = reals(&[], Some(&op.nodes_splits))?;
    let (weights, wide_weights) = reals(&[], Some(&op.leaf_weights))?;
    let double = double || wide || wide_weights;
    let mut spec = ForestSpec { targets, double, ..ForestSpec::default() };
    if weights.len() != op.leaf_targetids.len() {
        let (found, leaves) = (op.leaf_targetids.len(), weights.len());
        return KernelError::invalid(format!("leaf_targetids has {found} elements, not {leaves}"));
    }
    for (leaf, (&target, weight)) in op.leaf_targetids.iter().zip(weights).enumerate() {
        spec.weights.push((index(target, "a target id")?, weight));
        spec.leaves.push(leaf..leaf + 1);
    }
    branches(op, &splits, &mut spec)?;
    for &root in &op.tree_roots {
        spec.roots.push(Child::Branch(index(root, "a root")?));
    }
    Ok(spec)
}

fn branches(
    op: &ops::TreeEnsemble,
    splits: &[f64],
    spec: &mut ForestSpec,
) -> Result<(), KernelError> {
    let modes = op.nodes_modes.aligned();
    let modes = modes.as_slice::<u8>()?;
    let count = modes.len();
    let lists = [
        &op.nodes_featureids,
        &op.nodes_truenodeids,
        &op.nodes_falsenodeids,
        &op.nodes_trueleafs,
        &op.nodes_falseleafs,
    ];
    let missing = &op.nodes_missing_value_tracks_true;
    let fits = lists.iter().all(|list| list.len() == count) && splits.len() == count;
    if !fits || !(missing.is_empty() || missing.len() == count) {
        return KernelError::invalid("the lists of nodes differ in length");
    }
    let (members, _) = match &op.membership_values {
        Some(values) => reals(&[], Some(values))?,
        None => (Vec::new(), false),
    };
    let mut sets = members.split(|value| value.is_nan());
    for position in 0..count {
        let split = splits[position];
        let test = match modes[position] {
            0 => Test::AtMost(split),
            1 => Test::Below(split),
            2 => Test::AtLeast(split),
            3 => Test::Above(split),
            4 => Test::Equal(split),
            5 => Test::NotEqual(split),
            6 => Test::Member(sets.next().unwrap_or_default().to_vec()),
            other => return KernelError::invalid(format!("a mode must be 0 to 6, is {other}")),
        };
        let child = |id: i64, is_leaf: i64| {
            let id = index(id, "a child")?;
            Ok::<_, KernelError>(if is_leaf != 0 { Child::Leaf(id) } else { Child::Branch(id) })
        };
        spec.branches.push(Branch {
            feature: index(op.nodes_featureids[position], "a feature id")?,
            test,
            missing_is_true: missing.get(position).is_some_and(|&flag| flag != 0),
            on_true: child(op.nodes_truenodeids[position], op.nodes_trueleafs[position])?,
            on_false: child(op.nodes_falsenodeids[position], op.nodes_falseleafs[position])?,
        });
    }
    Ok(())
}
