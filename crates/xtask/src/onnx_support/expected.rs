//! The committed list of passing cases, which may grow but not shrink unnoticed.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Judged, Outcome};

/// Where the list stands in the repository.
pub(super) const PATH: &str = "tests/conformance/expected.txt";
/// Wrong answers that are understood: a case and the reason on each line. They stay in the table.
const DEVIATIONS: &str = "tests/conformance/deviations.txt";
const HEADER: &str =
    "# Conformance cases that pass. Written by `cargo xtask onnx-support --write`.\n";
const NAMES_SHOWN: usize = 20;

/// Writes the list of the cases that passed.
pub(super) fn write(root: &Path, judged: &[Judged]) -> Result<()> {
    let text: String = passing(judged).iter().map(|name| format!("{name}\n")).collect();
    std::fs::write(root.join(PATH), format!("{HEADER}{text}")).context(PATH)
}

/// Fails on a wrong answer that is not explained, on an explanation that no wrong answer needs, on
/// a listed case that does not pass, and on an unlisted one that does.
pub(super) fn check(root: &Path, judged: &[Judged]) -> Result<()> {
    let text = std::fs::read_to_string(root.join(PATH)).context(PATH)?;
    let listed: BTreeSet<&str> =
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let explained = std::fs::read_to_string(root.join(DEVIATIONS)).context(DEVIATIONS)?;
    let explained: BTreeSet<&str> = explained
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once(':')?.0))
        .collect();
    let problems = problems(&listed, &explained, judged);
    if !problems.is_empty() {
        let shown = problems.iter().take(NAMES_SHOWN).cloned().collect::<Vec<_>>().join("\n  ");
        bail!("{} conformance problems:\n  {shown}", problems.len());
    }
    let news = passing(judged).difference(&listed).count();
    if news > 0 {
        bail!(
            "{news} cases pass that {PATH} does not list; run `cargo xtask onnx-support --write`"
        );
    }
    Ok(())
}

fn passing(judged: &[Judged]) -> BTreeSet<&str> {
    judged
        .iter()
        .filter(|entry| entry.verdict.outcome == Outcome::Passed)
        .map(|entry| entry.case.name.as_str())
        .collect()
}

fn problems(listed: &BTreeSet<&str>, explained: &BTreeSet<&str>, judged: &[Judged]) -> Vec<String> {
    let mut problems = Vec::new();
    let known: BTreeSet<&str> = judged.iter().map(|entry| entry.case.name.as_str()).collect();
    for Judged { case, verdict } in judged {
        let outcome = verdict.outcome;
        let regressed = listed.contains(case.name.as_str()) && outcome != Outcome::Passed;
        let wrong = outcome == Outcome::Wrong;
        if wrong != explained.contains(case.name.as_str()) || regressed {
            problems.push(format!("{}: {}: {}", case.name, outcome.name(), verdict.reason));
        }
    }
    problems.extend(listed.difference(&known).map(|name| format!("{name}: no such case")));
    problems
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::judged;
    use super::*;

    #[test]
    fn wrong_answers_and_regressions_are_problems() {
        let judged = [
            judged("a", Outcome::Passed),
            judged("b", Outcome::Unsupported),
            judged("c", Outcome::Wrong),
        ];
        let none = BTreeSet::new();
        assert_eq!(problems(&BTreeSet::from(["a"]), &none, &judged), ["c: wrong: because"]);
        let explained = BTreeSet::from(["b", "c"]);
        let needless = problems(&BTreeSet::from(["a"]), &explained, &judged);
        assert_eq!(needless, ["b: unsupported: because"]);
        let listed = BTreeSet::from(["a", "b", "gone"]);
        let expected = ["b: unsupported: because", "c: wrong: because", "gone: no such case"];
        assert_eq!(problems(&listed, &none, &judged), expected);
        assert_eq!(passing(&judged), BTreeSet::from(["a"]));
    }
}
