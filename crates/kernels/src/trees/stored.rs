//! An ensemble as one piece of memory, which packages store and map.
//!
//! | section | elements |
//! |---|---|
//! | header | [`HEADER_WORDS`] `u64`: see [`Header`] |
//! | nodes | [`Node`]s |
//! | trees | [`Tree`]s |
//! | columns | for each, four `u64`: feature, what NaN becomes, members and one more, 0 |
//! | members | keys, column after column |
//! | starts | `u32`: one for each node and one more, unless every leaf has one weight |
//! | weights | [`Weight`]s, or an `f32` for each node |
//!
//! A column without members is the key itself: 0 stands where others have their number and one
//! more. Every section begins at a multiple of 64 bytes; numbers are little-endian.
//!
//! Chosen over vectors for each part because a package then maps the trees, as it does weights in
//! the kernels' layouts. The bytes may come from anyone: opening checks all that walking relies on,
//! in one pass over the nodes, and walking checks nothing.

use std::marker::PhantomData;
use std::ops::Range;

use bytemuck::{Pod, cast_slice};
use landfall_tensor::Buffer;

use super::key::Key;
use super::layout::{Column, Index, LANES, Leaves, Node, Tree, Trees, Weight};
use super::{Forest, ForestError, Layout};

const ALIGNMENT: usize = 64;
const HEADER_WORDS: usize = 16;
const COLUMN_WORDS: usize = 4;

/// Sizes that the trees do not show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extents {
    pub(super) targets: usize,
    pub(super) features: usize,
}

/// What [`Parts::store`] makes one piece.
pub(super) struct Parts<K, I> {
    pub(super) nodes: Vec<Node<K, I>>,
    pub(super) trees: Vec<Tree>,
    pub(super) columns: Vec<Column<K>>,
    pub(super) leaves: PartsLeaves,
}

/// See [`Leaves`].
pub(super) enum PartsLeaves {
    Single(Vec<f32>),
    Lists { starts: Vec<u32>, weights: Vec<Weight> },
}

/// The first words of the memory, in this order; the rest are 0.
#[derive(Debug, Clone, Copy)]
struct Header {
    /// Bytes of a key and of an index: the layout.
    sizes: [u64; 2],
    targets: u64,
    features: u64,
    nodes: u64,
    trees: u64,
    columns: u64,
    members: u64,
    /// Of `starts`.
    starts: u64,
    weights: u64,
}

/// Where the sections lie.
struct Sections {
    nodes: Range<usize>,
    trees: Range<usize>,
    columns: Range<usize>,
    members: Range<usize>,
    starts: Range<usize>,
    weights: Range<usize>,
}

impl Header {
    fn words(&self) -> [u64; HEADER_WORDS] {
        let mut words = [0; HEADER_WORDS];
        let [key, index] = self.sizes;
        words[..10].copy_from_slice(&[
            key,
            index,
            self.targets,
            self.features,
            self.nodes,
            self.trees,
            self.columns,
            self.members,
            self.starts,
            self.weights,
        ]);
        words
    }

    fn read(bytes: &[u8]) -> Result<Header, ForestError> {
        let words = bytes.get(..HEADER_WORDS * 8).ok_or(ForestError::Damaged("it is cut off"))?;
        let word = |i: usize| cast_slice::<u8, u64>(words)[i];
        Ok(Header {
            sizes: [word(0), word(1)],
            targets: word(2),
            features: word(3),
            nodes: word(4),
            trees: word(5),
            columns: word(6),
            members: word(7),
            starts: word(8),
            weights: word(9),
        })
    }

    /// The sections and the end of the last; `None` if they exceed memory.
    fn sections(&self) -> Option<(Sections, usize)> {
        let [key, index] = self.sizes;
        let mut end = HEADER_WORDS as u64 * 8;
        let mut section = |count: u64, size: u64| {
            let start = end.checked_next_multiple_of(ALIGNMENT as u64)?;
            end = start.checked_add(count.checked_mul(size)?)?;
            Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
        };
        let weight = if self.starts == 0 { size_of::<f32>() } else { size_of::<Weight>() };
        let sections = Sections {
            nodes: section(self.nodes, key.checked_add(index.checked_mul(2)?)?)?,
            trees: section(self.trees, size_of::<Tree>() as u64)?,
            columns: section(self.columns, COLUMN_WORDS as u64 * 8)?,
            members: section(self.members, key)?,
            starts: section(self.starts, size_of::<u32>() as u64)?,
            weights: section(self.weights, weight as u64)?,
        };
        let end = sections.weights.end;
        Some((sections, end))
    }
}

