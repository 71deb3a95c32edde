//! Functions that a model brings along: every call is replaced by the function's nodes.

use std::collections::HashMap;
use std::rc::Rc;

use landfall_graph::{Graph, Op};

use super::Importer;
use super::scope::{Opsets, Scope, domain_name};
use crate::error::Malformed;
use crate::proto;

/// Domain, name and overload.
pub(super) type Key<'m> = (&'m str, &'m str, &'m str);

/// The functions of a model.
pub(super) fn table<'m>(
    model: &'m proto::Model<'m>,
) -> Result<HashMap<Key<'m>, &'m proto::Function<'m>>, Malformed> {
    let mut functions = HashMap::new();
    for function in &model.functions {
        let key = (domain_name(function.domain), function.name, function.overload);
        if functions.insert(key, function).is_some() {
            return Err(Malformed::new(format!("function {}.{} is defined twice", key.0, key.1)));
        }
    }
    Ok(functions)
}

impl<'m> Importer<'m> {
    /// The function that a node calls, if it calls one.
    pub(super) fn callee(&self, node: &'m proto::Node<'m>) -> Option<&'m proto::Function<'m>> {
        let key = (domain_name(node.domain), node.op_type, node.overload);
        self.functions.get(&key).copied()
    }

    /// Replaces a call by the function's nodes.
    pub(super) fn inline(
        &mut self,
        graph: &mut Graph,
        scope: &mut Scope<'m>,
        node: &'m proto::Node<'m>,
        function: &'m proto::Function<'m>,
    ) -> Result<(), Malformed> {
        let mut inner = scope.inner()?;
        inner.opsets = Rc::new(Opsets::new(&function.opset_import)?);
        inner.arguments = Rc::new(arguments(scope, node, function));
        let call = if node.name.is_empty() { node.op_type } else { node.name };
        inner.prefix = format!("{}{call}/", scope.prefix);
        for (i, &parameter) in function.input.iter().enumerate() {
            let given = node.input.get(i).copied().filter(|name| !name.is_empty());
            inner.bind(parameter, given.and_then(|name| scope.get(name)).flatten())?;
        }
        self.nodes(graph, &mut inner, &function.node)
            .map_err(|error| error.within(format_args!("function '{}'", function.name)))?;
        for (&name, &result) in node.output.iter().zip(&function.output) {
            let Some(Some(id)) = inner.get(result) else {
                let problem = format!("function '{}' does not define '{result}'", function.name);
                return Err(Malformed::new(problem));
            };
            if !name.is_empty() {
                let output = scope.define(graph, name)?;
                graph.add_node(call, Op::Identity, vec![Some(id)], vec![output]);
            }
        }
        Ok(())
    }
}

/// The attributes that a call gives, and defaults for those it does not.
fn arguments<'m>(
    scope: &Scope<'m>,
    node: &'m proto::Node<'m>,
    function: &'m proto::Function<'m>,
) -> HashMap<&'m str, &'m proto::Attribute<'m>> {
    let defaults = function.attribute_proto.iter().map(|a| (a.name, a));
    let mut arguments: HashMap<_, _> = defaults.collect();
    for attribute in &node.attribute {
        let given = match attribute.ref_attr_name {
            "" => Some(attribute),
            outer => scope.arguments.get(outer).copied(),
        };
        if let Some(given) = given {
            arguments.insert(attribute.name, given);
        }
    }
    arguments
}
