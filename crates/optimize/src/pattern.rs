//! Rewrites as algebra: a pattern in text, and a function that builds what replaces it.
//!
//! ```text
//! x                 any value; the same name is the same value
//! $w                a constant
//! #s                a constant of one element that stretches to the shape of what it meets
//! 0.5               a `#` of this value, within a few units in the last place
//! _                 an operand left out
//! Op(a, b)          the result of a node; operands of Add, Mul, Max, Min and Sum in any order
//! Op|Other(a)       either operator
//! m:Op(a)           the same, and its result is called m
//! ```
//!
//! A match holds only if everything inside it is used by nothing outside it.

use landfall_graph::{Node, NodeId, Op, ValueId};

use crate::editor::Editor;

/// Relative error within which a constant is taken for the number a pattern names.
const NUMBER_TOLERANCE: f32 = 1e-6;

/// A rewrite: any of the patterns, and what to put in place of their root.
pub(crate) struct Rule {
    /// See the module's documentation.
    pub(crate) patterns: &'static [&'static str],
    /// Builds the new value, or declines.
    pub(crate) replace: fn(&mut Editor<'_>, &Match) -> Option<ValueId>,
}

/// Applies rules wherever they match, operands before their users, and counts how often.
pub(crate) fn apply(editor: &mut Editor<'_>, rules: &[Rule]) -> usize {
    let rules: Vec<(Vec<Term>, &Rule)> = rules
        .iter()
        .map(|rule| (rule.patterns.iter().map(|text| Term::parse(text)).collect(), rule))
        .collect();
    let mut changes = 0;
    for id in editor.schedule() {
        'rules: for (patterns, rule) in &rules {
            for pattern in patterns {
                let Some(found) = matches(editor, pattern, id) else { continue };
                let Some(new) = (rule.replace)(editor, &found) else { continue };
                editor.replace(found.root, new);
                changes += 1;
                break 'rules;
            }
        }
    }
    changes
}

/// What a pattern's names stand for.
#[derive(Debug, Clone)]
pub(crate) struct Match {
    /// The value that the whole pattern computes.
    pub(crate) root: ValueId,
    values: Vec<(String, ValueId)>,
    nodes: Vec<NodeId>,
}

impl Match {
    /// The value of a name. The name must be in the pattern.
    pub(crate) fn get(&self, name: &str) -> ValueId {
        self.find(name).unwrap_or_else(|| unreachable!("the pattern has no name '{name}'"))
    }

    /// The value of a name that not every pattern of the rule has.
    pub(crate) fn find(&self, name: &str) -> Option<ValueId> {
        self.values.iter().find(|(known, _)| known == name).map(|&(_, value)| value)
    }

    /// The operator that computes a named value.
    pub(crate) fn op<'g>(&self, editor: &'g Editor<'_>, name: &str) -> Option<&'g Op> {
        editor.producer(self.get(name)).map(|(_, node)| &node.op)
    }

    /// The name of the node at the root, for its replacement.
    pub(crate) fn name(&self, editor: &Editor<'_>) -> String {
        editor.producer(self.root).map(|(_, node)| node.name.clone()).unwrap_or_default()
    }
}

fn matches(editor: &Editor<'_>, pattern: &Term, id: NodeId) -> Option<Match> {
    let node = editor.node(id)?;
    let (&root, rest) = node.outputs.split_first()?;
    if rest.iter().any(|&output| !editor.unused(output)) {
        return None;
    }
    let start = Match { root, values: Vec::new(), nodes: Vec::new() };
    let found = pattern.meet(editor, Some(root), None, start);
    found.into_iter().find(|found| closed(editor, found, id))
}

/// Whether nothing outside the match uses what is inside.
fn closed(editor: &Editor<'_>, found: &Match, root: NodeId) -> bool {
    found.nodes.iter().filter(|&&id| id != root).all(|&id| {
        editor.node(id).is_some_and(|node| {
            node.outputs.iter().all(|&output| {
                !editor.is_output(output)
                    && editor.uses(output).iter().all(|user| found.nodes.contains(user))
            })
        })
    })
}

#[derive(Debug, Clone)]
enum Term {
    Any(String),
    Constant(String),
    Scalar(String),
    Number(f32),
    Absent,
    Node { name: Option<String>, operators: Vec<String>, operands: Vec<Term> },
}

