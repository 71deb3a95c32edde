//! Calls and macros that do not belong: time, randomness, environment and output are arguments
//! below the binary, and unfinished code belongs nowhere.

use proc_macro2::{Delimiter, TokenTree};

use super::{group_of, is_ident, is_punct, line_of};
use crate::tidy::{Findings, Place};

const PRINTING: [&str; 5] = ["println", "eprintln", "print", "eprint", "dbg"];
const UNFINISHED: [&str; 2] = ["todo", "unimplemented"];
const ENTROPY: [&str; 5] = ["thread_rng", "getrandom", "OsRng", "from_os_rng", "from_entropy"];
/// `module::item` pairs, with what to do instead.
const PATHS: [(&str, &str, &str, &str); 7] = [
    ("Instant", "now", "clock", "take the time as an argument"),
    ("SystemTime", "now", "clock", "take the time as an argument"),
    ("rand", "rng", "entropy", "take a seeded generator as an argument"),
    ("rand", "random", "entropy", "take a seeded generator as an argument"),
    ("env", "var", "environment", "take the setting as an argument"),
    ("env", "var_os", "environment", "take the setting as an argument"),
    ("env", "vars", "environment", "take the setting as an argument"),
];

/// Checks the call or macro that starts at the first of these tokens, if one does.
pub(super) fn check(
    place: &Place,
    trees: &[TokenTree],
    in_test: bool,
    findings: &mut Findings<'_>,
) {
    let Some(TokenTree::Ident(ident)) = trees.first() else { return };
    let name = ident.to_string();
    let line = line_of(&trees[0]);
    let is_macro = is_punct(trees.get(1), '!');
    if is_macro && UNFINISHED.contains(&name.as_str()) {
        findings.add(line, "unfinished", format!("`{name}!` must not be committed; finish it"));
    }
    if place.outer || in_test {
        return;
    }
    if is_macro && PRINTING.contains(&name.as_str()) {
        let advice = format!("`{name}!` below the binary; return the text or an error instead");
        findings.add(line, "print", advice);
    }
    if ENTROPY.contains(&name.as_str()) {
        let advice = format!("`{name}` draws entropy; take a seeded generator as an argument");
        findings.add(line, "entropy", advice);
    }
    for (module, item, rule, instead) in PATHS {
        if name == module && reaches(&trees[1..], item) {
            findings.add(line, rule, format!("`{module}::{item}` below the binary; {instead}"));
        }
    }
}

/// Whether these tokens continue a path to `item`: `::item` or `::{.., item, ..}`.
fn reaches(trees: &[TokenTree], item: &str) -> bool {
    if !(is_punct(trees.first(), ':') && is_punct(trees.get(1), ':')) {
        return false;
    }
    is_ident(trees.get(2), item)
        || group_of(trees.get(2), Delimiter::Brace)
            .is_some_and(|list| list.iter().any(|tree| is_ident(Some(tree), item)))
}
