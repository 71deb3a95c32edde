//! From the description of an ensemble to the form in which it is evaluated.

use std::collections::{HashMap, VecDeque};

use thiserror::Error;

use super::key::Key;
use super::layout::{Column, Index, LANES, Node, Tree, Weight};
use super::stored::{Extents, Parts, PartsLeaves};
use super::{Branch, Child, Forest, ForestSpec, Test};

/// Why a description is not an ensemble of trees.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ForestError {
    /// An index leads nowhere.
    #[error("{what} {index} does not exist: there are {count}")]
    Dangling {
        /// What is missing.
        what: &'static str,
        /// The index.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// A branch that two paths reach: the graph is not a tree.
    #[error("branch {0} is reached on more than one path")]
    Shared(usize),
    /// There is no target.
    #[error("an ensemble must have at least one target")]
    NoTargets,
    /// More nodes, columns or weights than 32 bits count.
    #[error("the ensemble is too large")]
    TooLarge,
    /// Bytes that are not a stored ensemble.
    #[error("the stored trees are damaged: {0}")]
    Damaged(&'static str),
}

impl Forest {
    /// Checks the trees and lays them out.
    pub fn build(spec: &ForestSpec) -> Result<Forest, ForestError> {
        check(spec)?;
        let features = spec.branches.iter().map(|branch| branch.feature.saturating_add(1)).max();
        let extents = Extents { targets: spec.targets, features: features.unwrap_or(0) };
        let bytes = match spec.double {
            true => Builder::<u64, u32>::build(spec)?.store(extents),
            false => match Builder::<u32, u16>::build(spec) {
                Ok(parts) => parts.store(extents),
                Err(ForestError::TooLarge) => Builder::<u32, u32>::build(spec)?.store(extents),
                Err(error) => return Err(error),
            },
        };
        Forest::open(bytes)
    }
}

fn check(spec: &ForestSpec) -> Result<(), ForestError> {
    let exists = |what, index: usize, count: usize| match index < count {
        true => Ok(()),
        false => Err(ForestError::Dangling { what, index, count }),
    };
    if spec.targets == 0 {
        return Err(ForestError::NoTargets);
    }
    let child = |child: Child| match child {
        Child::Branch(index) => exists("branch", index, spec.branches.len()),
        Child::Leaf(index) => exists("leaf", index, spec.leaves.len()),
    };
    spec.roots.iter().try_for_each(|&root| child(root))?;
    for branch in &spec.branches {
        child(branch.on_true)?;
        child(branch.on_false)?;
    }
    for leaf in &spec.leaves {
        exists("weight", leaf.end, spec.weights.len() + 1)?;
        exists("weight", leaf.start, leaf.end + 1)?;
    }
    spec.weights.iter().try_for_each(|&(target, _)| exists("target", target, spec.targets))
}

/// Columns of features below this are found without hashing.
const PLAIN_FEATURES: usize = 1 << 16;

struct Builder<'a, K, I> {
    spec: &'a ForestSpec,
    nodes: Vec<Node<K, I>>,
    /// For every node, the leaf that it is.
    leaf_of: Vec<Option<usize>>,
    columns: Vec<Column<K>>,
    /// For low features, their columns that have no members: one for each treatment of NaN.
    plain: Vec<[Option<usize>; 2]>,
    column_of: HashMap<Column<K>, usize>,
    visited: Vec<bool>,
}

/// A test as a comparison: with which key, and of which column.
struct Comparison<K> {
    column: Column<K>,
    threshold: K,
    /// Whether "not greater" means yes.
    low_is_true: bool,
}

