//! House rules over the Rust sources: `cargo xtask tidy`.
//!
//! A rule that no tool checks is a wish. Sources are read as token trees, so strings and comments
//! never count as code and macro bodies do. Rules: size of files and functions, length of lines,
//! module documentation, file names, where `unsafe` may stand and that its reason is written down,
//! no clocks, entropy, environment or printing below the binary, a reason with every `allow`, no
//! unfinished code. Folders named `generated` are exempt from everything.

mod place;
mod text;
mod tokens;

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

pub(crate) use place::Place;

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    path: String,
    line: usize,
    rule: &'static str,
    advice: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.rule, self.advice)
    }
}

/// The violations of one file, collected as rules run.
struct Findings<'a> {
    path: &'a str,
    found: Vec<Violation>,
}

impl Findings<'_> {
    fn add(&mut self, line: usize, rule: &'static str, advice: impl Into<String>) {
        let advice = advice.into();
        self.found.push(Violation { path: self.path.to_owned(), line, rule, advice });
    }
}

/// Checks every Rust file that git tracks or would track under `root`; prints what is wrong.
pub(crate) fn run(root: &Path) -> Result<()> {
    let paths = rust_files(root)?;
    let mut violations = Vec::new();
    for path in &paths {
        let full = root.join(path);
        if !full.exists() {
            continue;
        }
        let source = std::fs::read_to_string(&full).with_context(|| format!("reading {path}"))?;
        violations.extend(check_file(path, &source));
    }
    violations.sort();
    for violation in &violations {
        println!("{violation}");
    }
    if !violations.is_empty() {
        bail!("{} tidy violations in {} files", violations.len(), paths.len());
    }
    println!("tidy: {} files follow the house rules", paths.len());
    Ok(())
}

/// Everything wrong with one file, given its path from the repository root.
pub(crate) fn check_file(path: &str, source: &str) -> Vec<Violation> {
    let place = Place::of(path);
    if place.generated {
        return Vec::new();
    }
    let mut findings = Findings { path, found: Vec::new() };
    text::check(&place, source, &mut findings);
    tokens::check(&place, source, &mut findings);
    findings.found
}

fn rust_files(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.rs"])
        .current_dir(root)
        .output()
        .context("running git ls-files; install git with `apt-get install git`")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let listing = String::from_utf8(output.stdout).context("a tracked path is not UTF-8")?;
    Ok(listing.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests;
