//! Arguments that cannot work are refused, with what is expected instead.

use crate::{Folder, digits, example, landfall};

/// Fails unless a command ends with 2 and says `message`.
fn says(result: &(Option<i32>, String, String), message: &str) {
    let (code, _, stderr) = result;
    assert_eq!(*code, Some(2), "{stderr}");
    assert!(stderr.contains(message), "{stderr}");
}

#[test]
fn numbers_have_bounds() {
    let (model, input) = (digits(), example("digits/digits.npz"));
    let threads = "expected a number from 0 to 1024, found '100000'";
    says(&landfall!("run", model, "-i", input, "--threads", "100000"), threads);
    says(&landfall!("bench", model, "--threads", "100000"), threads);
    says(&landfall!("inspect", model, "--threads", "100000"), threads);
    says(&landfall!("serve", model, "--workers", "100000"), threads);
    let score = |flag, value| landfall!("score", model, "-i", "a.csv", "-o", "b.csv", flag, value);
    says(&score("--threads", "100000"), threads);
    says(&score("--batch-rows", "0"), "expected a number from 1, found '0'");
    says(&landfall!("bench", model, "--seconds", "NaN"), "expected seconds, such as 1.5");
    says(&landfall!("demo", "--seconds", "NaN"), "expected seconds, such as 1.5");
    says(&landfall!("serve", model, "--poll-seconds", "NaN"), "expected seconds, such as 1.5");
    says(&landfall!("serve", model, "--http", ":9000"), "such as 127.0.0.1:9000");
}

#[test]
fn files_of_settings_have_the_same_bounds() {
    let folder = Folder::new("bounds");
    let server = folder.write("server.yaml", "workers: 100000\n");
    says(&landfall!("serve", server), "workers: expected 0 to 1024, found 100000");
    let manifest = folder.write("manifest.yaml", "serving: {threads: 100000}\n");
    let output = folder.at("out.landfall");
    let package = landfall!("package", digits(), "--manifest", manifest, "-o", output);
    says(&package, "threads: expected 1 to 1024, found 100000");
    let manifest = folder.write("manifest.yaml", "name: ../other\n");
    let package = landfall!("package", digits(), "--manifest", manifest, "-o", output);
    says(&package, "name: expected one without '/'");
    let manifest = folder.write("manifest.yaml", "tolerance: {absolute: -1}\n");
    let package = landfall!("package", digits(), "--manifest", manifest, "-o", output);
    says(&package, "tolerance: absolute: expected a number from 0, found -1");
}
