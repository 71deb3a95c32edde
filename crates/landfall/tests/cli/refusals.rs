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
    let workers = "expected a number from 1 to 1024, found '100000'";
    says(&landfall!("serve", model, "--workers", "100000"), workers);
    let score = |flag, value| landfall!("score", model, "-i", "a.csv", "-o", "b.csv", flag, value);
    says(&score("--threads", "100000"), threads);
    says(&score("--batch-rows", "0"), "expected a number from 1, found '0'");
    says(&landfall!("bench", model, "--seconds", "NaN"), "expected seconds, such as 1.5");
    says(&landfall!("demo", "--seconds", "NaN"), "expected seconds, such as 1.5");
    says(&landfall!("serve", model, "--poll-seconds", "NaN"), "expected seconds, such as 1.5");
    says(&landfall!("serve", model, "--http", ":9000"), "such as 127.0.0.1:9000");
}

#[test]
fn axes_and_sizes_that_cannot_be_are_refused() {
    let model = digits();
    let free = "no input has a free axis 'foo'; free are N";
    says(&landfall!("bench", model, "--shape", "foo=3"), free);
    says(&landfall!("inspect", model, "--shape", "foo=3"), free);
    says(&landfall!("bench", model, "--seq-len", "3"), "no input has a free axis but of rows");
    for batch in ["10000000000", "9223372036854775807"] {
        let bench = landfall!("bench", model, "--batch", batch);
        says(&bench, &format!("of shape [{batch},1,8,8] exceeds the limit of "));
        says(&bench, " bytes of working memory");
    }
}

#[test]
fn files_that_are_no_models_are_told_for_what_they_are() {
    let folder = Folder::new("content");
    let model = std::fs::read(digits()).unwrap();
    let package = folder.at("model.landfall");
    assert_eq!(landfall!("package", digits(), "-o", package).0, Some(0));
    let package = std::fs::read(package).unwrap();
    std::fs::create_dir(folder.at("folder.onnx")).unwrap();
    says(&landfall!("inspect", folder.at("folder.onnx")), "is a folder");
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n".as_slice();
    let cases: [(&str, &[u8], &str); 9] = [
        ("text.onnx", b"hello there\n", "a text file, not an ONNX model"),
        ("text.landfall", b"hello there\n", "a text file, not a Landfall package"),
        ("empty.onnx", b"", "the file is empty; is the download complete?"),
        ("empty.landfall", b"", "the file is empty; is the download complete?"),
        ("zip.onnx", &package, "its name must end in .landfall"),
        ("onnx.landfall", &model, "an ONNX model, whose name must end in .onnx"),
        ("cut.onnx", &model[..50_000], "is the download complete?"),
        ("cut.landfall", &package[..50_000], "is the download complete?"),
        ("lfs.onnx", lfs, "`git lfs pull` fetches the file"),
    ];
    for (name, content, message) in cases {
        let file = folder.write(name, content);
        for result in [landfall!("inspect", file), landfall!("bench", file)] {
            says(&result, message);
            says(&result, &format!("error: {}: ", file.display()));
        }
    }
}

#[test]
fn a_package_is_made_of_an_onnx_model_and_named_as_one() {
    let folder = Folder::new("kinds");
    let package = folder.at("digits.landfall");
    assert_eq!(landfall!("package", digits(), "-o", package).0, Some(0));
    let again = landfall!("package", package, "-o", folder.at("again.landfall"));
    says(&again, "is a package already; expected an .onnx model");
    let misnamed = landfall!("package", digits(), "-o", folder.at("digits.bin"));
    says(&misnamed, "--output: expected a file name that ends in .landfall");
    assert!(!folder.at("digits.bin").exists());
}

#[test]
fn causes_are_told_once() {
    let folder = Folder::new("once");
    let absent = |name| folder.at(name);
    let input = folder.write("in.npz", "no archive");
    let results = [
        landfall!("bench", absent("absent.onnx")),
        landfall!("bench", absent("absent.landfall")),
        landfall!("run", digits(), "-i", input),
    ];
    for (_, _, stderr) in results {
        for cause in ["os error", "absent", "in.npz", "EOCD"] {
            assert!(stderr.matches(cause).count() <= 1, "{stderr}");
        }
    }
}

#[test]
fn files_of_settings_have_the_same_bounds() {
    let folder = Folder::new("bounds");
    let server = folder.write("server.yaml", "workers: 100000\n");
    says(&landfall!("serve", server), "workers: expected 1 to 1024, found 100000");
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
