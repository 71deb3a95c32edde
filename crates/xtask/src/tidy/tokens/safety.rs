//! Where `unsafe` may stand, and that each one says why it is sound.

use proc_macro2::{Delimiter, TokenTree};

use super::{File, group_of, is_ident, is_punct, line_of};
use crate::tidy::Findings;

/// Checks the `unsafe` that is the first of these tokens, if it is one. Functions of a trait's
/// implementation keep the trait's promise, which is written down there.
pub(super) fn check(
    file: &File<'_>,
    trees: &[TokenTree],
    trait_impl: bool,
    findings: &mut Findings<'_>,
) {
    if !is_ident(trees.first(), "unsafe") {
        return;
    }
    let line = line_of(&trees[0]);
    if !file.place.unsafe_allowed {
        let advice = "move it to crates/kernels: `unsafe` stands only there and in two files of \
                      crates/tensor (buffer.rs, arena.rs)";
        findings.add(line, "unsafe-place", advice);
    }
    let promised = trait_impl && is_ident(trees.get(1), "fn");
    if promised || !needs_reason(trees) || has_reason(&file.lines, line) {
        return;
    }
    let advice = "write a `// SAFETY:` comment above it (or a `# Safety` section, for a function) \
                  that says why it is sound";
    findings.add(line, "unsafe-reason", advice);
}

/// Whether a brace group after these siblings is the body of an `impl Trait for Type`.
pub(super) fn is_trait_impl(before: &[TokenTree]) -> bool {
    let boundary = |tree: &TokenTree| {
        is_punct(Some(tree), ';') || group_of(Some(tree), Delimiter::Brace).is_some()
    };
    let start = before.iter().rposition(boundary).map_or(0, |index| index + 1);
    let head = &before[start..];
    let implements = (0..head.len())
        .any(|index| is_ident(head.get(index), "for") && !is_punct(head.get(index + 1), '<'));
    implements && head.iter().any(|tree| is_ident(Some(tree), "impl"))
}

/// Function pointer types (`unsafe fn(..)`) and attributes (`unsafe(no_mangle)`) need no reason.
fn needs_reason(trees: &[TokenTree]) -> bool {
    let attribute = group_of(trees.get(1), Delimiter::Parenthesis).is_some();
    let after_abi = |index: usize| match trees.get(index) {
        Some(TokenTree::Literal(_)) => index + 1,
        _ => index,
    };
    let mut next = 1;
    if is_ident(trees.get(next), "extern") {
        next = after_abi(next + 1);
    }
    let pointer = is_ident(trees.get(next), "fn")
        && group_of(trees.get(next + 1), Delimiter::Parenthesis).is_some();
    let higher_ranked = is_ident(trees.get(next), "fn") && is_punct(trees.get(next + 1), '<');
    !(attribute || pointer || higher_ranked)
}

/// Whether the comments and attributes above the statement that `line` is part of say `SAFETY:`
/// or `# Safety`.
fn has_reason(lines: &[&str], line: usize) -> bool {
    for text in lines[..line - 1].iter().rev().map(|text| text.trim()) {
        if text.starts_with("//") {
            if text.contains("SAFETY:") || text.contains("# Safety") {
                return true;
            }
        } else if text.is_empty() || (ends_statement(text) && !text.starts_with("#[")) {
            return false;
        }
    }
    false
}

fn ends_statement(text: &str) -> bool {
    text.ends_with([';', '{', '}', ','])
}
