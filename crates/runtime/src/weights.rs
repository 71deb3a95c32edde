//! Constants in the layouts that kernels want, made once for each model.

use std::collections::HashMap;
use std::sync::Mutex;

use landfall_graph::ValueId;
use landfall_tensor::Tensor;

use crate::KernelError;

/// Packed constants by value and layout.
#[derive(Default)]
pub(crate) struct WeightCache {
    packed: Mutex<HashMap<(ValueId, &'static str), Tensor>>,
}

impl WeightCache {
    /// The constant in that layout, packing it now if no plan has yet.
    pub(crate) fn get(
        &self,
        id: ValueId,
        layout: &'static str,
        pack: impl FnOnce() -> Result<Tensor, KernelError>,
    ) -> Result<Tensor, KernelError> {
        let mut packed = match self.packed.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        };
        if let Some(tensor) = packed.get(&(id, layout)) {
            return Ok(tensor.clone());
        }
        let tensor = pack()?;
        packed.insert((id, layout), tensor.clone());
        Ok(tensor)
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        let packed = match self.packed.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        };
        packed.values().filter_map(Tensor::bytes).map(<[u8]>::len).sum()
    }
}
