//! Rules that need tokens: sizes, `unsafe`, banned calls, reasons with `allow`, unfinished code.

mod attributes;
mod banned;
mod functions;
mod safety;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::{Findings, Place};

const FILE_LINES_MAX: usize = 600;

/// One file under the token rules.
struct File<'a> {
    place: &'a Place,
    lines: Vec<&'a str>,
}

pub(super) fn check(place: &Place, source: &str, findings: &mut Findings<'_>) {
    let stream: TokenStream = match source.parse() {
        Ok(stream) => stream,
        Err(error) => {
            findings.add(1, "syntax", format!("not Rust tokens: {error}"));
            return;
        }
    };
    let file = File { place, lines: source.lines().collect() };
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    check_file_size(&file, &trees, findings);
    walk(&file, &trees, Scope { test: place.test, trait_impl: false }, findings);
}

/// What encloses the tokens at hand.
#[derive(Debug, Clone, Copy)]
struct Scope {
    /// An item that only tests see.
    test: bool,
    /// The body of an `impl Trait for Type`.
    trait_impl: bool,
}

/// Applies the rules to one sequence of sibling tokens, then to the groups inside it.
fn walk(file: &File<'_>, trees: &[TokenTree], scope: Scope, findings: &mut Findings<'_>) {
    let test_spans = attributes::test_items(trees);
    for index in 0..trees.len() {
        let rest = &trees[index..];
        let test = scope.test || test_spans.iter().any(|span| span.contains(&index));
        functions::check(file, rest, findings);
        safety::check(file, rest, scope.trait_impl, findings);
        attributes::check(rest, findings);
        banned::check(file.place, rest, test, findings);
        if let TokenTree::Group(group) = &trees[index] {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            let trait_impl = safety::is_trait_impl(&trees[..index]);
            walk(file, &inner, Scope { test, trait_impl }, findings);
        }
    }
}

/// The file's lines, less those of test modules at its end.
fn check_file_size(file: &File<'_>, trees: &[TokenTree], findings: &mut Findings<'_>) {
    if file.place.test {
        return;
    }
    let mut tested_lines = 0;
    for span in attributes::test_items(trees) {
        let is_module = trees[span.clone()].iter().any(|tree| is_ident(Some(tree), "mod"));
        if let (true, Some(first), Some(last)) =
            (is_module, trees.get(span.start), trees.get(span.end - 1))
        {
            tested_lines += last.span().end().line + 1 - first.span().start().line;
        }
    }
    let lines = file.lines.len() - tested_lines;
    if lines > FILE_LINES_MAX {
        let advice = format!("{lines} lines without tests; split it at {FILE_LINES_MAX}");
        findings.add(FILE_LINES_MAX + 1, "file-length", advice);
    }
}

fn line_of(tree: &TokenTree) -> usize {
    tree.span().start().line
}

fn is_ident(tree: Option<&TokenTree>, name: &str) -> bool {
    matches!(tree, Some(TokenTree::Ident(ident)) if *ident == name)
}

fn is_punct(tree: Option<&TokenTree>, character: char) -> bool {
    matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

fn group_of(tree: Option<&TokenTree>, delimiter: Delimiter) -> Option<Vec<TokenTree>> {
    match tree {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => {
            Some(group.stream().into_iter().collect())
        }
        _ => None,
    }
}
