//! Convolutions that run as one because what lies between them is wide.
//!
//! The last step of a chain does all the work; those before it stay in the plan, so that every node
//! has its line in reports, and do nothing.

use landfall_graph::ValueId;

use super::{Place, Planner, Work};
use crate::kernel::Convolution;
use crate::lower::chain::{Chain, Merged};

impl Planner<'_> {
    /// Merges every depthwise convolution that is worth it with the 1×1 convolutions around it.
    pub(super) fn merge_chains(&mut self) {
        let mut first = 0;
        while first < self.drafts.len() {
            let merged = [3, 2].into_iter().find(|&count| self.merge(first, count).is_some());
            first += merged.unwrap_or(1);
        }
    }

    /// Merges `count` steps; `None` if they are not a chain.
    fn merge(&mut self, first: usize, count: usize) -> Option<()> {
        let steps = first..first + count;
        let drafts = self.drafts.get(steps.clone())?;
        let together = drafts.iter().all(|draft| draft.region == drafts[0].region);
        let mut stages: Vec<Convolution> = Vec::with_capacity(count);
        let mut operands: Vec<Option<ValueId>> = Vec::with_capacity(count + 2);
        let mut between = Vec::with_capacity(count - 1);
        for (step, draft) in steps.clone().zip(drafts) {
            let Work::Kernel(kernel) = &draft.work else { return None };
            stages.push(kernel.convolution()?);
            let node = self.graph.node(draft.id)?;
            if step == first {
                operands.push(node.input(0));
            }
            operands.push(node.input(2));
            let residual = node.input(3);
            if step + 1 < steps.end {
                let &Place::Arena(result) = self.place(*node.outputs.first()?)? else {
                    return None;
                };
                let request = self.requests[result];
                let read_next = (request.first, request.last) == (step, step + 1);
                (residual.is_none() && read_next).then_some(())?;
                between.push(result);
            } else {
                operands.push(residual);
            }
            if let Some(before) = (step - first).checked_sub(1) {
                let left = between[before];
                let reads =
                    |id: ValueId| matches!(self.place(id), Some(Place::Arena(i)) if *i == left);
                let count = node.operands().filter(|&id| reads(id)).count();
                (count == 1 && node.input(0).is_some_and(reads)).then_some(())?;
            }
        }
        let chain = Chain::new(self.target.cpu, stages).filter(|_| together)?;
        let last = steps.end - 1;
        for id in operands.iter().flatten() {
            if let Some(&Place::Arena(i)) = self.place(*id) {
                self.requests[i].last = self.requests[i].last.max(last);
            }
        }
        between.iter().for_each(|&i| self.requests[i].bytes = 0);
        for step in first..last {
            let draft = &mut self.drafts[step];
            (draft.work, draft.operands) = (Work::Kernel(Box::new(Merged)), Some(Vec::new()));
        }
        let draft = &mut self.drafts[last];
        (draft.work, draft.operands) = (Work::Kernel(Box::new(chain)), Some(operands));
        Some(())
    }
}
