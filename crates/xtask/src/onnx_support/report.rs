//! The published table of conformance results, as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::peer::Peer;
use super::{Judged, Outcome};

const REASON_CHARS_MAX: usize = 160;

/// How many cases came out how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts([usize; Outcome::ALL.len()]);

impl Counts {
    fn of<'a>(judged: impl IntoIterator<Item = &'a Judged>) -> Counts {
        let mut counts = Counts::default();
        for entry in judged {
            counts.0[entry.verdict.outcome as usize] += 1;
        }
        counts
    }

    fn get(&self, outcome: Outcome) -> usize {
        self.0[outcome as usize]
    }

    fn total(&self) -> usize {
        self.0.iter().sum()
    }

    /// `cases | passed | random | unsupported | failed | wrong |`, empty where zero.
    fn cells(&self) -> String {
        let mut cells = format!("{} |", self.total());
        for count in self.0 {
            let shown = if count == 0 { String::new() } else { format!(" {count}") };
            cells += &format!("{shown} |");
        }
        cells
    }
}

/// One line for the terminal.
pub(super) fn summary_line(judged: &[Judged]) -> String {
    let counts = Counts::of(judged);
    let parts: Vec<String> = Outcome::ALL
        .iter()
        .map(|&outcome| format!("{} {}", counts.get(outcome), outcome.name()))
        .collect();
    format!("onnx: {} cases: {}", counts.total(), parts.join(", "))
}

/// The whole document.
pub(super) fn table(judged: &[Judged], onnx_version: &str, peer: &Peer) -> String {
    let mut text = introduction(onnx_version, &peer.version);
    text += &totals(judged, peer);
    text += &by_key(
        "## By operator set",
        "Node cases by the version of the operator set that the case's model imports.",
        "operator set",
        (judged, peer),
        |entry| (entry.case.domain.clone(), entry.case.opset, String::new()),
        |(domain, opset, _)| format!("{domain} {opset}"),
    );
    text += &by_key(
        "## By operator",
        "Node cases by the operator they are about, those with its function body included.",
        "operator",
        (judged, peer),
        |entry| (entry.case.domain.clone(), 0, entry.case.operator.clone()),
        |(domain, _, operator)| match domain.as_str() {
            "ai.onnx" => operator.clone(),
            _ => format!("{domain}.{operator}"),
        },
    );
    text += &not_passing(judged);
    text
}