impl<K: Key, I: Index> Parts<K, I>
where
    Node<K, I>: Pod,
{
    /// The parts as one piece of memory.
    pub(super) fn store(&self, extents: Extents) -> Buffer {
        let members = |column: &Column<K>| column.members.clone().unwrap_or_default();
        let members: Vec<K> = self.columns.iter().flat_map(members).collect();
        let columns: Vec<[u64; COLUMN_WORDS]> = self
            .columns
            .iter()
            .map(|column| {
                let members = column.members.as_ref().map_or(0, |members| members.len() + 1);
                [column.feature as u64, column.missing.into(), members as u64, 0]
            })
            .collect();
        let (starts, weights): (&[u32], &[u8]) = match &self.leaves {
            PartsLeaves::Single(weights) => (&[], cast_slice(weights)),
            PartsLeaves::Lists { starts, weights } => (starts, cast_slice(weights)),
        };
        let header = Header {
            sizes: [size_of::<K>() as u64, size_of::<I>() as u64],
            targets: extents.targets as u64,
            features: extents.features as u64,
            nodes: self.nodes.len() as u64,
            trees: self.trees.len() as u64,
            columns: columns.len() as u64,
            members: members.len() as u64,
            starts: starts.len() as u64,
            weights: match &self.leaves {
                PartsLeaves::Single(weights) => weights.len() as u64,
                PartsLeaves::Lists { weights, .. } => weights.len() as u64,
            },
        };
        let (at, end) = header.sections().expect("what is in memory fits it");
        Buffer::build(end, |out| {
            out[..HEADER_WORDS * 8].copy_from_slice(cast_slice(&header.words()));
            out[at.nodes].copy_from_slice(cast_slice(&self.nodes));
            out[at.trees].copy_from_slice(cast_slice(&self.trees));
            out[at.columns].copy_from_slice(cast_slice(&columns));
            out[at.members].copy_from_slice(cast_slice(&members));
            out[at.starts].copy_from_slice(cast_slice(starts));
            out[at.weights].copy_from_slice(weights);
        })
    }
}

/// Trees in memory that was checked.
#[derive(Debug)]
pub(super) struct Stored<K, I> {
    bytes: Buffer,
    nodes: Range<usize>,
    trees: Range<usize>,
    columns: Vec<Column<K>>,
    starts: Range<usize>,
    weights: Range<usize>,
    index: PhantomData<I>,
}

