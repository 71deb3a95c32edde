//! The commands as processes: what they leave behind, print and end with.

mod files;
mod refusals;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The program under test.
const BINARY: &str = env!("CARGO_BIN_EXE_landfall");

/// A file of the repository.
fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(path)
}

fn digits() -> PathBuf {
    example("digits/models/digits/1/model.onnx")
}

/// Runs the program to its end; its status, standard output and standard error.
fn run(arguments: &[&OsStr]) -> (Option<i32>, String, String) {
    ended(Command::new(BINARY).args(arguments))
}

fn ended(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code(), text(&stdout), text(&stderr))
}

macro_rules! landfall {
    ($($argument:expr),+ $(,)?) => { crate::run(&[$(std::ffi::OsStr::new(&$argument)),+]) };
}
pub(crate) use landfall;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("landfall-cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.at(name), content).unwrap();
        self.at(name)
    }

    /// A copy of an example.
    fn copy(&self, of: &Path, name: &str) -> PathBuf {
        fs::copy(of, self.at(name)).unwrap();
        self.at(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_reader_that_has_gone_ends_a_command_quietly() {
    let model = digits();
    let (inspect, bench) = (["inspect", "--json"], ["bench", "--iterations=1"]);
    for arguments in [inspect, bench] {
        let mut command = Command::new(BINARY);
        command.args(arguments).arg(&model).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), &*stderr), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(BINARY);
    command.arg("inspect").arg(digits()).stdout(full).stderr(Stdio::piped());
    let ended = command.spawn().unwrap().wait_with_output().unwrap();
    let (code, stderr) = (ended.status.code(), String::from_utf8_lossy(&ended.stderr));
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("cannot write to standard output"), "{stderr}");
}

#[test]
fn packages_do_not_depend_on_the_instruction_set() {
    let folder = Folder::new("isa");
    let package = |isa: &str| {
        let output = folder.at(&format!("isa-{isa}.landfall"));
        let mut command = Command::new(BINARY);
        command.env("LANDFALL_ISA", isa).arg("package").arg(digits()).arg("-o").arg(&output);
        let (code, _, stderr) = ended(&mut command);
        assert_eq!(code, Some(0), "{stderr}");
        fs::read(output).unwrap()
    };
    // The empty name stands for the best that this machine has.
    assert!(package("reference") == package(""), "different bytes");
}

#[test]
fn tuning_is_kept_in_the_package_beside_what_was_there() {
    let folder = Folder::new("tune");
    let (package, tuned) = (folder.at("digits.landfall"), folder.at("tuned.landfall"));
    assert_eq!(landfall!("package", digits(), "-o", package).0, Some(0));
    let before = fs::read(&package).unwrap();
    let tune = |threads: &[&str], precision: &str, model: &Path, output: &Path| {
        let quick = ["--seconds", "0.05", "--batch", "2", "--batch", "2", "--json"];
        let mut command = Command::new(BINARY);
        command.arg("tune").arg(model).arg("-o").arg(output).args(quick);
        command.args(["--precision", precision]);
        threads.iter().for_each(|threads| {
            command.args(["--threads", threads]);
        });
        let (code, stdout, stderr) = ended(&mut command);
        assert_eq!(code, Some(0), "{stderr}");
        let figures: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(figures["algorithms_refused"], false, "{figures}");
        let cases = figures["cases"].as_array().unwrap();
        assert_eq!(cases.len(), threads.len(), "{figures}");
        for (case, threads) in cases.iter().zip(threads) {
            assert_eq!(case["threads"].to_string(), *threads, "{figures}");
            assert_eq!(case["shapes"][0][0], 2, "{figures}");
            assert!(case["steps"].as_array().unwrap().len() > 3, "{figures}");
        }
    };
    tune(&["1", "2"], "f32", &package, &tuned);
    assert!(fs::read(&package).unwrap() == before, "the original was changed");
    let again = folder.at("again.landfall");
    tune(&["2"], "bf16", &tuned, &again);
    tune(&["2"], "f32", &again, &again);
    let opened = landfall_package::Package::open(&again).unwrap();
    let kept = opened.manifest().tuning.iter().map(|tuning| tuning.precision.0.name());
    assert_eq!(kept.collect::<Vec<_>>(), ["f32", "bf16"]);
    let inspected = landfall!("inspect", again);
    assert!(inspected.1.contains("tuned for"), "{inspected:?}");
    let verified = landfall!("inspect", "--verify", again);
    assert_eq!(verified.0, Some(0), "{}", verified.2);
    // Loading checks golden outputs.
    let input = example("digits/digits.npz");
    let result = landfall!("run", again, "-i", input, "-o", folder.at("out.npz"));
    assert_eq!(result.0, Some(0), "{}", result.2);
    let held = fs::File::open(&again).unwrap();
    held.lock().unwrap();
    let second = landfall!("tune", again, "--seconds", "0.01", "--batch", "1");
    assert_eq!(second.0, Some(2), "{second:?}");
    assert!(second.2.contains("another `landfall tune` is at work on it"), "{second:?}");
    let plain = landfall!("tune", digits(), "--seconds", "0.01", "--batch", "1");
    assert!(plain.1.contains("not kept"), "{plain:?}");
    let nowhere = landfall!("tune", digits(), "-o", folder.at("x.landfall"));
    assert!(nowhere.2.contains("make one first with `landfall package`"), "{nowhere:?}");
}

/// Sends signals, one after the other, to a `score` that waits for more rows and has written some.
fn interrupted(name: &str, mut command: Command, signals: &[&str], code: i32) {
    let folder = Folder::new(name);
    let input = folder.at("in.csv");
    assert!(Command::new("mkfifo").arg(&input).status().unwrap().success());
    let names: Vec<String> = (0..64).map(|index| format!("p{index}")).collect();
    command.arg("score").arg(digits()).args(["--threads", "1", "--columns", &names.join(",")]);
    command.arg("--input").arg(&input).arg("--output").arg(folder.at("out.csv"));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // More than is read before the first rows are written; the end does not come.
    let mut pipe = fs::OpenOptions::new().write(true).open(&input).unwrap();
    let row = format!("{}\n", vec!["0"; 64].join(","));
    pipe.write_all(format!("{}\n{}", names.join(","), row.repeat(10_000)).as_bytes()).unwrap();
    wait_for("no output begins", || {
        folder.names().iter().any(|name| name.starts_with(".out.csv.") && !name.contains("quar"))
    });
    let pid = child.id().to_string();
    for signal in signals {
        assert!(Command::new("kill").args([signal, pid.as_str()]).status().unwrap().success());
    }
    let ended = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains("interrupted; nothing written"), "{stderr}");
    assert_eq!(folder.names(), ["in.csv"]);
}

#[test]
fn an_interrupted_score_leaves_nothing_behind() {
    for (signal, code) in [("-TERM", 143), ("-INT", 130), ("-HUP", 129)] {
        // Whoever runs the tests may have had the signal ignored, which children inherit.
        let mut command = Command::new("perl");
        command.args(["-e", "$SIG{HUP} = $SIG{INT} = 'DEFAULT'; exec @ARGV", BINARY]);
        interrupted(&format!("interrupt{signal}"), command, &[signal], code);
    }
}

#[test]
fn a_hangup_does_not_end_what_nohup_started() {
    let mut command = Command::new("nohup");
    command.arg(BINARY);
    interrupted("nohup", command, &["-HUP", "-TERM"], 143);
}
