//! Einstein summation: its equations, and the shapes they give. Also determinants.

use super::Fact;
use super::context::{InferError, Operands, broadcast_dim};
use crate::{Dim, Op};

/// An axis's name: a letter's code, or the place of an axis under the ellipsis, from the right.
pub type Label = u16;

/// The first label of axes under the ellipsis.
const ELLIPSIS: Label = 256;

/// An equation with the ellipsis written out, for operands of known rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Equation {
    /// The labels of every operand's axes.
    pub operands: Vec<Vec<Label>>,
    /// The labels of the result's axes.
    pub output: Vec<Label>,
}

/// A term's letters before and after its ellipsis.
struct Term {
    before: Vec<Label>,
    /// `None` without an ellipsis.
    after: Option<Vec<Label>>,
}

fn term(text: &str) -> Result<Term, InferError> {
    let letters = |text: &str| {
        text.chars()
            .map(|c| match c.is_ascii_alphabetic() {
                true => Ok(Label::from(c as u8)),
                false => InferError::because(format!("'{c}' is not a letter of an equation")),
            })
            .collect::<Result<Vec<Label>, InferError>>()
    };
    Ok(match text.split_once("...") {
        None => Term { before: letters(text)?, after: None },
        Some((before, after)) => Term { before: letters(before)?, after: Some(letters(after)?) },
    })
}

impl Term {
    fn labels(&self, covered: usize) -> Vec<Label> {
        let mut labels = self.before.clone();
        if let Some(after) = &self.after {
            labels.extend((0..covered).rev().map(|i| ELLIPSIS + i as Label));
            labels.extend(after);
        }
        labels
    }

    /// How many axes of an operand of `rank` the ellipsis stands for.
    fn covered(&self, rank: usize) -> Result<usize, InferError> {
        let named = self.before.len() + self.after.as_ref().map_or(0, Vec::len);
        match rank.checked_sub(named) {
            Some(covered) if self.after.is_some() || covered == 0 => Ok(covered),
            _ => InferError::because(format!("a term of {named} letters for rank {rank}")),
        }
    }
}

impl Equation {
    /// Reads an equation such as `...ij,...jk->...ik` for operands of these ranks.
    pub fn new(text: &str, ranks: &[usize]) -> Result<Equation, InferError> {
        let text: String = text.chars().filter(|c| *c != ' ').collect();
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (text.as_str(), None),
        };
        let terms: Vec<Term> = left.split(',').map(term).collect::<Result<_, _>>()?;
        if terms.len() != ranks.len() {
            let (terms, operands) = (terms.len(), ranks.len());
            return InferError::because(format!("{terms} terms for {operands} operands"));
        }
        let mut covered = 0;
        let mut operands = Vec::with_capacity(terms.len());
        for (term, &rank) in terms.iter().zip(ranks) {
            let own = term.covered(rank)?;
            covered = covered.max(own);
            operands.push(term.labels(own));
        }
        let output = match right {
            Some(right) => term(right)?.labels(covered),
            None => implicit(&operands, covered),
        };
        let equation = Equation { operands, output };
        equation.check(covered)?;
        Ok(equation)
    }

    fn check(&self, covered: usize) -> Result<(), InferError> {
        for (i, label) in self.output.iter().enumerate() {
            if self.output[..i].contains(label) {
                return InferError::because("an axis of the result is named twice");
            }
            if !self.operands.iter().any(|labels| labels.contains(label)) {
                return InferError::because("an axis of the result is in no operand");
            }
        }
        if covered > 0 && !self.output.contains(&ELLIPSIS) {
            return InferError::because("the result lacks the operands' ellipsis");
        }
        Ok(())
    }
}

/// Axes under the ellipsis, then the letters that occur once, in order.
fn implicit(operands: &[Vec<Label>], covered: usize) -> Vec<Label> {
    let mut all: Vec<Label> = operands.concat();
    all.retain(|&label| label < ELLIPSIS);
    all.sort_unstable();
    let once = all.chunk_by(|a, b| a == b).filter(|same| same.len() == 1).map(|same| same[0]);
    let ellipsis = (0..covered).rev().map(|i| ELLIPSIS + i as Label);
    ellipsis.chain(once).collect()
}

pub(super) fn infer(operands: &Operands<'_>) -> Option<Result<Vec<Fact>, InferError>> {
    let dims = match operands.op {
        Op::Einsum(op) => einsum(operands, &op.equation),
        Op::Det => match operands.dims(0) {
            None => Ok(None),
            Some([batch @ .., _, _]) => Ok(Some(batch.to_vec())),
            Some(other) => {
                InferError::because(format!("a matrix needs rank 2 or more, not {}", other.len()))
            }
        },
        _ => return None,
    };
    Some(dims.map(|dims| vec![Fact::new(operands.dtype(0), dims)]))
}

fn einsum(operands: &Operands<'_>, text: &str) -> Result<Option<Vec<Dim>>, InferError> {
    let known: Option<Vec<&[Dim]>> = (0..operands.len()).map(|i| operands.dims(i)).collect();
    let Some(known) = known else { return Ok(None) };
    let ranks: Vec<usize> = known.iter().map(|dims| dims.len()).collect();
    let equation = Equation::new(text, &ranks)?;
    let extent = |label: &Label| {
        let mut found = Dim::Known(1);
        for (labels, dims) in equation.operands.iter().zip(&known) {
            for (_, dim) in labels.iter().zip(*dims).filter(|(own, _)| *own == label) {
                found = broadcast_dim(&found, dim)?;
            }
        }
        Ok(found)
    };
    let dims: Result<Vec<Dim>, InferError> = equation.output.iter().map(extent).collect();
    dims.map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: &str, ranks: &[usize]) -> Vec<Label> {
        Equation::new(text, ranks).unwrap().output
    }

    #[test]
    fn results_are_implicit_or_written() {
        let letters = |text: &str| text.bytes().map(Label::from).collect::<Vec<_>>();
        assert_eq!(output("ij, jk -> ki", &[2, 2]), letters("ki"));
        assert_eq!(output("bA,ca", &[2, 2]), letters("Aabc"));
        assert_eq!(output("ii", &[2]), []);
        assert_eq!(output("->", &[0]), []);
        assert_eq!(output("...i,...i", &[3, 2]), [ELLIPSIS + 1, ELLIPSIS]);
        let equation = Equation::new("i...j,...->...", &[3, 2]).unwrap();
        assert_eq!(equation.operands[1], [ELLIPSIS + 1, ELLIPSIS]);
    }

    #[test]
    fn equations_that_make_no_sense_are_refused() {
        for (text, ranks) in [
            ("ij->ik", &[2][..]), ("ij->ii", &[2]), ("ij", &[3]), ("i,j", &[1]), ("i1", &[2]),
            ("...i->i", &[2]), ("i->j->k", &[1]), ("......", &[2]),
        ] {
            assert!(Equation::new(text, ranks).is_err(), "{text}");
        }
    }
}