impl<K: Key, I: Index> Stored<K, I>
where
    Node<K, I>: Pod,
{
    pub(super) fn bytes(&self) -> &Buffer {
        &self.bytes
    }

    pub(super) fn trees(&self) -> Trees<'_, K, I> {
        let starts: &[u32] = cast_slice(&self.bytes[self.starts.clone()]);
        let weights = &self.bytes[self.weights.clone()];
        Trees {
            nodes: cast_slice(&self.bytes[self.nodes.clone()]),
            trees: cast_slice(&self.bytes[self.trees.clone()]),
            columns: &self.columns,
            leaves: match starts.is_empty() {
                true => Leaves::Single(cast_slice(weights)),
                false => Leaves::Lists { starts, weights: cast_slice(weights) },
            },
        }
    }

    fn open(bytes: Buffer, header: &Header, at: Sections) -> Result<Stored<K, I>, ForestError> {
        let columns = columns(&bytes, header, &at)?;
        let Sections { nodes, trees, starts, weights, .. } = at;
        let stored = Stored { bytes, nodes, trees, columns, starts, weights, index: PhantomData };
        stored.check_walks()?;
        stored.check_leaves(header.targets)?;
        Ok(stored)
    }

    /// Roots, steps and columns lead to nodes and columns, and walks end at leaves.
    fn check_walks(&self) -> Result<(), ForestError> {
        let trees = self.trees();
        let count = trees.nodes.len();
        let sound = |(at, node): (usize, &Node<K, I>)| {
            let (column, step) = (node.column.get(), node.step.get());
            let stays = step == 0 && node.threshold == K::HIGHEST;
            let leads = step > 0 && step < count - at - 1;
            (stays || leads) && column.is_multiple_of(LANES) && column / LANES < trees.columns.len()
        };
        let rooted = |tree: &Tree| tree.root < count as u64 && tree.depth <= count as u64;
        match trees.nodes.iter().enumerate().all(sound) && trees.trees.iter().all(rooted) {
            true => Ok(()),
            false => Err(ForestError::Damaged("a node leads nowhere")),
        }
    }

    /// Every node has weights, and they are for targets.
    fn check_leaves(&self, targets: u64) -> Result<(), ForestError> {
        let trees = self.trees();
        let count = trees.nodes.len();
        let sound = match trees.leaves {
            Leaves::Single(weights) => weights.len() == count && targets == 1,
            Leaves::Lists { starts, weights } => {
                starts.len() == count + 1
                    && starts.is_sorted()
                    && starts.last().is_some_and(|&last| last as usize <= weights.len())
                    && weights.iter().all(|weight| u64::from(weight.target) < targets)
            }
        };
        if sound { Ok(()) } else { Err(ForestError::Damaged("a leaf's weights are missing")) }
    }
}

fn columns<K: Key>(
    bytes: &Buffer,
    header: &Header,
    at: &Sections,
) -> Result<Vec<Column<K>>, ForestError> {
    let damaged = || ForestError::Damaged("a column is not one");
    let mut members: &[K] = cast_slice(&bytes[at.members.clone()]);
    let words: &[[u64; COLUMN_WORDS]] = cast_slice(&bytes[at.columns.clone()]);
    let column = |&[feature, missing, count, _]: &[u64; COLUMN_WORDS]| {
        if feature >= header.features.max(1) {
            return Err(damaged());
        }
        let own = match usize::try_from(count).map_err(|_| damaged())?.checked_sub(1) {
            None => None,
            Some(count) => {
                let (own, rest) = members.split_at_checked(count).ok_or_else(damaged)?;
                members = rest;
                Some(own.to_vec())
            }
        };
        Ok(Column {
            feature: usize::try_from(feature).map_err(|_| damaged())?,
            missing: K::try_from(missing).map_err(|_| damaged())?,
            members: own,
        })
    };
    words.iter().map(column).collect()
}

impl Forest {
    /// The ensemble that [`Forest::bytes`] gave, sharing the memory. Bytes that were changed since
    /// give an error or wrong answers, nothing worse.
    pub fn open(bytes: Buffer) -> Result<Forest, ForestError> {
        let is_aligned = (bytes.as_ptr() as usize).is_multiple_of(ALIGNMENT);
        let bytes = if is_aligned { bytes } else { Buffer::copy_of(&bytes) };
        let header = Header::read(&bytes)?;
        let (at, end) = header.sections().ok_or(ForestError::Damaged("it is cut off"))?;
        if end != bytes.len() {
            return Err(ForestError::Damaged("it is cut off"));
        }
        let size = |value: u64| usize::try_from(value).map_err(|_| ForestError::TooLarge);
        let (targets, features) = (size(header.targets)?, size(header.features)?);
        if targets == 0 {
            return Err(ForestError::NoTargets);
        }
        if header.columns == 0 {
            return Err(ForestError::Damaged("it has no columns"));
        }
        let trees = size(header.trees)?;
        let layout = match header.sizes {
            [4, 2] => Layout::Narrow(Stored::open(bytes, &header, at)?),
            [4, 4] => Layout::Wide(Stored::open(bytes, &header, at)?),
            [8, 4] => Layout::Double(Stored::open(bytes, &header, at)?),
            _ => return Err(ForestError::Damaged("its layout is not known")),
        };
        Ok(Forest { layout, targets, trees, features })
    }
}
