//! Shape arithmetic that inference followed to the end becomes constants.

use landfall_graph::infer::{Int, infer_graph};
use landfall_graph::{Op, ValueId};
use landfall_tensor::{DType, Shape, Tensor};

use crate::Effect;
use crate::editor::Editor;
use crate::pipeline::Pass;

pub(crate) const PASS: Pass = Pass { name: "shape-values", effect: Effect::Exact, run };

fn run(editor: &mut Editor<'_>) -> usize {
    let Ok(facts) = infer_graph(&editor.graph) else { return 0 };
    let mut changes = 0;
    for id in editor.schedule() {
        let Some(node) = editor.node(id) else { continue };
        let &[output] = node.outputs.as_slice() else { continue };
        if matches!(node.op, Op::Identity) || editor.unused(output) {
            continue;
        }
        let Some(fact) = facts.get(output.index()) else { continue };
        let Some(ints) = &fact.ints else { continue };
        let Some(ints) = ints.iter().map(known).collect::<Option<Vec<i64>>>() else { continue };
        let Some(tensor) = fact.shape().and_then(|shape| constant(fact.dtype, shape, &ints)) else {
            continue;
        };
        let constant: ValueId = editor.add_constant(tensor);
        editor.replace(output, constant);
        changes += 1;
    }
    changes
}

fn known(int: &Int) -> Option<i64> {
    match int {
        Int::Known(n) => Some(*n),
        _ => None,
    }
}

fn constant(dtype: Option<DType>, shape: Shape, ints: &[i64]) -> Option<Tensor> {
    match dtype? {
        DType::I64 => Tensor::from_slice(shape, ints).ok(),
        DType::I32 => {
            let ints = ints.iter().map(|&n| i32::try_from(n).ok()).collect::<Option<Vec<i32>>>()?;
            Tensor::from_slice(shape, &ints).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check;

    #[test]
    fn a_known_extent_taken_from_a_partly_known_shape() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[N,4,8]
              const %one: i64[1] = [1]
              const %free: i64[1] = [-1]
              %s = Shape(%x)
              %c = Gather(%s, %one)
              %t = Concat(%free, %c) {axis=0}
              %y = Reshape(%x, %t)
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[N,4,8]
              const %t: i64[2] = [-1, 4]
              %y: f32[?,4] = Reshape(%x, %t)
              output %y
            }"#,
        );
    }
}
