//! Nodes that hand their operand on unchanged.

use landfall_graph::{Node, Op, ValueId};
use landfall_tensor::DType;

use crate::Effect;
use crate::constants;
use crate::editor::Editor;
use crate::pipeline::Pass;

pub(crate) const PASS: Pass = Pass { name: "no-op", effect: Effect::Exact, run };

fn run(editor: &mut Editor<'_>) -> usize {
    let mut changes = 0;
    for id in editor.schedule() {
        let Some(node) = editor.node(id) else { continue };
        let Some((&output, rest)) = node.outputs.split_first() else { continue };
        let Some(source) = passes_on(editor, node, output) else { continue };
        if rest.iter().any(|&output| !editor.unused(output)) {
            continue;
        }
        let copies = matches!(node.op, Op::Identity);
        if copies && editor.is_output(output) && !can_be_output(editor, source) {
            continue;
        }
        editor.replace(output, source);
        changes += 1;
    }
    changes
}

/// Whether an output may be this value itself rather than a copy of it.
fn can_be_output(editor: &Editor<'_>, value: ValueId) -> bool {
    editor.producer(value).is_some() && !editor.is_output(value)
}

/// The operand that the first result always equals.
fn passes_on(editor: &Editor<'_>, node: &Node, output: ValueId) -> Option<ValueId> {
    let source = node.input(0)?;
    let same_shape = editor.same_shape(source, output);
    let zeros = |index: usize| {
        node.input(index).and_then(|id| editor.ints(id)).is_some_and(|s| s.iter().all(|&n| n == 0))
    };
    let holds = match &node.op {
        Op::Identity => true,
        Op::Dropout(_) => node.input(2).is_none_or(|id| {
            editor
                .constant(id)
                .is_some_and(|t| t.bytes().is_some_and(|b| b.iter().all(|&b| b == 0)))
        }),
        Op::Cast(op) => editor.dtype(source) == Some(op.to),
        Op::CastLike(_) => {
            let like = node.input(1).and_then(|id| editor.dtype(id));
            like.is_some() && like == editor.dtype(source)
        }
        Op::Concat(_) => node.inputs.len() == 1,
        Op::Sum | Op::Max | Op::Min | Op::Mean => node.inputs.len() == 1,
        Op::Split(_) => node.outputs.len() == 1 && same_shape,
        Op::Reshape(_) | Op::Expand | Op::Squeeze | Op::Unsqueeze | Op::Flatten(_) => same_shape,
        Op::Tile => same_shape && editor.extents(source).is_some_and(|e| !e.contains(&0)),
        Op::Slice => same_shape && forward(editor, node),
        Op::Pad(_) => zeros(1),
        Op::Add | Op::Mul | Op::Sub | Op::Div | Op::Pow => {
            return neutral(editor, node, output);
        }
        _ => false,
    };
    holds.then_some(source)
}

/// Whether every step of a slice is 1; with as many elements as before it then takes them all.
fn forward(editor: &Editor<'_>, node: &Node) -> bool {
    node.input(4)
        .is_none_or(|id| editor.ints(id).is_some_and(|steps| steps.iter().all(|&step| step == 1)))
}

/// `x + 0`, `x · 1`, `x - 0`, `x / 1`, `x ^ 1`, where the constant does not stretch `x`.
fn neutral(editor: &Editor<'_>, node: &Node, output: ValueId) -> Option<ValueId> {
    let number = if matches!(node.op, Op::Add | Op::Sub) { 0.0 } else { 1.0 };
    let (a, b) = (node.input(0)?, node.input(1)?);
    let is = |id: ValueId| editor.constant(id).is_some_and(|t| constants::all_equal(t, number));
    let source = match node.op {
        _ if is(b) => a,
        Op::Add | Op::Mul if is(a) => b,
        _ => return None,
    };
    let known = editor.dtype(source).is_some_and(|dtype| dtype != DType::String);
    (known && editor.dtype(source) == editor.dtype(output) && editor.same_shape(source, output))
        .then_some(source)
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::{check, check_unchanged};

    #[test]
    fn copies_and_neutral_arithmetic_go() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[N,2]
              const %one: f32[2] = [1.0, 1.0]
              const %zero: f32[] = [0.0]
              const %s: i64[2] = [0, 2]
              %a = Identity(%x)
              %b, %mask = Dropout(%a)
              %c = Cast(%b) {to="f32"}
              %d = Mul(%one, %c)
              %e = Add(%d, %zero)
              %f = Reshape(%e, %s)
              %y = Relu(%f)
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[N,2]
              %y: f32[N,2] = Relu(%x)
              output %y
            }"#,
        );
    }

    #[test]
    fn an_output_that_is_an_input_stays_a_copy() {
        check_unchanged(
            &[PASS],
            r#"graph "g" {
              input %x: f32[2]
              %y: f32[2] = Identity(%x)
              output %y
            }"#,
        );
    }

    #[test]
    fn a_constant_that_stretches_stays() {
        check_unchanged(
            &[PASS],
            r#"graph "g" {
              input %x: f32[1]
              const %one: f32[2] = [1.0, 1.0]
              %y: f32[2] = Mul(%x, %one)
              output %y
            }"#,
        );
    }

    #[test]
    fn a_reversal_is_no_copy() {
        check_unchanged(
            &[PASS],
            r#"graph "g" {
              input %x: f32[2]
              const %start: i64[1] = [1]
              const %end: i64[1] = [-3]
              const %axis: i64[1] = [0]
              const %step: i64[1] = [-1]
              %y: f32[2] = Slice(%x, %start, %end, %axis, %step)
              output %y
            }"#,
        );
    }
}