fn introduction(onnx_version: &str, peer_version: &str) -> String {
    format!(
        "# ONNX support

Made by `cargo xtask onnx-support --write`; `cargo xtask test` fails when it is not true.

Every backend test case that the `onnx` package {onnx_version} generates or carries is imported,
optimised, compiled and run. Nothing is left out.

- **passed**: outputs have the expected shapes, element types and values (floating point within the
  case's own tolerance, everything else exactly).
- **random**: shapes and element types are right; the values are random by specification.
- **unsupported**: refused, with an error that names what is not supported.
- **failed**: another error.
- **wrong**: an answer that is not the expected one. None is tolerated that is not explained in
  `tests/conformance/deviations.txt`.

The last column counts the same cases passed by onnxruntime {peer_version}, as judged by
`tests/conformance/onnxruntime_cases.py`.

"
    )
}

fn head(first: &str) -> String {
    format!(
        "| {first} | cases | passed | random | unsupported | failed | wrong | \
         onnxruntime |\n|---|---|---|---|---|---|---|---|\n"
    )
}

fn totals(judged: &[Judged], peer: &Peer) -> String {
    type Filter = fn(&Judged) -> bool;
    let rows: [(&str, Filter); 9] = [
        ("all", |_| true),
        ("node cases", |entry| entry.case.kind == "node"),
        ("node cases, operator itself", |entry| entry.case.kind == "node" && !entry.case.expanded),
        ("… with f32, i64, i32, bool, u8, i8 tensors only", |entry| {
            entry.case.kind == "node" && !entry.case.expanded && entry.case.core
        }),
        ("node cases, operator as its function body", |entry| entry.case.expanded),
        ("light models (whole networks)", |entry| entry.case.kind == "light"),
        ("pytorch-converted models", |entry| entry.case.kind == "pytorch-converted"),
        ("pytorch-operator models", |entry| entry.case.kind == "pytorch-operator"),
        ("simple models", |entry| entry.case.kind == "simple"),
    ];
    let mut text = format!("## Totals\n\n{}", head("set"));
    for (name, filter) in rows {
        let entries: Vec<&Judged> = judged.iter().filter(|entry| filter(entry)).collect();
        text += &row(name, &entries, peer);
    }
    text + "\n"
}

fn row(name: &str, entries: &[&Judged], peer: &Peer) -> String {
    let counts = Counts::of(entries.iter().copied());
    format!("| {name} | {} {} |\n", counts.cells(), peer.count(entries.iter().copied()))
}

type Key = (String, i64, String);

fn by_key(
    title: &str,
    note: &str,
    first: &str,
    (judged, peer): (&[Judged], &Peer),
    key: impl Fn(&Judged) -> Key,
    name: impl Fn(&Key) -> String,
) -> String {
    let mut groups: BTreeMap<Key, Vec<&Judged>> = BTreeMap::new();
    for entry in judged.iter().filter(|entry| entry.case.kind == "node") {
        groups.entry(key(entry)).or_default().push(entry);
    }
    let mut text = format!("{title}\n\n{note}\n\n{}", head(first));
    for (key, entries) in &groups {
        text += &row(&name(key), entries, peer);
    }
    text + "\n"
}

fn not_passing(judged: &[Judged]) -> String {
    let mut text = "## Cases that do not pass\n\n".to_owned();
    for outcome in [Outcome::Wrong, Outcome::Failed, Outcome::Unsupported, Outcome::Random] {
        let mut entries: Vec<&Judged> =
            judged.iter().filter(|entry| entry.verdict.outcome == outcome).collect();
        entries.sort_by(|a, b| a.case.name.cmp(&b.case.name));
        let _ = writeln!(text, "### {} ({})\n", capitalised(outcome.name()), entries.len());
        if entries.is_empty() {
            text += "None.\n";
        }
        for entry in entries {
            let opset = entry.case.opset;
            let reason = one_line(&entry.verdict.reason);
            let _ = writeln!(text, "- `{}` (opset {opset}): {reason}", entry.case.name);
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// A reason on one line of bounded length, safe inside Markdown.
fn one_line(reason: &str) -> String {
    let words: Vec<&str> = reason.split_whitespace().collect();
    let line = words.join(" ").replace('|', "\\|").replace('<', "\\<");
    match line.char_indices().nth(REASON_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Verdict;
    use super::super::case::Case;
    use super::*;

    /// A node case of `Relu` with that outcome.
    pub(in super::super) fn judged(name: &str, outcome: Outcome) -> Judged {
        let json = serde_json::json!({
            "name": name, "kind": "node", "domain": "ai.onnx", "operator": "Relu", "opset": 14,
            "expanded": false, "core": true, "random": null,
            "rtol": 1e-3, "atol": 1e-7, "inputs": [], "outputs": [],
        });
        let case: Case = serde_json::from_value(json).unwrap();
        let reason = if outcome == Outcome::Passed { "" } else { "because" };
        Judged { case, verdict: Verdict { outcome, reason: reason.to_owned() } }
    }

    #[test]
    fn counts_add_up_and_wrong_answers_are_listed_first() {
        let judged = [
            judged("test_relu", Outcome::Passed),
            judged("test_relu_b", Outcome::Unsupported),
            judged("test_relu_c", Outcome::Wrong),
        ];
        let text = table(&judged, "1.0", &Peer::default());
        assert!(text.contains("| all | 3 | 1 | | 1 | | 1 | 0 |"), "{text}");
        assert!(text.contains("| Relu | 3 | 1 | | 1 | | 1 | 0 |"), "{text}");
        assert!(text.contains("| ai.onnx 14 | 3 |"), "{text}");
        let wrong = text.find("- `test_relu_c` (opset 14): because").unwrap();
        assert!(wrong < text.find("- `test_relu_b`").unwrap());
        assert!(!text.contains("`test_relu` "));
        assert_eq!(
            summary_line(&judged),
            "onnx: 3 cases: 1 passed, 0 random, 1 unsupported, 0 failed, 1 wrong"
        );
    }

    #[test]
    fn reasons_stay_on_one_short_line() {
        assert_eq!(one_line("a\n  | b"), "a \\| b");
        assert_eq!(one_line(&"é".repeat(300)).chars().count(), REASON_CHARS_MAX + 1);
    }
}