impl<K: Key, I: Index> Builder<'_, K, I> {
    fn build(spec: &ForestSpec) -> Result<Parts<K, I>, ForestError> {
        let mut builder = Builder {
            spec,
            nodes: Vec::new(),
            leaf_of: Vec::new(),
            columns: Vec::new(),
            plain: Vec::new(),
            column_of: HashMap::new(),
            visited: vec![false; spec.branches.len()],
        };
        let trees = spec.roots.iter().map(|&root| builder.tree(root)).collect::<Result<_, _>>()?;
        let leaves = builder.leaves()?;
        if builder.columns.is_empty() {
            builder.column(Column { feature: 0, missing: K::LOWEST, members: None });
        }
        Ok(Parts { nodes: builder.nodes, trees, columns: builder.columns, leaves })
    }

    /// Adds a tree level by level, so that its upper levels share cache lines.
    fn tree(&mut self, root: Child) -> Result<Tree, ForestError> {
        let start = self.nodes.len();
        self.reserve(1)?;
        let mut depth = 0;
        let mut queue = VecDeque::from([(root, start, 0)]);
        while let Some((child, at, level)) = queue.pop_front() {
            depth = level;
            match child {
                Child::Leaf(leaf) => self.leaf_of[at] = Some(leaf),
                Child::Branch(index) => {
                    let first = self.nodes.len();
                    self.reserve(2)?;
                    let [low, high] = self.branch(index, at, first)?;
                    queue.push_back((low, first, level + 1));
                    queue.push_back((high, first + 1, level + 1));
                }
            }
        }
        Ok(Tree { root: start as u64, depth })
    }

    fn reserve(&mut self, count: usize) -> Result<(), ForestError> {
        let zero = I::new(0).ok_or(ForestError::TooLarge)?;
        let leaf = Node { threshold: K::HIGHEST, column: zero, step: zero };
        self.nodes.extend(std::iter::repeat_n(leaf, count));
        self.leaf_of.resize(self.nodes.len(), None);
        Ok(())
    }

    /// Writes the branch at node `at` with its children from node `first`; gives the children.
    fn branch(&mut self, index: usize, at: usize, first: usize) -> Result<[Child; 2], ForestError> {
        if std::mem::replace(&mut self.visited[index], true) {
            return Err(ForestError::Shared(index));
        }
        let branch = &self.spec.branches[index];
        let comparison = comparison(branch);
        let column = self.column(comparison.column);
        self.nodes[at] = Node {
            threshold: comparison.threshold,
            column: column.checked_mul(LANES).and_then(I::new).ok_or(ForestError::TooLarge)?,
            step: I::new(first - at).ok_or(ForestError::TooLarge)?,
        };
        Ok(match comparison.low_is_true {
            true => [branch.on_true, branch.on_false],
            false => [branch.on_false, branch.on_true],
        })
    }

    fn column(&mut self, column: Column<K>) -> usize {
        if column.members.is_some() || column.feature >= PLAIN_FEATURES {
            return *self.column_of.entry(column).or_insert_with_key(|column| {
                self.columns.push(column.clone());
                self.columns.len() - 1
            });
        }
        if self.plain.len() <= column.feature {
            self.plain.resize(column.feature + 1, [None; 2]);
        }
        let known = &mut self.plain[column.feature][usize::from(column.missing == K::LOWEST)];
        *known.get_or_insert_with(|| {
            self.columns.push(column);
            self.columns.len() - 1
        })
    }

    fn leaves(&self) -> Result<PartsLeaves, ForestError> {
        let spec = self.spec;
        let single = |leaf: &Option<usize>| match *leaf {
            None => Some(0.0),
            Some(leaf) => match spec.weights[spec.leaves[leaf].clone()] {
                [(_, weight)] if f64::from(weight as f32) == weight => Some(weight as f32),
                _ => None,
            },
        };
        let all: Option<Vec<f32>> =
            if spec.targets == 1 { self.leaf_of.iter().map(single).collect() } else { None };
        if let Some(weights) = all {
            return Ok(PartsLeaves::Single(weights));
        }
        let mut starts = vec![0];
        let mut weights = Vec::new();
        for leaf in &self.leaf_of {
            if let Some(leaf) = *leaf {
                for &(target, value) in &spec.weights[spec.leaves[leaf].clone()] {
                    let target = u32::new(target).ok_or(ForestError::TooLarge)?;
                    weights.push(Weight { value, target, unused: 0 });
                }
            }
            starts.push(u32::new(weights.len()).ok_or(ForestError::TooLarge)?);
        }
        Ok(PartsLeaves::Lists { starts, weights })
    }
}

fn comparison<K: Key>(branch: &Branch) -> Comparison<K> {
    let feature = branch.feature;
    let missing_is_true = branch.missing_is_true;
    let ordered = |split: f64, strict: bool, low_is_true: bool| {
        // NaN as a split makes every comparison false.
        let never = if low_is_true { K::LOWEST } else { K::HIGHEST.before() };
        let key = |key: K| if strict == low_is_true { key.before() } else { key };
        let missing = if missing_is_true == low_is_true { K::LOWEST } else { K::HIGHEST };
        Comparison {
            column: Column { feature, missing, members: None },
            threshold: K::of(split).map_or(never, key),
            low_is_true,
        }
    };
    let member = |values: &[f64], missing: bool, low_is_true: bool| {
        let mut members: Vec<K> = values.iter().filter_map(|&value| K::of(value)).collect();
        members.sort_unstable();
        members.dedup();
        let missing = if missing { K::ONE } else { K::LOWEST };
        Comparison {
            column: Column { feature, missing, members: Some(members) },
            threshold: K::LOWEST,
            low_is_true,
        }
    };
    match &branch.test {
        Test::AtMost(split) => ordered(*split, false, true),
        Test::Below(split) => ordered(*split, true, true),
        Test::AtLeast(split) => ordered(*split, false, false),
        Test::Above(split) => ordered(*split, true, false),
        Test::Equal(split) => member(&[*split], missing_is_true, false),
        Test::NotEqual(split) => member(&[*split], false, true),
        Test::Member(values) => member(values, missing_is_true, false),
    }
}
