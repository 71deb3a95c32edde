//! Why a model cannot be imported.

use std::fmt;
use std::path::PathBuf;

use crate::Imported;

/// An error of [`crate::import_file`] and its siblings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A file cannot be opened or mapped.
    #[error("cannot read '{}': {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said; part of the text, so no source of it.
        error: std::io::Error,
    },
    /// The bytes are not a model, or contradict themselves.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The model is well-formed, but holds nodes that Landfall cannot represent: all of them.
    #[error("{}", list(.nodes))]
    Unsupported {
        /// Each of them.
        nodes: Vec<UnsupportedNode>,
        /// The model without them: nothing computes what they give. For people to look at.
        rest: Box<Imported>,
    },
}

/// What is wrong with a model's bytes, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// From the model inwards: `graph.nodes[3].attributes[0].ints`.
    pub path: String,
    /// What was expected and what was found.
    pub problem: String,
}

impl Malformed {
    pub(crate) fn new(problem: impl Into<String>) -> Malformed {
        Malformed { path: String::new(), problem: problem.into() }
    }

    /// The same problem, seen from one level further out.
    pub(crate) fn within(mut self, segment: impl fmt::Display) -> Malformed {
        let inner = std::mem::take(&mut self.path);
        let joint = if inner.is_empty() || inner.starts_with('[') { "" } else { "." };
        self.path = format!("{segment}{joint}{inner}");
        self
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the model is malformed: ")?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Malformed {}

/// One node, input or output that Landfall cannot represent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsupportedNode {
    /// The node's name; its first output's if it has none.
    pub name: String,
    /// Operator, or `graph input` and `graph output`.
    pub operator: String,
    /// Operator domain.
    pub domain: String,
    /// Version of the domain's operator set that the model imports, if it imports one.
    pub opset: Option<i64>,
    /// What exactly is not supported.
    pub reason: String,
}

impl fmt::Display for UnsupportedNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}': {}.{}", self.name, self.domain, self.operator)?;
        if let Some(opset) = self.opset {
            write!(f, " of opset {opset}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

fn list(nodes: &[UnsupportedNode]) -> String {
    let mut text = match nodes.len() {
        1 => "1 node is not supported:".to_owned(),
        n => format!("{n} nodes are not supported:"),
    };
    for node in nodes {
        text.push_str(&format!("\n  {node}"));
    }
    text
}

/// Why one node cannot be imported.
#[derive(Debug)]
pub(crate) enum NodeError {
    /// Listed, and the import goes on to find the others.
    Unsupported(String),
    /// Ends the import.
    Fatal(Malformed),
}

impl From<Malformed> for NodeError {
    fn from(error: Malformed) -> NodeError {
        NodeError::Fatal(error)
    }
}

impl From<String> for NodeError {
    fn from(reason: String) -> NodeError {
        NodeError::Unsupported(reason)
    }
}
