//! From a model's bytes to a graph.
//!
//! Steps: decode the messages (`proto`), resolve names scope by scope (`scope`, `graph`), make
//! sub-graphs closed (`body`), inline functions (`function`), bring every node to the newest
//! operator set (`node` with the rules of [`crate::upgrade`]).

mod body;
mod function;
mod graph;
mod node;
mod scope;
mod sequence;
mod zip_map;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;
use std::rc::Rc;

use landfall_graph::{Graph, verify};
use landfall_tensor::{Buffer, FileAccess, Tensor};

use crate::error::{ImportError, Malformed, NodeError, UnsupportedNode};
use crate::external::External;
use crate::proto;
use crate::tensor::TensorReader;
use crate::wire::Source;

/// Sub-graphs and functions nested deeper than this are refused.
const MAX_DEPTH: usize = 32;

/// Bytes of node messages that may be imported; a function's count again at each call.
const MAX_NODE_BYTES: usize = 1 << 30;

/// A model as Landfall sees it.
#[derive(Debug, Clone)]
pub struct Imported {
    /// What the model computes.
    pub graph: Graph,
    /// What the file says about the model.
    pub metadata: Metadata,
}

/// What a model's file says about the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The program that wrote the file.
    pub producer: String,
    /// That program's version.
    pub producer_version: String,
    /// Version of the file format.
    pub ir_version: i64,
    /// Version of each operator domain; the standard one is `ai.onnx`.
    pub opsets: BTreeMap<String, i64>,
    /// The author's version of the model.
    pub model_version: i64,
    /// The author's domain.
    pub domain: String,
    /// The author's description.
    pub description: String,
    /// The author's own entries.
    pub properties: BTreeMap<String, String>,
    /// For each output that was a `ZipMap`: the labels of its columns.
    pub class_labels: BTreeMap<String, ClassLabels>,
}

/// Labels of the columns `[N, classes]` of a classifier's probabilities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClassLabels {
    /// Integers.
    Ints(Vec<i64>),
    /// Texts.
    Texts(Vec<String>),
}

/// Imports the model at `path`, which is mapped, not read. External data must lie beside it.
pub fn import_file(path: impl AsRef<Path>) -> Result<Imported, ImportError> {
    import_file_with(path, FileAccess::Mapped)
}

/// Imports the model at `path`. External data, which must lie beside it, is accessed in the same
/// way.
pub fn import_file_with(
    path: impl AsRef<Path>,
    access: FileAccess,
) -> Result<Imported, ImportError> {
    let path = path.as_ref();
    let unreadable = |error| ImportError::File { path: path.to_owned(), error };
    let file = File::open(path).map_err(unreadable)?;
    let buffer = Buffer::of_file(&file, access).map_err(unreadable)?;
    import(buffer, External::beside(path, access).map_err(unreadable)?)
}

/// Imports a model from memory, which the graph's constants go on sharing. Models with external
/// data need [`import_file`].
pub fn import_bytes(bytes: Buffer) -> Result<Imported, ImportError> {
    import(bytes, External::default())
}

/// Reads a `TensorProto`, the form in which ONNX stores test data.
pub fn tensor_from_proto(bytes: &[u8]) -> Result<Tensor, ImportError> {
    let source = Source::new(bytes);
    let proto = proto::Tensor::read(source.root())?;
    let mut reader = TensorReader::new(Buffer::copy_of(bytes), External::default());
    reader.read(&proto).map_err(|error| match error {
        NodeError::Fatal(error) => ImportError::Malformed(error),
        NodeError::Unsupported(reason) => ImportError::Malformed(Malformed::new(reason)),
    })
}

fn import(file: Buffer, external: External) -> Result<Imported, ImportError> {
    let bytes = file.clone();
    let source = Source::new(&bytes);
    let model = proto::Model::read(source.root())?;
    let Some(graph) = &model.graph else {
        return Err(Malformed::new("there is no graph: is this an ONNX model?").into());
    };
    let opsets = Rc::new(scope::Opsets::of_model(&model)?);
    let mut importer = Importer::new(&model, TensorReader::new(file, external))?;
    let graph = importer.model_graph(graph, opsets.clone())?;
    let metadata = metadata(&model, &opsets, importer.class_labels);
    let nodes = importer.unsupported;
    if !nodes.is_empty() {
        let rest = Box::new(Imported { graph, metadata });
        return Err(ImportError::Unsupported { nodes, rest });
    }
    verify(&graph).map_err(|error| Malformed::new(error.to_string()))?;
    Ok(Imported { graph, metadata })
}

fn metadata(
    model: &proto::Model<'_>,
    opsets: &scope::Opsets,
    class_labels: BTreeMap<String, ClassLabels>,
) -> Metadata {
    let entry = |e: &proto::Entry<'_>| (e.key.to_owned(), e.value.to_owned());
    Metadata {
        producer: model.producer_name.to_owned(),
        producer_version: model.producer_version.to_owned(),
        ir_version: model.ir_version,
        opsets: opsets.versions(),
        model_version: model.model_version,
        domain: model.domain.to_owned(),
        description: model.doc_string.to_owned(),
        properties: model.metadata_props.iter().map(entry).collect(),
        class_labels,
    }
}

/// What is shared by all graphs of one model.
struct Importer<'m> {
    functions: HashMap<function::Key<'m>, &'m proto::Function<'m>>,
    tensors: TensorReader,
    /// Tensors of nodes by their place in the file: a function's are read once, not per call.
    attribute_tensors: HashMap<usize, Tensor>,
    unsupported: Vec<UnsupportedNode>,
    class_labels: BTreeMap<String, ClassLabels>,
    node_bytes_left: usize,
}

impl<'m> Importer<'m> {
    fn new(model: &'m proto::Model<'m>, tensors: TensorReader) -> Result<Self, Malformed> {
        Ok(Importer {
            functions: function::table(model)?,
            tensors,
            attribute_tensors: HashMap::new(),
            unsupported: Vec::new(),
            class_labels: BTreeMap::new(),
            node_bytes_left: MAX_NODE_BYTES,
        })
    }

    /// Counts a node's message against the model's bound.
    fn charge(&mut self, node: &proto::Node<'_>) -> Result<(), Malformed> {
        let bytes = node.body.range().len() + 1;
        let left = self.node_bytes_left.checked_sub(bytes);
        self.node_bytes_left = left.ok_or_else(|| {
            Malformed::new(format!("inlined functions exceed {MAX_NODE_BYTES} bytes of nodes"))
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
