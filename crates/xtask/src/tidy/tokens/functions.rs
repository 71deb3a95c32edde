//! Length of functions, counted in lines that hold code: from `fn` to the closing brace.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::{File, is_ident, is_punct, line_of};
use crate::tidy::Findings;

const FUNCTION_LINES_MAX: usize = 70;

/// Checks the function that starts at the first of these tokens, if one does.
pub(super) fn check(file: &File<'_>, trees: &[TokenTree], findings: &mut Findings<'_>) {
    if !is_ident(trees.first(), "fn") {
        return;
    }
    let Some(TokenTree::Ident(name)) = trees.get(1) else { return };
    let Some(end) = body_index(trees) else { return };
    let mut lines = BTreeSet::new();
    for tree in &trees[..=end] {
        collect_lines(tree, &mut lines);
    }
    lines.retain(|&line| {
        file.lines.get(line - 1).is_none_or(|text| !text.trim_start().starts_with("//"))
    });
    if lines.len() > FUNCTION_LINES_MAX {
        let advice =
            format!("`{name}` has {} lines; split it at {FUNCTION_LINES_MAX}", lines.len());
        findings.add(line_of(&trees[0]), "function-length", advice);
    }
}

/// Index of the brace group that is the body; `None` for a declaration without one.
fn body_index(trees: &[TokenTree]) -> Option<usize> {
    for (index, tree) in trees.iter().enumerate().skip(2) {
        match tree {
            TokenTree::Punct(punct) if punct.as_char() == ';' => return None,
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                let next = trees.get(index + 1);
                let const_argument = is_punct(next, '>') || is_punct(next, ',');
                if !const_argument {
                    return Some(index);
                }
            }
            _ => {}
        }
    }
    None
}

fn collect_lines(tree: &TokenTree, lines: &mut BTreeSet<usize>) {
    match tree {
        TokenTree::Group(group) => {
            lines.insert(group.span_open().start().line);
            collect_stream_lines(group.stream(), lines);
            lines.insert(group.span_close().start().line);
        }
        other => lines.extend(other.span().start().line..=other.span().end().line),
    }
}

fn collect_stream_lines(stream: TokenStream, lines: &mut BTreeSet<usize>) {
    for tree in stream {
        collect_lines(&tree, lines);
    }
}
