//! Finding the nodes of tree ensembles by their names: a tree's id and a node's id within it.
//!
//! Trainers number both from zero and list a tree's nodes together, so a tree's names are positions
//! in a table. Trees numbered otherwise are looked up by hash.

use std::collections::HashMap;
use std::ops::Range;

use crate::KernelError;

/// The table of a tree with `n` nodes has at most this many times `n` rows, and [`SPARE`] more.
const SPARSITY_MAX: usize = 4;
const SPARE: usize = 64;

/// No node.
const NONE: u32 = u32::MAX;

/// Positions of nodes in the lists that describe them, by their names.
pub(super) struct Names {
    /// The number of every node's tree, by position.
    pub(super) trees: Vec<usize>,
    numbers: HashMap<i64, usize>,
    /// For every tree, its part of `table`.
    ranges: Vec<Range<usize>>,
    table: Vec<u32>,
    /// Nodes whose trees have no table.
    others: HashMap<(usize, i64), usize>,
}

/// Numbers of trees, by their ids. Ids that repeat the last one are found at once.
pub(super) struct Numbers<'a> {
    numbers: &'a HashMap<i64, usize>,
    last: Option<(i64, usize)>,
}

impl Numbers<'_> {
    pub(super) fn of(&mut self, tree: i64) -> Option<usize> {
        match self.last {
            Some((id, number)) if id == tree => Some(number),
            _ => {
                let number = *self.numbers.get(&tree)?;
                self.last = Some((tree, number));
                Some(number)
            }
        }
    }
}

impl Names {
    /// Fails if two nodes have one name.
    pub(super) fn new(tree_ids: &[i64], node_ids: &[i64]) -> Result<Names, KernelError> {
        let mut names = Names {
            trees: Vec::with_capacity(tree_ids.len()),
            numbers: HashMap::new(),
            ranges: Vec::new(),
            table: Vec::new(),
            others: HashMap::new(),
        };
        let extents = names.number(tree_ids, node_ids);
        for (nodes, rows) in extents {
            let is_dense = rows <= nodes.saturating_mul(SPARSITY_MAX).saturating_add(SPARE);
            let start = names.table.len();
            names.table.resize(start + if is_dense { rows } else { 0 }, NONE);
            names.ranges.push(start..names.table.len());
        }
        for (position, &node) in node_ids.iter().enumerate() {
            if !names.insert(names.trees[position], node, position) {
                let tree = tree_ids[position];
                return KernelError::invalid(format!("node {node} of tree {tree} is given twice"));
            }
        }
        Ok(names)
    }

    /// Numbers the trees; for each of them the number of its nodes and of the rows they need.
    fn number(&mut self, tree_ids: &[i64], node_ids: &[i64]) -> Vec<(usize, usize)> {
        let mut extents: Vec<(usize, usize)> = Vec::new();
        let mut last = None;
        for (&tree, &node) in tree_ids.iter().zip(node_ids) {
            let number = match last {
                Some((id, number)) if id == tree => number,
                _ => *self.numbers.entry(tree).or_insert(extents.len()),
            };
            last = Some((tree, number));
            if number == extents.len() {
                extents.push((0, 0));
            }
            let (nodes, rows) = &mut extents[number];
            *nodes += 1;
            *rows =
                (*rows).max(usize::try_from(node).map_or(usize::MAX, |id| id.saturating_add(1)));
            self.trees.push(number);
        }
        extents
    }

    /// Whether the name was free.
    fn insert(&mut self, tree: usize, node: i64, position: usize) -> bool {
        let range = self.ranges[tree].clone();
        let row = usize::try_from(node).ok().and_then(|node| self.table[range].get_mut(node));
        match (row, u32::try_from(position)) {
            (Some(row), Ok(position)) if position != NONE => {
                std::mem::replace(row, position) == NONE
            }
            _ => self.others.insert((tree, node), position).is_none(),
        }
    }

    /// The position of a node of a tree with that number.
    pub(super) fn position(&self, tree: usize, node: i64) -> Option<usize> {
        let rows = &self.table[self.ranges[tree].clone()];
        match usize::try_from(node).ok().and_then(|node| rows.get(node)) {
            Some(&position) if position != NONE => Some(position as usize),
            _ if self.others.is_empty() => None,
            _ => self.others.get(&(tree, node)).copied(),
        }
    }

    /// Numbers of trees, to look up.
    pub(super) fn numbers(&self) -> Numbers<'_> {
        Numbers { numbers: &self.numbers, last: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_found_however_they_are_numbered() {
        let cases: [&[(i64, i64)]; 4] = [
            &[(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)],
            &[(7, 3), (2, 0), (7, 0), (2, 1)],
            &[(0, i64::MAX), (0, 5), (-3, i64::MIN), (-3, -1)],
            &[(0, 0), (0, 1 << 40), (1, 0), (i64::MIN, 9)],
        ];
        for nodes in cases {
            let (trees, ids): (Vec<i64>, Vec<i64>) = nodes.iter().copied().unzip();
            let names = Names::new(&trees, &ids).unwrap();
            let mut numbers = names.numbers();
            for (position, &(tree, node)) in nodes.iter().enumerate() {
                assert_eq!(numbers.of(tree), Some(names.trees[position]));
                assert_eq!(names.position(names.trees[position], node), Some(position));
                assert_eq!(names.position(names.trees[position], 44), None);
            }
            assert_eq!(numbers.of(99), None);
        }
    }

    #[test]
    fn a_name_is_given_once() {
        for node in [0, 5, -1, i64::MAX] {
            let error = Names::new(&[4, 4], &[node, node]).err().unwrap();
            assert!(error.to_string().contains("of tree 4 is given twice"), "{error}");
        }
    }
}
