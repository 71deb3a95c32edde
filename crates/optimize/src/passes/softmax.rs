//! Softmax spelt out becomes the operator.

use landfall_graph::infer::resolve_axis;
use landfall_graph::{Op, ValueId, ops};

use crate::Effect;
use crate::editor::Editor;
use crate::pattern::{Match, Rule, apply};
use crate::pipeline::Pass;

pub(crate) const PASS: Pass = Pass {
    name: "softmax-fusion",
    effect: Effect::Reassociating,
    run: |editor| apply(editor, RULES),
};

const RULES: &[Rule] = &[
    Rule {
        patterns: &[
            "Div(e:Exp(Sub(x, max:ReduceMax(x, $over))), sum:ReduceSum(e, $axes))",
            "Div(e:Exp(x), sum:ReduceSum(e, $axes))",
        ],
        replace: softmax,
    },
    Rule { patterns: &["Log(s:Softmax(x))"], replace: log_softmax },
];

fn softmax(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    let rank = editor.rank(found.get("x"))?;
    let single = |axes: ValueId| match editor.ints(axes)?.as_slice() {
        [axis] => resolve_axis(*axis, rank).ok(),
        _ => None,
    };
    let axis = single(found.get("axes"))?;
    if found.find("over").is_some_and(|over| single(over) != Some(axis)) {
        return None;
    }
    let kept = |name| match found.find(name).map(|_| found.op(editor, name)) {
        None => true,
        Some(Some(Op::ReduceMax(op))) => op.keepdims,
        Some(Some(Op::ReduceSum(op))) => op.keepdims,
        Some(_) => false,
    };
    if !kept("max") || !kept("sum") {
        return None;
    }
    let op = Op::Softmax(ops::Softmax { axis: i64::try_from(axis).ok()? });
    Some(editor.append(&found.name(editor), op, [Some(found.get("x"))]))
}

fn log_softmax(editor: &mut Editor<'_>, found: &Match) -> Option<ValueId> {
    let Op::Softmax(op) = found.op(editor, "s")? else { return None };
    let op = Op::LogSoftmax(ops::LogSoftmax { axis: op.axis });
    Some(editor.append(&found.name(editor), op, [Some(found.get("x"))]))
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check;

    #[test]
    fn safe_softmax_then_its_logarithm() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[N,4]
              const %axes: i64[1] = [-1]
              %m = ReduceMax(%x, %axes)
              %d = Sub(%x, %m)
              %e = Exp(%d)
              %s = ReduceSum(%e, %axes)
              %p = Div(%e, %s)
              %y = Log(%p)
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[N,4]
              %y: f32[N,4] = LogSoftmax(%x) {axis=1}
              output %y
            }"#,
        );
    }
}
