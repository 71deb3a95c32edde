//! An inspection as people read it.

use std::fmt::Write;

use super::gather::{Extent, Inspection, Spec};
use crate::commands::table::Table;

/// Characters of a name that values are aligned behind; longer ones push theirs to the right.
const MAX_NAME: usize = 24;

/// The whole report.
pub(super) fn text(inspection: &Inspection) -> String {
    let mut text = format!("{}\n", inspection.model);
    head(inspection, &mut text);
    signature(inspection, &mut text);
    if !inspection.unsupported.is_empty() {
        let mut table = Table::new(&["unsupported node", "operator", "reason"]);
        for node in &inspection.unsupported {
            table.row([node.name.clone(), node.operator.clone(), node.reason.clone()]);
        }
        let _ = write!(text, "\n{table}");
    }
    lowering(inspection, &mut text);
    text
}

fn head(inspection: &Inspection, text: &mut String) {
    let longest = inspection.metadata.keys().map(|name| name.chars().count()).max();
    let width = longest.unwrap_or(0).clamp(10, MAX_NAME) + 2;
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {name:<width$}{}{value}", gap(name, width));
        }
    };
    for (name, value) in &inspection.metadata {
        line(name, value.chars().take(160).collect());
    }
    line("size", format!("{:.2} MB", inspection.bytes as f64 / 1e6));
    line("parameters", inspection.parameters.to_string());
    if let Some(flops) = inspection.flops {
        line("operations", format!("{:.3} million a run{}", flops as f64 / 1e6, at(inspection)));
    }
    let count = |(operator, count): (&&str, &usize)| format!("{operator} {count}");
    let operators: Vec<String> = inspection.operators.iter().map(count).collect();
    line("operators", operators.join(", "));
    if let Some(passes) = &inspection.passes {
        let change = |(pass, changes): &(&str, usize)| format!("{pass} {changes}");
        let changes: Vec<String> = passes.changes.iter().map(change).collect();
        let (before, after) = (passes.nodes_before, passes.nodes_after);
        line("optimised", format!("{before} nodes to {after}: {}", changes.join(", ")));
    }
    if let Some(memory) = &inspection.memory {
        let mb = |bytes: usize| bytes as f64 / 1e6;
        line(
            "memory",
            format!(
                "{:.2} MB a run (no plan needs less than {:.2}), {:.2} MB of packed weights",
                mb(memory.arena_bytes),
                mb(memory.lower_bound_bytes),
                mb(memory.packed_bytes)
            ),
        );
    }
}

/// A gap after a name that fills its column.
fn gap(name: &str, width: usize) -> &'static str {
    if name.chars().count() + 2 > width { "  " } else { "" }
}

/// The shapes that a figure is for, if the model leaves any open.
fn at(inspection: &Inspection) -> String {
    let free = |spec: &Spec| {
        let shape = spec.shape.as_deref().unwrap_or_default();
        shape.iter().any(|extent| matches!(extent, Extent::Free(_)))
    };
    if !inspection.inputs.iter().any(free) {
        return String::new();
    }
    let shapes = inspection.shapes.iter().take(3);
    let shapes: Vec<String> = shapes.map(|(name, shape)| format!("{name} {shape:?}")).collect();
    format!(" at {} (free axes are 1 unless --shape says otherwise)", shapes.join(", "))
}

fn signature(inspection: &Inspection, text: &mut String) {
    let mut table = Table::new(&["", "name", "datatype", "shape"]);
    let sides = [("input", &inspection.inputs), ("output", &inspection.outputs)];
    for (side, specs) in sides {
        for spec in specs {
            let shape = spec.shape.as_ref().map_or("any".to_owned(), |shape| shape_text(shape));
            table.row([side.to_owned(), spec.name.clone(), spec.datatype.to_owned(), shape]);
        }
    }
    let _ = write!(text, "\n{table}");
}

fn shape_text(shape: &[Extent]) -> String {
    let extent = |extent: &Extent| match extent {
        Extent::Known(extent) => extent.to_string(),
        Extent::Free(name) => name.clone(),
    };
    format!("[{}]", shape.iter().map(extent).collect::<Vec<_>>().join(","))
}

fn lowering(inspection: &Inspection, text: &mut String) {
    if inspection.nodes.is_empty() {
        return;
    }
    let mut table =
        Table::new(&["node", "operator", "kernel", "isa", "precision", "slices", "reason"]);
    for node in &inspection.nodes {
        let words = [node.operator, node.kernel, node.isa, node.precision].map(str::to_owned);
        let [operator, kernel, isa, precision] = words;
        let (slices, reason) = (node.slices.to_string(), node.reason.clone());
        table.row([node.name.clone(), operator, kernel, isa, precision, slices, reason]);
    }
    let _ = write!(text, "\n{table}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_do_not_touch() {
        let long = "a_property_with_a_name_of_many_letters".to_owned();
        let metadata = [("producer_version", "1"), (&long, "2"), ("x", "3")];
        let metadata = metadata.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let inspection = Inspection { metadata: metadata.into(), ..Inspection::default() };
        let text = text(&inspection);
        assert!(text.contains(&format!("\n  {:<26}1\n", "producer_version")), "{text}");
        assert!(text.contains(&format!("\n  {long}  2\n")), "{text}");
        assert!(text.contains(&format!("\n  {:<26}0.00 MB\n", "size")), "{text}");
    }
}
