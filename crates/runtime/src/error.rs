//! What can go wrong while compiling and running, with the node it concerns.

use landfall_graph::infer::InferError;
use landfall_tensor::TensorError;

/// Why an operator cannot run on these operands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// There is no kernel for the operator, or none for these datatypes or this rank.
    #[error("{0}")]
    Unsupported(String),
    /// The operands' values or shapes break the operator's contract.
    #[error("{0}")]
    Invalid(String),
    /// Shapes do not fit together.
    #[error(transparent)]
    Shape(#[from] InferError),
    /// A tensor is not of the expected kind. Between kernels this is always a bug of Landfall.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The results would need more memory than a run may use.
    #[error("needs at least {needed} bytes of memory, the limit of a run is {limit}")]
    Memory {
        /// Bytes needed.
        needed: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// An error inside a sub-graph.
    #[error("in {body}: {error}")]
    Body {
        /// Which body.
        body: &'static str,
        /// What went wrong in it.
        error: Box<RunError>,
    },
}

impl KernelError {
    /// An error about missing support, as a result.
    pub fn unsupported<T>(message: impl Into<String>) -> Result<T, KernelError> {
        Err(KernelError::Unsupported(message.into()))
    }

    /// An error about bad operands, as a result.
    pub fn invalid<T>(message: impl Into<String>) -> Result<T, KernelError> {
        Err(KernelError::Invalid(message.into()))
    }
}

/// An error at a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node '{node}' ({op}): {error}")]
pub struct NodeError {
    /// The node's name, or the name of its first result if it has none.
    pub node: String,
    /// Its operator.
    pub op: &'static str,
    /// What went wrong.
    pub error: KernelError,
}

/// Why a graph cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// The graph itself is broken.
    #[error(transparent)]
    Graph(#[from] landfall_graph::VerifyError),
    /// Every node that has no kernel.
    #[error("{} unsupported node(s):{}", .0.len(), list(.0))]
    Unsupported(Vec<NodeError>),
    /// The system refused threads.
    #[error("cannot start {0} threads: {1}")]
    Threads(usize, String),
}

fn list(nodes: &[NodeError]) -> String {
    nodes.iter().map(|node| format!("\n  {node}")).collect()
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The inputs do not fit the signature: the caller's fault.
    #[error("{0}")]
    Input(String),
    /// A node failed on these inputs.
    #[error(transparent)]
    Node(#[from] Box<NodeError>),
    /// The memory that the shapes need exceeds the limit.
    #[error("the run needs at least {needed} bytes of working memory, the limit is {limit}")]
    Memory {
        /// Bytes needed.
        needed: usize,
        /// Bytes allowed.
        limit: usize,
    },
}