impl Term {
    /// Every way in which a value is what this term says. `beside` is the other operand of the same
    /// node, whose rank a one-element constant must not exceed.
    fn meet(
        &self,
        editor: &Editor<'_>,
        value: Option<ValueId>,
        beside: Option<ValueId>,
        found: Match,
    ) -> Vec<Match> {
        let Some(value) = value else {
            return if matches!(self, Term::Absent) { vec![found] } else { Vec::new() };
        };
        let bound = |name: &str, holds: bool| {
            if holds { bind(found.clone(), name, value).into_iter().collect() } else { Vec::new() }
        };
        match self {
            Term::Absent => Vec::new(),
            Term::Any(name) => bound(name, true),
            Term::Constant(name) => bound(name, editor.constant(value).is_some()),
            Term::Scalar(name) => bound(name, stretches(editor, value, beside)),
            Term::Number(number) => {
                let near = |v: f32| (v - number).abs() <= number.abs() * NUMBER_TOLERANCE;
                let holds = editor.scalar(value).is_some_and(near);
                if holds && stretches(editor, value, beside) { vec![found] } else { Vec::new() }
            }
            Term::Node { name, operators, operands } => {
                let Some((id, node)) = editor.producer(value) else { return Vec::new() };
                if !operators.iter().any(|operator| operator == node.op.name())
                    || node.outputs.first() != Some(&value)
                {
                    return Vec::new();
                }
                let mut found = found;
                if let Some(name) = name {
                    let Some(bound) = bind(found, name, value) else { return Vec::new() };
                    found = bound;
                }
                if !found.nodes.contains(&id) {
                    found.nodes.push(id);
                }
                meet_operands(editor, node, operands, &found)
            }
        }
    }

    /// Reads a pattern; patterns are literals of this crate, so bad text is a bug.
    fn parse(text: &str) -> Term {
        let mut rest = text;
        let term = parse_term(&mut rest);
        assert!(rest.trim().is_empty(), "pattern '{text}' has trailing '{rest}'");
        term
    }
}

fn meet_operands(editor: &Editor<'_>, node: &Node, operands: &[Term], found: &Match) -> Vec<Match> {
    let count = node.inputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    if count > operands.len() {
        return Vec::new();
    }
    let order = |order: &[usize]| {
        let mut ways = vec![found.clone()];
        for (term, &at) in operands.iter().zip(order) {
            let beside = if operands.len() == 2 { node.input(1 - at) } else { node.input(0) };
            ways = ways
                .into_iter()
                .flat_map(|way| term.meet(editor, node.input(at), beside, way))
                .collect();
        }
        ways
    };
    let straight: Vec<usize> = (0..operands.len()).collect();
    let mut ways = order(&straight);
    let swaps = matches!(node.op, Op::Add | Op::Mul | Op::Max | Op::Min | Op::Sum);
    if swaps && operands.len() == 2 {
        ways.extend(order(&[1, 0]));
    }
    ways
}

fn bind(mut found: Match, name: &str, value: ValueId) -> Option<Match> {
    match found.find(name) {
        Some(known) => (known == value).then_some(found),
        None => {
            found.values.push((name.to_owned(), value));
            Some(found)
        }
    }
}

/// Whether a value is a one-element constant that does not raise the rank of what it meets.
fn stretches(editor: &Editor<'_>, value: ValueId, beside: Option<ValueId>) -> bool {
    editor.constant(value).is_some_and(|tensor| {
        let rank = tensor.shape().rank();
        let room = beside.and_then(|other| editor.rank(other)).unwrap_or(0);
        tensor.elements() == 1 && rank <= room
    })
}

fn parse_term(rest: &mut &str) -> Term {
    let word = take_word(rest);
    let (name, operator) = match word.split_once(':') {
        Some((name, operator)) => (Some(name.to_owned()), operator),
        None => (None, word),
    };
    if let Some(inner) = rest.strip_prefix('(') {
        *rest = inner;
        let mut operands = Vec::new();
        loop {
            operands.push(parse_term(rest));
            let close = rest.trim_start();
            *rest = &close[1..];
            match &close[..1] {
                "," => (),
                ")" => break,
                other => unreachable!("pattern has '{other}' where ',' or ')' belongs"),
            }
        }
        let operators = operator.split('|').map(str::to_owned).collect();
        return Term::Node { name, operators, operands };
    }
    match word.as_bytes().first() {
        Some(b'$') => Term::Constant(word[1..].to_owned()),
        Some(b'#') => Term::Scalar(word[1..].to_owned()),
        Some(b'_') if word.len() == 1 => Term::Absent,
        Some(b'a'..=b'z') => Term::Any(word.to_owned()),
        _ => match word.parse() {
            Ok(number) => Term::Number(number),
            Err(_) => unreachable!("pattern has '{word}' where a term belongs"),
        },
    }
}

fn take_word<'t>(rest: &mut &'t str) -> &'t str {
    let text = rest.trim_start();
    let end = text.find(|c: char| "(), ".contains(c)).unwrap_or(text.len());
    let (word, after) = text.split_at(end);
    *rest = after;
    word
}
