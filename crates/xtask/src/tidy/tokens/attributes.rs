//! Attributes: which items are tests, and that every `allow` or `expect` of a lint says why.

use std::ops::Range;

use proc_macro2::{Delimiter, TokenTree};

use super::{group_of, is_ident, is_punct, line_of};
use crate::tidy::Findings;

/// Checks the attribute that starts at the first of these tokens, if one does.
pub(super) fn check(trees: &[TokenTree], findings: &mut Findings<'_>) {
    if let Some((content, _)) = attribute(trees) {
        check_reasons(&content, findings);
    }
}

fn check_reasons(content: &[TokenTree], findings: &mut Findings<'_>) {
    for index in 0..content.len() {
        let Some(inner) = group_of(content.get(index + 1), Delimiter::Parenthesis) else {
            continue;
        };
        let lint_level =
            is_ident(content.get(index), "allow") || is_ident(content.get(index), "expect");
        if lint_level && !inner.iter().any(|tree| is_ident(Some(tree), "reason")) {
            let advice = "add `reason = \"...\"`, or mend what the lint found";
            findings.add(line_of(&content[index]), "allow-reason", advice);
        } else if is_ident(content.get(index), "cfg_attr") {
            check_reasons(&inner, findings);
        }
    }
}

/// Token ranges, among siblings, of the items marked `#[cfg(test)]` or `#[test]`, attribute
/// included.
pub(super) fn test_items(trees: &[TokenTree]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut index = 0;
    while index < trees.len() {
        match attribute(&trees[index..]) {
            Some((content, length)) if marks_test(&content) => {
                let end = item_end(trees, index + length);
                found.push(index..end);
                index = end;
            }
            _ => index += 1,
        }
    }
    found
}

/// The tokens between the brackets of an attribute that starts here, and the attribute's length.
fn attribute(trees: &[TokenTree]) -> Option<(Vec<TokenTree>, usize)> {
    if !is_punct(trees.first(), '#') {
        return None;
    }
    let bracket = if is_punct(trees.get(1), '!') { 2 } else { 1 };
    Some((group_of(trees.get(bracket), Delimiter::Bracket)?, bracket + 1))
}

fn marks_test(content: &[TokenTree]) -> bool {
    if is_ident(content.first(), "cfg") {
        let condition = group_of(content.get(1), Delimiter::Parenthesis).unwrap_or_default();
        return condition.len() == 1 && is_ident(condition.first(), "test");
    }
    content.len() == 1 && is_ident(content.first(), "test")
}

/// One past the last token of the item that starts at `start`.
fn item_end(trees: &[TokenTree], start: usize) -> usize {
    for (index, tree) in trees.iter().enumerate().skip(start) {
        let ends = match tree {
            TokenTree::Punct(punct) => punct.as_char() == ';',
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            _ => false,
        };
        if ends {
            return index + 1;
        }
    }
    trees.len()
}
