//! Graph to text.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;
use std::sync::Arc;

use landfall_tensor::{DType, Element, Shape, Tensor};

use super::INDEXED_TEXT_BYTES_MAX;
use crate::attribute::{Attribute, Attributes};
use crate::{Dim, Graph, Node, Op, Origin, ValueId};

/// Constants of more elements than this go to the table.
const INLINE_ELEMENTS: usize = 16;

/// Attributes that are lists of more elements than this go to the table.
const LIST_ELEMENTS: usize = 64;

/// A graph as text, and the tensors that the text refers to as `@index`.
#[derive(Debug, Clone)]
pub struct Printed {
    /// The text.
    pub text: String,
    /// The tensors too large to stand in the text.
    pub constants: Vec<Tensor>,
}

/// Prints a graph. Nodes come in schedule order, or in insertion order if the graph has a cycle.
/// Unused constants are left out.
pub fn print(graph: &Graph) -> Printed {
    let mut printer = Printer { text: String::new(), constants: Vec::new(), indent: 0 };
    printer.graph(graph);
    printer.text.push('\n');
    Printed { text: printer.text, constants: printer.constants }
}

/// An operator with its attributes, such as `Softmax {axis=1}`; long lists are left out.
pub fn print_op(op: &Op) -> String {
    let mut printer = Printer { text: op.name().to_owned(), constants: Vec::new(), indent: 0 };
    printer.attributes(&op.attributes());
    printer.text
}

struct Printer {
    text: String,
    constants: Vec<Tensor>,
    indent: usize,
}

impl Printer {
    fn line(&mut self) {
        self.text.push('\n');
        for _ in 0..self.indent {
            self.text.push_str("  ");
        }
    }

    fn push(&mut self, args: std::fmt::Arguments<'_>) {
        self.text.write_fmt(args).expect("writing to a string cannot fail");
    }

    fn graph(&mut self, graph: &Graph) {
        let names = Names::of(graph);
        self.push(format_args!("graph {} {{", quoted(&graph.name)));
        self.indent += 1;
        for &input in &graph.inputs {
            self.line();
            self.text.push_str("input ");
            self.declaration(graph, &names, input);
        }
        self.constants(graph, &names);
        let nodes: Vec<&Node> = match graph.schedule() {
            Ok(order) => order.iter().filter_map(|&id| graph.node(id)).collect(),
            Err(_) => graph.nodes().map(|(_, node)| node).collect(),
        };
        for node in nodes {
            self.line();
            self.node(graph, &names, node);
        }
        for &output in &graph.outputs {
            self.line();
            self.push(format_args!("output {}", names.get(output)));
        }
        self.indent -= 1;
        self.line();
        self.text.push('}');
    }

    fn constants(&mut self, graph: &Graph, names: &Names) {
        let mut used = vec![false; graph.value_count()];
        for id in graph.nodes().flat_map(|(_, node)| node.operands()).chain(graph.outputs.clone()) {
            used[id.index()] = true;
        }
        for (id, value) in graph.values() {
            if let (Origin::Constant(tensor), true) = (&value.origin, used[id.index()]) {
                self.line();
                self.push(format_args!("const {}: ", names.get(id)));
                self.tensor(tensor);
            }
        }
    }

    fn declaration(&mut self, graph: &Graph, names: &Names, id: ValueId) {
        let value = graph.value(id);
        self.text.push_str(&names.get(id));
        if value.dtype.is_none() && value.dims.is_none() {
            return;
        }
        let dtype = value.dtype.map_or("?", DType::name);
        self.push(format_args!(": {dtype}{}", dims_text(value.dims.as_deref())));
    }

    fn node(&mut self, graph: &Graph, names: &Names, node: &Node) {
        for (i, &output) in node.outputs.iter().enumerate() {
            if i > 0 {
                self.text.push_str(", ");
            }
            self.declaration(graph, names, output);
        }
        self.text.push_str(" = ");
        if node.op.domain() != "ai.onnx" {
            self.push(format_args!("{}.", node.op.domain()));
        }
        self.push(format_args!("{}(", node.op.name()));
        for (i, input) in node.inputs.iter().enumerate() {
            if i > 0 {
                self.text.push_str(", ");
            }
            match input {
                Some(id) => self.text.push_str(&names.get(*id)),
                None => self.text.push('_'),
            }
        }
        self.text.push(')');
        self.attributes(&node.op.attributes());
        if !node.name.is_empty() {
            self.push(format_args!(" {}", quoted(&node.name)));
        }
    }

    fn attributes(&mut self, attributes: &Attributes) {
        for (i, (name, value)) in attributes.iter().enumerate() {
            self.text.push_str(if i == 0 { " {" } else { ", " });
            self.push(format_args!("{name}="));
            match value {
                Attribute::Int(v) => self.push(format_args!("{v}")),
                Attribute::Float(v) => self.push(format_args!("{v:?}")),
                Attribute::Text(v) => self.text.push_str(&quoted(v)),
                Attribute::Ints(v) => self.numbers(v, i64::to_string),
                Attribute::Floats(v) => self.numbers(v, |x| format!("{x:?}")),
                Attribute::Texts(v) => self.texts(v),
                Attribute::Tensor(tensor) => self.tensor(tensor),
                Attribute::Graph(graph) => self.graph(graph),
            }
        }
        if !attributes.is_empty() {
            self.text.push('}');
        }
    }

