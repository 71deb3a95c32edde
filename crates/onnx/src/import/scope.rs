//! What names mean at one place of a model.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use landfall_graph::{Dim, Graph, ValueId};
use landfall_tensor::DType;

use super::sequence::Sequences;
use crate::dtype;
use crate::error::Malformed;
use crate::proto;
use crate::tensor::shape_of;
use crate::upgrade::NEWEST;

/// The name by which the standard domain is known: its empty name stands for `ai.onnx`.
pub(super) fn domain_name(domain: &str) -> &str {
    if domain.is_empty() { "ai.onnx" } else { domain }
}

/// The operator-set versions that a model or a function imports.
pub(super) struct Opsets(BTreeMap<String, i64>);

impl Opsets {
    pub(super) fn new(imports: &[proto::OperatorSet<'_>]) -> Result<Opsets, Malformed> {
        let mut versions = BTreeMap::new();
        for import in imports {
            let domain = domain_name(import.domain);
            let newest = NEWEST.iter().find(|(d, _)| *d == domain);
            if let Some((_, newest)) = newest.filter(|(_, newest)| import.version > *newest) {
                return Err(Malformed::new(format!(
                    "opset {} of {domain} is newer than {newest}, the newest that is known: \
                     export the model with opset {newest} or older",
                    import.version
                )));
            }
            if import.version < 1 {
                return Err(Malformed::new(format!("{} is no opset version", import.version)));
            }
            versions.insert(domain.to_owned(), import.version);
        }
        Ok(Opsets(versions))
    }

    /// A model without imports predates operator sets: it means version 1.
    pub(super) fn of_model(model: &proto::Model<'_>) -> Result<Opsets, Malformed> {
        let opsets = Opsets::new(&model.opset_import);
        let mut opsets = opsets.map_err(|error| error.within("opset_import"))?;
        if opsets.0.is_empty() {
            opsets.0.insert("ai.onnx".to_owned(), 1);
        }
        Ok(opsets)
    }

    pub(super) fn get(&self, domain: &str) -> Option<i64> {
        self.0.get(domain).copied()
    }

    pub(super) fn versions(&self) -> BTreeMap<String, i64> {
        self.0.clone()
    }
}

/// The meaning of names inside one graph or one call of a function.
pub(super) struct Scope<'m> {
    /// Values by name; `None` is an optional parameter that a call leaves out.
    names: HashMap<&'m str, Option<ValueId>>,
    /// Types that the model declares in advance.
    declared: HashMap<&'m str, &'m proto::Type<'m>>,
    /// Attributes given to the function around.
    pub(super) arguments: Rc<HashMap<&'m str, &'m proto::Attribute<'m>>>,
    pub(super) opsets: Rc<Opsets>,
    /// Sequences of this graph; functions inside share them.
    pub(super) sequences: Rc<RefCell<Sequences>>,
    /// Stands before the names of values inside a function.
    pub(super) prefix: String,
    /// Graphs and functions around.
    pub(super) depth: usize,
}

impl<'m> Scope<'m> {
    pub(super) fn root(opsets: Rc<Opsets>) -> Scope<'m> {
        Scope {
            names: HashMap::new(),
            declared: HashMap::new(),
            arguments: Rc::default(),
            opsets,
            sequences: Rc::default(),
            prefix: String::new(),
            depth: 0,
        }
    }

    /// An empty scope one level further in.
    pub(super) fn inner(&self) -> Result<Scope<'m>, Malformed> {
        if self.depth >= super::MAX_DEPTH {
            let limit = super::MAX_DEPTH;
            let problem = format!("sub-graphs and functions nest more than {limit} deep");
            return Err(Malformed::new(problem));
        }
        Ok(Scope {
            names: HashMap::new(),
            declared: HashMap::new(),
            arguments: self.arguments.clone(),
            opsets: self.opsets.clone(),
            sequences: self.sequences.clone(),
            prefix: self.prefix.clone(),
            depth: self.depth + 1,
        })
    }

    pub(super) fn declare(&mut self, values: &'m [proto::ValueInfo<'m>]) {
        let typed = values.iter().filter_map(|v| Some((v.name, v.r#type.as_deref()?)));
        self.declared.extend(typed);
    }

    pub(super) fn get(&self, name: &str) -> Option<Option<ValueId>> {
        self.names.get(name).copied()
    }

    /// Binds a name; a name has one meaning in its scope.
    pub(super) fn bind(&mut self, name: &'m str, id: Option<ValueId>) -> Result<(), Malformed> {
        match self.names.insert(name, id) {
            None => Ok(()),
            Some(_) => Err(Malformed::new(format!("value '{name}' is defined twice"))),
        }
    }

    /// A new value for a node to define, with the type declared for its name.
    pub(super) fn define(
        &mut self,
        graph: &mut Graph,
        name: &'m str,
    ) -> Result<ValueId, Malformed> {
        let id = graph.add_detached(format!("{}{name}", self.prefix));
        if let Some(declared) = self.declared.get(name) {
            annotate(graph, id, declared);
        }
        self.bind(name, Some(id))?;
        Ok(id)
    }
}

/// Fills what is not known of a value's type. Declarations that make no sense are left out: they
/// are hints.
pub(super) fn annotate(graph: &mut Graph, id: ValueId, declared: &proto::Type<'_>) {
    let Ok((dtype, dims)) = tensor_type(declared) else { return };
    let value = graph.value_mut(id);
    value.dtype = value.dtype.or(dtype);
    if value.dims.is_none() {
        value.dims = dims;
    }
}

/// Datatype and extents of a declared type; the error is a reason.
pub(super) fn tensor_type(
    declared: &proto::Type<'_>,
) -> Result<(Option<DType>, Option<Vec<Dim>>), String> {
    let others = [
        (&declared.sequence, "a sequence"),
        (&declared.map, "a map"),
        (&declared.opaque, "opaque"),
        (&declared.sparse_tensor, "a sparse tensor"),
        (&declared.optional, "optional"),
    ];
    if let Some((_, kind)) = others.iter().find(|(field, _)| field.is_some()) {
        return Err(format!("its type is {kind}; only tensors are supported"));
    }
    let Some(tensor) = &declared.tensor else { return Ok((None, None)) };
    let dtype = match tensor.elem_type {
        0 => None,
        code => Some(dtype::from_code(code)?),
    };
    let dims = match &tensor.shape {
        None => None,
        Some(shape) => Some(dims(&shape.dim)?),
    };
    Ok((dtype, dims))
}

fn dims(declared: &[proto::Dimension<'_>]) -> Result<Vec<Dim>, String> {
    let known: Vec<i64> = declared.iter().map(|dim| dim.dim_value.unwrap_or(1).max(0)).collect();
    shape_of(&known).map_err(|error| error.to_string())?;
    let dim = |dim: &proto::Dimension<'_>| match dim.dim_value.map(usize::try_from) {
        Some(Ok(extent)) => Dim::Known(extent),
        // Exporters write -1 for an extent that they do not know.
        Some(Err(_)) => Dim::Unknown,
        None if dim.dim_param.is_empty() => Dim::Unknown,
        None => Dim::Symbol(dim.dim_param.into()),
    };
    Ok(declared.iter().map(dim).collect())
}
