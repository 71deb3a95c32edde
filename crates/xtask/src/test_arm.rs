//! The tests of an AArch64 build under user-mode emulation: `cargo xtask test-arm`.
//!
//! Emulation proves results, not speed. The emulated processor has every instruction that kernels
//! use, so that their tests, which run on all levels a processor has, run on all of AArch64's. The
//! example model then runs on processors that have ever fewer, by all levels that each must have,
//! always to the same bits. Not a stage of `cargo xtask test`, since it needs a cross compiler and
//! takes many minutes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::stages::{Prerequisite, check_all, execute};
use crate::target_folder;

const TARGET: &str = "aarch64-unknown-linux-gnu";
/// Where Debian's packages put the C library of that target.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";
const CRATES: [&str; 3] = ["landfall-tensor", "landfall-kernels", "landfall-runtime"];

const PREREQUISITES: [Prerequisite; 2] = [
    Prerequisite {
        what: "a C compiler and linker for AArch64",
        program: "aarch64-linux-gnu-gcc",
        arguments: &["--version"],
        install: "apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    },
    Prerequisite {
        what: "user-mode emulation of AArch64",
        program: "qemu-aarch64",
        arguments: &["--version"],
        install: "apt-get install qemu-user",
    },
];

/// Processors as the emulator names them, each with its best level and those after it.
const PROCESSORS: [(&str, &str); 3] =
    [("max", "i8mm"), ("neoverse-n1", "dotprod"), ("cortex-a53", "neon")];

/// Runs the tests, then the example on every processor.
pub(crate) fn run(root: &Path) -> Result<()> {
    check_all(&PREREQUISITES)?;
    check_target()?;
    for package in CRATES {
        execute(cargo(root, "test").args(["--package", package]))?;
    }
    execute(cargo(root, "build").args(["--package", "landfall"]))?;
    let mut first: Option<Vec<u8>> = None;
    for (i, (processor, _)) in PROCESSORS.iter().enumerate() {
        for (_, level) in &PROCESSORS[i..] {
            let outputs = example(root, processor, level)?;
            if first.get_or_insert_with(|| outputs.clone()) != &outputs {
                bail!("the example's outputs by `{level}` on {processor} are others");
            }
            println!("{processor:12} {level:8} same outputs");
        }
    }
    Ok(())
}

/// The compiler's own libraries for the target.
fn check_target() -> Result<()> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .context("starting `rustc`")?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if !folder.is_dir() {
        bail!("missing on this machine:\n  Rust's {TARGET}: rustup target add {TARGET}");
    }
    Ok(())
}

fn cargo(root: &Path, command: &str) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(program);
    cargo.args([command, "--target", TARGET]).current_dir(root);
    cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
    cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", "qemu-aarch64");
    cargo.env("CC_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-gcc");
    cargo.env("QEMU_LD_PREFIX", LIBRARIES).env("QEMU_CPU", "max");
    cargo
}

/// The archive of what the example model answers at a level that the processor must have.
fn example(root: &Path, processor: &str, level: &str) -> Result<Vec<u8>> {
    let (digits, folder) = (root.join("examples/digits"), target_folder(root).join(TARGET));
    let outputs = folder.join(format!("digits-{processor}-{level}.npz"));
    let mut command = Command::new("qemu-aarch64");
    command.env("QEMU_LD_PREFIX", LIBRARIES).env("QEMU_CPU", processor);
    command.env("LANDFALL_ISA", level).arg(folder.join("debug/landfall"));
    command.arg("run").arg(digits.join("models/digits/1/model.onnx"));
    command.arg("--input").arg(digits.join("digits.npz")).arg("--output").arg(&outputs);
    execute(&mut command)?;
    std::fs::read(&outputs).with_context(|| format!("reading {}", outputs.display()))
}
