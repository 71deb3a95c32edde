//! What commands write, what they do not write over, and how damage is found.

use std::fs;

use landfall::config::ModelFile;
use landfall::loading::{ModelFiles, OpenModel};
use landfall_tensor::FileAccess;

use crate::{Folder, digits, example, landfall};

/// Fails unless a command refused to write over `file`, which it names with both arguments.
fn refused(result: &(Option<i32>, String, String), arguments: [&str; 2]) {
    let (code, _, stderr) = result;
    assert_eq!(*code, Some(2), "{stderr}");
    let [first, second] = arguments;
    assert!(stderr.contains(&format!("{first} and {second} are the same file")), "{stderr}");
}

#[test]
fn run_does_not_write_over_what_it_reads() {
    let folder = Folder::new("run-over");
    let model = folder.copy(&digits(), "model.onnx");
    let input = folder.copy(&example("digits/digits.npz"), "in.npz");
    let before = (fs::read(&model).unwrap(), fs::read(&input).unwrap());
    let same = folder.at("./in.npz");
    refused(&landfall!("run", model, "-i", input, "-o", same), ["--output", "--input"]);
    refused(&landfall!("run", model, "-i", input, "-o", model), ["--output", "the model"]);
    assert!(before == (fs::read(&model).unwrap(), fs::read(&input).unwrap()));
    let (code, _, stderr) = landfall!("run", model, "-i", input, "-o", folder.at("no/out.npz"));
    assert_eq!(code, Some(2));
    assert!(stderr.contains(&format!("there is no folder {}", folder.at("no").display())));
    assert_eq!(folder.names(), ["in.npz", "model.onnx"]);
}

#[test]
fn package_does_not_write_over_what_it_reads() {
    let folder = Folder::new("package-over");
    let model = folder.copy(&digits(), "model.onnx");
    let golden = folder.copy(&example("digits/digits.npz"), "golden.npz");
    let manifest = folder.copy(&example("digits/manifest.yaml"), "manifest.yaml");
    let package = |output| {
        landfall!("package", model, "--golden", golden, "--manifest", manifest, "-o", output)
    };
    refused(&package(&model), ["--output", "the model"]);
    refused(&package(&golden), ["--output", "--golden"]);
    refused(&package(&manifest), ["--output", "--manifest"]);
    for (file, of) in [
        (&model, digits()),
        (&golden, example("digits/digits.npz")),
        (&manifest, example("digits/manifest.yaml")),
    ] {
        assert!(fs::read(file).unwrap() == fs::read(of).unwrap());
    }
}

#[test]
fn score_does_not_write_over_what_it_reads_or_writes() {
    let folder = Folder::new("score-over");
    let input = folder.write("in.csv", "a\n1\n");
    let model = folder.copy(&digits(), "model.onnx");
    let (out, bad) = (folder.at("out.csv"), folder.at("bad.jsonl"));
    let score = |output, quarantine| {
        landfall!("score", model, "-i", input, "-o", output, "--quarantine", quarantine)
    };
    refused(&score(&input, &bad), ["--output", "--input"]);
    refused(&score(&out, &input), ["--quarantine", "--input"]);
    refused(&score(&out, &model), ["--quarantine", "the model"]);
    refused(&score(&out, &out), ["--quarantine", "--output"]);
    assert_eq!(fs::read(&input).unwrap(), b"a\n1\n");
    assert_eq!(folder.names(), ["in.csv", "model.onnx"]);
}

#[test]
fn damage_that_golden_data_cannot_show_is_found_with_the_name_of_the_entry() {
    let folder = Folder::new("damage");
    let package = folder.at("digits.landfall");
    assert_eq!(landfall!("package", digits(), "-o", package).0, Some(0));
    let (code, stdout, _) = landfall!("inspect", "--verify", package);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("digest"), "{stdout}");

    // Weights that kernels read in another layout, so that no answer depends on them.
    let mut bytes = fs::read(&package).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    fs::write(&package, bytes).unwrap();
    let broken = "entry 'weights/3' is corrupt";
    let (code, _, stderr) = landfall!("inspect", "--verify", package);
    assert!(code == Some(1) && stderr.contains(broken), "{stderr}");
    let open = |access| ModelFiles.open(&package, access, &ModelFile::default());
    let error = open(FileAccess::Copied).err().unwrap();
    assert!(error.contains(broken), "{error}");
    assert!(open(FileAccess::Mapped).is_ok());
    let (code, _, stderr) = landfall!("inspect", "--verify", digits());
    assert!(code == Some(2) && stderr.contains("only packages"), "{stderr}");
}