    fn list(&mut self, items: impl Iterator<Item = String>) {
        let items: Vec<String> = items.collect();
        self.push(format_args!("[{}]", items.join(", ")));
    }

    fn numbers<T: Element>(&mut self, numbers: &[T], print: impl Fn(&T) -> String) {
        let shape = Shape::from([numbers.len()]);
        if numbers.len() > LIST_ELEMENTS
            && let Ok(table) = Tensor::from_slice(shape, numbers)
        {
            self.push(format_args!("[@{}]", self.constants.len()));
            self.constants.push(table);
        } else {
            self.list(numbers.iter().map(print));
        }
    }

    /// A long list of few different texts is these, and for every element the index of its text.
    fn texts(&mut self, texts: &[Arc<str>]) {
        let distinct: BTreeSet<&str> = texts.iter().map(|text| &**text).collect();
        let is_short = distinct.iter().all(|text| text.len() <= INDEXED_TEXT_BYTES_MAX);
        let is_few = distinct.len() <= usize::from(u8::MAX) && texts.len() > LIST_ELEMENTS;
        if !(is_few && is_short) {
            return self.list(texts.iter().map(|text| quoted(text)));
        }
        let codes: BTreeMap<&str, u8> = distinct.into_iter().zip(0..).collect();
        let indices: Vec<u8> = texts.iter().map(|text| codes[&**text]).collect();
        self.list(codes.keys().map(|text| quoted(text)));
        self.numbers(&indices, u8::to_string);
    }

    fn tensor(&mut self, tensor: &Tensor) {
        self.push(format_args!("{}{} = ", tensor.dtype(), tensor.shape()));
        match inline(tensor) {
            Some(items) => self.list(items.into_iter()),
            None => {
                self.push(format_args!("@{}", self.constants.len()));
                self.constants.push(tensor.clone());
            }
        }
    }
}

/// The elements of a small constant as text that reads back to the same bits.
fn inline(tensor: &Tensor) -> Option<Vec<String>> {
    fn all<T: ToString>(items: &[T]) -> Option<Vec<String>> {
        Some(items.iter().map(T::to_string).collect())
    }
    if tensor.elements() > INLINE_ELEMENTS {
        return None;
    }
    let tensor = tensor.aligned();
    match tensor.dtype() {
        DType::F32 => {
            let items = tensor.as_slice::<f32>().ok()?;
            let exact = items.iter().all(|x| !x.is_nan());
            exact.then(|| items.iter().map(|x| format!("{x:?}")).collect())
        }
        DType::F64 => {
            let items = tensor.as_slice::<f64>().ok()?;
            let exact = items.iter().all(|x| !x.is_nan());
            exact.then(|| items.iter().map(|x| format!("{x:?}")).collect())
        }
        DType::I64 => all(tensor.as_slice::<i64>().ok()?),
        DType::I32 => all(tensor.as_slice::<i32>().ok()?),
        DType::I8 => all(tensor.as_slice::<i8>().ok()?),
        DType::U8 | DType::Bool => all(tensor.as_slice::<u8>().ok()?),
        DType::String => Some(tensor.strings().ok()?.iter().map(|s| quoted(s)).collect()),
        _ => None,
    }
}

pub(super) fn dims_text(dims: Option<&[Dim]>) -> String {
    let Some(dims) = dims else { return "[*]".to_owned() };
    let items: Vec<String> = dims
        .iter()
        .map(|dim| match dim {
            Dim::Symbol(name) if !plain(name) && !dim.is_given() => quoted(name),
            other => other.to_string(),
        })
        .collect();
    format!("[{}]", items.join(","))
}

fn plain(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
        && name != "_"
}

pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The printed name of every value: its own if unique, else its number.
struct Names(Vec<Option<String>>);

impl Names {
    fn of(graph: &Graph) -> Names {
        let mut taken = HashSet::new();
        let mut names = vec![None; graph.value_count()];
        let signature = graph.inputs.iter().chain(&graph.outputs).copied();
        for id in signature.chain(graph.values().map(|(id, _)| id)) {
            let name = &graph.value(id).name;
            if names[id.index()].is_none() && !name.is_empty() && taken.insert(name.as_str()) {
                let text =
                    if plain(name) { format!("%{name}") } else { format!("%{}", quoted(name)) };
                names[id.index()] = Some(text);
            }
        }
        Names(names)
    }

    fn get(&self, id: ValueId) -> String {
        self.0[id.index()].clone().unwrap_or_else(|| format!("%#{}", id.index()))
    }
}
