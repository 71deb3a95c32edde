//! Constants in the layouts that kernels want, made once for each model or taken from a package.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use landfall_graph::ValueId;
use landfall_tensor::Tensor;

use crate::KernelError;

/// Packed constants by value and layout.
#[derive(Default)]
pub(crate) struct WeightCache {
    packed: Mutex<HashMap<(ValueId, &'static str), Tensor>>,
    /// Packed earlier, by [`key`]; consulted before packing.
    given: BTreeMap<String, Tensor>,
}

/// The name of a packed constant outside this process: stable for one graph.
fn key(id: ValueId, layout: &str) -> String {
    format!("{}.{layout}", id.index())
}

impl WeightCache {
    /// A cache that starts with constants packed earlier for the same graph.
    pub(crate) fn given(given: BTreeMap<String, Tensor>) -> WeightCache {
        WeightCache { packed: Mutex::default(), given }
    }

    /// The constant in that layout, packing it now if no plan has yet.
    pub(crate) fn get(
        &self,
        id: ValueId,
        layout: &'static str,
        pack: impl FnOnce() -> Result<Tensor, KernelError>,
    ) -> Result<Tensor, KernelError> {
        let mut packed = self.lock();
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

    /// Every constant in use, by a key that is stable for one graph.
    pub(crate) fn export(&self) -> BTreeMap<String, Tensor> {
        let packed = self.lock();
        packed.iter().map(|((id, layout), tensor)| (key(*id, layout), tensor.clone())).collect()
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().values().filter_map(Tensor::bytes).map(<[u8]>::len).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(ValueId, &'static str), Tensor>> {
        self.packed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
