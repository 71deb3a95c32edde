//! The layering of the crates: `cargo xtask layers`.
//!
//! [`CRATES`] is the architecture diagram as data: which workspace crates each crate may use.
//! Normal and build dependencies must be in its row. Development dependencies may also be
//! `testkit` and any crate of a lower level. [`CONFINED`] names external crates that would carry
//! knowledge into a layer that must not have it, with the crates that may use them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// A crate's place in the architecture.
struct Row {
    name: &'static str,
    level: u8,
    uses: &'static [&'static str],
}

const fn row(name: &'static str, level: u8, uses: &'static [&'static str]) -> Row {
    Row { name, level, uses }
}

/// What the crates that join the others may use.
const EVERYTHING: &[&str] = &[
    "tensor", "kernels", "graph", "monitor", "runtime", "onnx", "optimize", "package", "protocol",
    "registry", "features", "train", "codegen", "predict", "compress", "delivery",
];

/// Every crate, from the bottom up.
const CRATES: &[Row] = &[
    row("tensor", 0, &[]),
    row("kernels", 1, &["tensor"]),
    row("graph", 1, &["tensor"]),
    row("monitor", 1, &[]),
    row("runtime", 2, &["graph", "kernels", "tensor"]),
    row("onnx", 2, &["graph", "tensor"]),
    row("optimize", 2, &["graph", "tensor"]),
    row("package", 2, &["graph", "tensor"]),
    row("protocol", 2, &["graph", "tensor"]),
    row("registry", 2, &["package"]),
    row("features", 2, &["tensor"]),
    row("train", 3, &["runtime", "graph", "tensor"]),
    row("codegen", 3, &["graph", "tensor"]),
    row("predict", 4, &["runtime", "package", "registry", "features", "graph", "tensor"]),
    row("compress", 4, &["train", "optimize", "runtime", "graph", "tensor"]),
    row("delivery", 4, &["registry", "monitor"]),
    row("testkit", 4, &["tensor"]),
    row("landfall", 5, EVERYTHING),
    row("xtask", 6, EVERYTHING),
];

/// External crates that only some workspace crates may use.
const CONFINED: &[(&str, &[&str])] = &[
    ("anyhow", &["landfall", "xtask"]),
    ("axum", &["landfall"]),
    ("clap", &["landfall", "xtask"]),
    ("hyper", &["landfall"]),
    ("prost", &["landfall", "protocol"]),
    ("rustls", &["landfall"]),
    ("tokio", &["landfall"]),
    ("tonic", &["landfall", "protocol"]),
];

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

/// Checks every dependency edge of the workspace at `root`; `print` shows the table instead.
pub(crate) fn run(root: &Path, print: bool) -> Result<()> {
    if print {
        print_table();
        return Ok(());
    }
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(root)
        .output()
        .context("running cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    let violations = check(&metadata);
    for violation in &violations {
        println!("{violation}");
    }
    if !violations.is_empty() {
        bail!(
            "{} layering violations; `cargo xtask layers --print` shows the rule",
            violations.len()
        );
    }
    println!("layers: {} crates depend only downwards", metadata.packages.len());
    Ok(())
}

fn print_table() {
    for row in CRATES {
        let uses = match row.uses.is_empty() {
            true => "(nothing)".to_owned(),
            false => row.uses.join(", "),
        };
        println!("{:<9} may use {uses}", row.name);
    }
    println!();
    for (external, crates) in CONFINED {
        println!("{external:<9} only in {}", crates.join(", "));
    }
}

fn check(metadata: &Metadata) -> BTreeSet<String> {
    let members: BTreeSet<&str> =
        metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let mut violations = BTreeSet::new();
    for package in &metadata.packages {
        let name = short(&package.name);
        let Some(user) = find(name) else {
            violations.insert(format!(
                "crates/{name}/Cargo.toml: unknown crate: give it a row in \
                 crates/xtask/src/layers.rs and in ARCHITECTURE.md"
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let development = dependency.kind.as_deref() == Some("dev");
            let problem = if members.contains(dependency.name.as_str()) {
                check_edge(user, short(&dependency.name), development)
            } else {
                check_external(user, &dependency.name, development)
            };
            if let Some(problem) = problem {
                violations.insert(format!("crates/{name}/Cargo.toml: {problem}"));
            }
        }
    }
    violations
}

fn check_edge(user: &Row, used: &str, development: bool) -> Option<String> {
    if user.uses.contains(&used) {
        return None;
    }
    let below = find(used).is_some_and(|row| row.level < user.level);
    if development && (used == "testkit" || below) {
        return None;
    }
    Some(format!("{} must not depend on {used}; it may use: {}", user.name, user.uses.join(", ")))
}

fn check_external(user: &Row, used: &str, development: bool) -> Option<String> {
    let (_, allowed) = CONFINED.iter().find(|(external, _)| *external == used)?;
    if development || allowed.contains(&user.name) {
        return None;
    }
    Some(format!("{} must not depend on {used}; only {} may", user.name, allowed.join(", ")))
}

fn find(name: &str) -> Option<&'static Row> {
    CRATES.iter().find(|row| row.name == name)
}

fn short(package: &str) -> &str {
    package.strip_prefix("landfall-").unwrap_or(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(edges: &[(&str, &str, Option<&str>)]) -> Metadata {
        let mut packages: Vec<Package> = CRATES
            .iter()
            .map(|row| Package { name: full(row.name), dependencies: Vec::new() })
            .collect();
        for (user, used, kind) in edges {
            let package = packages.iter_mut().find(|package| package.name == full(user)).unwrap();
            let name = if find(used).is_some() { full(used) } else { (*used).to_owned() };
            package.dependencies.push(Dependency { name, kind: kind.map(str::to_owned) });
        }
        Metadata { packages }
    }

    fn full(name: &str) -> String {
        match name {
            "landfall" | "xtask" => name.to_owned(),
            _ => format!("landfall-{name}"),
        }
    }

    #[test]
    fn the_table_only_points_downwards() {
        for row in CRATES {
            for used in row.uses {
                let used = find(used).unwrap();
                let registry_on_package = (row.name, used.name) == ("registry", "package");
                assert!(used.level < row.level || registry_on_package || used.name == "testkit");
            }
        }
    }

    #[test]
    fn edges_of_the_diagram_pass() {
        let edges = [("runtime", "kernels", None), ("predict", "runtime", None)];
        assert_eq!(check(&workspace(&edges)), BTreeSet::new());
    }

    #[test]
    fn sideways_and_upward_edges_fail() {
        for (user, used) in
            [("onnx", "optimize"), ("graph", "runtime"), ("kernels", "graph"), ("predict", "onnx")]
        {
            for kind in [None, Some("build")] {
                let violations = check(&workspace(&[(user, used, kind)]));
                let expected = format!("{user} must not depend on {used}");
                assert_eq!(violations.len(), 1);
                assert!(violations.first().unwrap().contains(&expected), "{violations:?}");
            }
        }
    }

    #[test]
    fn tests_may_use_testkit_and_what_is_below_but_not_beside() {
        let dev = Some("dev");
        let allowed = [("onnx", "testkit", dev), ("predict", "onnx", dev)];
        assert_eq!(check(&workspace(&allowed)), BTreeSet::new());
        assert_eq!(check(&workspace(&[("onnx", "optimize", dev)])).len(), 1);
        assert_eq!(check(&workspace(&[("onnx", "testkit", None)])).len(), 1);
    }

    #[test]
    fn confined_crates_stay_where_they_belong() {
        assert_eq!(check(&workspace(&[("predict", "tokio", None)])).len(), 1);
        assert_eq!(check(&workspace(&[("landfall", "tokio", None)])), BTreeSet::new());
    }

    #[test]
    fn a_crate_without_a_row_is_named() {
        let mut metadata = workspace(&[]);
        metadata.packages.push(Package { name: "landfall-magic".into(), dependencies: vec![] });
        assert!(check(&metadata).first().unwrap().contains("crates/magic"));
    }
}
