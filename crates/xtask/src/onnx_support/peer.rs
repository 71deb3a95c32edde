//! The cases that onnxruntime passes, for a column beside ours.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::Judged;

const PATH: &str = "tests/conformance/onnxruntime.txt";
const SCRIPT: &str = "tests/conformance/onnxruntime_cases.py";

/// What `tests/conformance/onnxruntime_cases.py` wrote.
#[derive(Debug, Clone, Default)]
pub(super) struct Peer {
    pub(super) version: String,
    passing: BTreeSet<String>,
}

impl Peer {
    /// Reads the committed list; fails if it was made from another version of `onnx`.
    pub(super) fn read(root: &Path, onnx_version: &str) -> Result<Peer> {
        let text = std::fs::read_to_string(root.join(PATH)).context(PATH)?;
        Peer::parse(&text, onnx_version)
    }

    fn parse(text: &str, onnx_version: &str) -> Result<Peer> {
        let header = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix("# ")?.strip_prefix(name)).map(str::trim)
        };
        if header("onnx ") != Some(onnx_version) {
            bail!("{PATH} is not of onnx {onnx_version}; make it anew with {SCRIPT}");
        }
        let version = header("onnxruntime ").context(PATH)?.to_owned();
        let names = text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned);
        Ok(Peer { version, passing: names.collect() })
    }

    /// How many of these cases onnxruntime passes.
    pub(super) fn count<'a>(&self, judged: impl IntoIterator<Item = &'a Judged>) -> usize {
        judged.into_iter().filter(|entry| self.passing.contains(&entry.case.name)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::super::report::tests::judged;
    use super::*;

    #[test]
    fn the_list_counts_only_for_its_version_of_the_cases() {
        let text = "# onnx 1.2\n# onnxruntime 3.4, CPU\na\nb\n";
        let peer = Peer::parse(text, "1.2").unwrap();
        assert_eq!(peer.version, "3.4, CPU");
        let judged = [judged("a", Outcome::Failed), judged("c", Outcome::Passed)];
        assert_eq!(peer.count(&judged), 1);
        assert!(Peer::parse(text, "1.3").is_err());
    }
}
