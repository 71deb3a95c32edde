//! `ZipMap`, the list of dictionaries that classical classifiers end in.
//!
//! Callers get the plain probabilities `[N, classes]` under the output's own name, and the labels
//! of the columns as metadata.

use landfall_graph::{Dim, Graph, NodeId, Op, ops};
use landfall_tensor::DType;

use super::{ClassLabels, Importer};
use crate::error::UnsupportedNode;

impl Importer<'_> {
    /// Removes every `ZipMap` whose result is only an output of the graph; lists the others.
    pub(super) fn resolve_zip_maps(&mut self, graph: &mut Graph) {
        let zip_maps: Vec<(NodeId, ops::ZipMap)> = graph
            .nodes()
            .filter_map(|(id, node)| match &node.op {
                Op::ZipMap(zip_map) => Some((id, zip_map.clone())),
                _ => None,
            })
            .collect();
        let consumers = if zip_maps.is_empty() { Vec::new() } else { graph.consumers() };
        for (id, zip_map) in zip_maps {
            let Some(node) = graph.node(id) else { continue };
            let (Some(source), Some(&output)) = (node.input(0), node.outputs.first()) else {
                continue;
            };
            if !consumers[output.index()].is_empty() || !graph.outputs.contains(&output) {
                self.unsupported.push(UnsupportedNode {
                    name: graph.value(output).name.clone(),
                    operator: "ZipMap".to_owned(),
                    domain: "ai.onnx.ml".to_owned(),
                    opset: None,
                    reason: "its result is supported only as an output of the model".to_owned(),
                });
                continue;
            }
            let classes = zip_map.classlabels_int64s.len().max(zip_map.classlabels_strings.len());
            let labels = match zip_map.classlabels_strings.is_empty() {
                true => ClassLabels::Ints(zip_map.classlabels_int64s),
                false => ClassLabels::Texts(zip_map.classlabels_strings),
            };
            self.class_labels.insert(graph.value(output).name.clone(), labels);
            let rows = match graph.value(source).dims.as_deref() {
                Some([rows, _]) => rows.clone(),
                _ => Dim::Unknown,
            };
            let value = graph.value_mut(output);
            value.dtype = Some(DType::F32);
            value.dims = Some(vec![rows, Dim::Known(classes)]);
            graph.replace_uses(output, source);
            graph.remove_node(id);
        }
    }
}
