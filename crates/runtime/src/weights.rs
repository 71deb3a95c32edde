//! Constants and trees in the layouts that kernels want, made once for each model or taken from a
//! package.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use landfall_graph::ValueId;
use landfall_tensor::Tensor;

use crate::KernelError;

/// What a node's attributes became, and its size in bytes.
type Compiled = (Arc<dyn Any + Send + Sync>, usize);

/// Packed constants by value and layout, packed attributes by the node's first result and layout,
/// and compiled attributes by the node's first result.
#[derive(Default)]
pub(crate) struct WeightCache {
    packed: Mutex<HashMap<(ValueId, &'static str), Tensor>>,
    /// Packed earlier, by [`key`]; consulted before packing.
    given: BTreeMap<String, Tensor>,
    compiled: Mutex<HashMap<(ValueId, TypeId), Compiled>>,
    /// Aligned copies of constants that lie across their alignment in a file, by address.
    aligned: Mutex<HashMap<usize, Tensor>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of a packed constant outside this process: stable for one graph.
fn key(id: ValueId, layout: &str) -> String {
    format!("{}.{layout}", id.index())
}

impl WeightCache {
    /// A cache that starts with constants packed earlier for the same graph.
    pub(crate) fn given(given: BTreeMap<String, Tensor>) -> WeightCache {
        WeightCache { given, ..WeightCache::default() }
    }

    /// The constant in that layout, packing it now if no plan has yet.
    pub(crate) fn get(
        &self,
        id: ValueId,
        layout: &'static str,
        pack: impl FnOnce() -> Result<Tensor, KernelError>,
    ) -> Result<Tensor, KernelError> {
        let mut packed = lock(&self.packed);
        if let Some(tensor) = packed.get(&(id, layout)) {
            return Ok(tensor.clone());
        }
        let tensor = match self.given.get(&key(id, layout)) {
            Some(tensor) => tensor.aligned(),
            None => pack()?,
        };
        packed.insert((id, layout), tensor.clone());
        Ok(tensor)
    }

    /// A constant of the graph as kernels read it: itself, or an aligned copy that plans share.
    pub(crate) fn aligned(&self, constant: &Tensor) -> Tensor {
        let Some(bytes) = constant.bytes() else { return constant.clone() };
        let address = bytes.as_ptr().addr();
        if address.is_multiple_of(constant.dtype().size()) {
            return constant.clone();
        }
        let copy = || {
            let copy = constant.aligned();
            constant.release();
            copy
        };
        lock(&self.aligned).entry(address).or_insert_with(copy).clone()
    }

    /// How many constants have aligned copies.
    #[cfg(test)]
    pub(crate) fn aligned_copies(&self) -> usize {
        lock(&self.aligned).len()
    }

    /// Every constant in use, by a key that is stable for one graph.
    pub(crate) fn export(&self) -> BTreeMap<String, Tensor> {
        let packed = lock(&self.packed);
        packed.iter().map(|((id, layout), tensor)| (key(*id, layout), tensor.clone())).collect()
    }

    /// What the attributes of a node become, making it now if no plan has yet; `make` gives its
    /// size in bytes too.
    pub(crate) fn compiled<T: Send + Sync + 'static>(
        &self,
        result: ValueId,
        make: impl FnOnce() -> Result<(T, usize), KernelError>,
    ) -> Result<Arc<T>, KernelError> {
        let mut compiled = lock(&self.compiled);
        let key = (result, TypeId::of::<T>());
        let found = compiled.get(&key).and_then(|(any, _)| any.clone().downcast().ok());
        if let Some(found) = found {
            return Ok(found);
        }
        let (made, bytes) = make()?;
        let made = Arc::new(made);
        compiled.insert(key, (made.clone(), bytes));
        Ok(made)
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        let tensors: usize =
            lock(&self.packed).values().filter_map(Tensor::bytes).map(<[u8]>::len).sum();
        tensors + lock(&self.compiled).values().map(|(_, bytes)| bytes).sum::<usize>()
    }
}
