//! Dead code: nodes whose results nothing uses.

use crate::Effect;
use crate::editor::Editor;
use crate::pipeline::Pass;

pub(crate) const PASS: Pass = Pass { name: "dead-code", effect: Effect::Exact, run };

fn run(editor: &mut Editor<'_>) -> usize {
    let before = editor.graph.nodes().count();
    for id in editor.schedule().into_iter().rev() {
        editor.sweep(id);
    }
    before - editor.graph.nodes().count()
}

#[cfg(test)]
mod tests {
    use super::PASS;
    use crate::testing::check;

    #[test]
    fn chains_that_lead_nowhere_go() {
        check(
            &[PASS],
            r#"graph "g" {
              input %x: f32[2]
              %a = Relu(%x)
              %b = Neg(%a)
              %c = Abs(%b)
              %y = Neg(%x)
              output %y
            }"#,
            r#"graph "g" {
              input %x: f32[2]
              %y: f32[2] = Neg(%x)
              output %y
            }"#,
        );
    }
}
