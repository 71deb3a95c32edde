//! Whole packages: round trip, sameness of bytes, damage, and what the writer refuses.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use landfall_graph::{DimSpec, Signature, TensorSpec};
use landfall_package::steps::{PostStep, PreStep};
use landfall_package::{
    ALIGNMENT, Golden, ModelConfig, Package, PackageBuilder, PackageError, PrecisionName,
    Provenance, Source, Tolerance, TuningRecord,
};
use landfall_tensor::{Buffer, DType, Precision, Shape, Tensor};
use proptest::prelude::*;

fn spec(name: &str, dtype: DType, dims: &[usize]) -> TensorSpec {
    let batch = DimSpec::Symbol("batch".into());
    let dims = std::iter::once(batch).chain(dims.iter().map(|&n| DimSpec::Known(n))).collect();
    TensorSpec { name: name.into(), dtype, dims: Some(dims) }
}

fn builder() -> PackageBuilder {
    let yaml_like = serde_json::json!([{"rename": {"from": "features", "to": "x"}}]);
    let preprocess: Vec<PreStep> = serde_json::from_value(yaml_like).unwrap();
    let post = serde_json::json!([{"softmax": {}}, {"top_k": {"k": 2, "labels": "labels.txt"}}]);
    let postprocess: Vec<PostStep> = serde_json::from_value(post).unwrap();
    let f32s = |shape: &[usize], v: &[f32]| Tensor::from_slice(Shape::from(shape), v).unwrap();
    let metrics = BTreeMap::from([("accuracy".to_owned(), 0.97), ("loss".to_owned(), 0.1)]);
    let words = vec!["late".to_owned(), "à l'heure".to_owned()];
    PackageBuilder {
        model: ModelConfig {
            name: "sample".into(),
            description: "A sample.".into(),
            preprocess,
            postprocess,
            metrics,
            data: BTreeMap::from([("rows".to_owned(), serde_json::json!(336_776))]),
            ..ModelConfig::default()
        },
        provenance: Provenance {
            tool: "landfall 0.1.0".into(),
            source: Some(Source::of("sample.onnx", b"onnx bytes")),
        },
        signature: Signature {
            inputs: vec![spec("x", DType::F32, &[4])],
            outputs: vec![spec("y", DType::F32, &[3])],
        },
        graph_text: "graph".into(),
        constants: vec![
            f32s(&[4, 3], &[0.5; 12]),
            Tensor::from_strings(Shape::from([2]), words).unwrap(),
            f32s(&[0], &[]),
        ],
        packed: BTreeMap::from([(
            "dense/gemm-b/avx2-16x6".to_owned(),
            Tensor::from_bytes(DType::U8, Shape::from([5]), &[1, 2, 3, 4, 5]).unwrap(),
        )]),
        assets: BTreeMap::from([("labels.txt".to_owned(), b"a\nb\nc\n".to_vec())]),
        golden: vec![Golden {
            inputs: vec![("features".into(), f32s(&[1, 4], &[1.0, 2.0, 3.0, 4.0]))],
            outputs: vec![("scores".into(), f32s(&[1, 2], &[0.7, 0.2]))],
            tolerance: Tolerance::default(),
        }],
        tuning: vec![TuningRecord {
            cpu: "Maker-1-2-3-avx2-32K-512K".into(),
            precision: PrecisionName(Precision::Bf16),
            algorithms: BTreeMap::from([("Conv(f32[n,4])".to_owned(), "gemm".to_owned())]),
            threads: BTreeMap::from([(2, BTreeMap::from([("Conv(f32[1,4])".to_owned(), 1)]))]),
        }],
    }
}

fn bytes_of(builder: &PackageBuilder) -> Vec<u8> {
    let mut out = Vec::new();
    builder.write_to(&mut out).unwrap();
    out
}

fn open(bytes: &[u8]) -> Result<Package, PackageError> {
    Package::from_buffer(Buffer::copy_of(bytes))
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("landfall-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(unix)]
#[test]
fn what_is_replaced_keeps_its_permissions_and_its_links() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = Folder::new("replaced");
    let (path, link) = (folder.0.join("sample.landfall"), folder.0.join("link.landfall"));
    builder().write(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("sample.landfall", &link).unwrap();
    let changed = PackageBuilder { tuning: Vec::new(), ..builder() };
    changed.write(&link).unwrap();
    assert!(link.is_symlink());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read(&path).unwrap(), bytes_of(&changed));
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 2, "the temporary file is gone");
}

#[test]
fn a_package_comes_back_from_its_mapped_file() {
    let folder = Folder::new("round-trip");
    let path = folder.0.join("sample.landfall");
    let builder = builder();
    builder.write(&path).unwrap();
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "the temporary file is gone");

    let package = Package::open(&path).unwrap();
    package.verify().unwrap();
    assert_eq!(package.manifest().model, builder.model);
    assert_eq!(package.manifest().provenance, builder.provenance);
    assert_eq!(package.signature(), builder.signature);
    assert_eq!(package.graph_text().unwrap(), builder.graph_text);
    assert_eq!(package.constants(), builder.constants.len());
    for (index, constant) in builder.constants.iter().enumerate() {
        let tensor = package.constant(index).unwrap();
        assert_eq!(&tensor, constant);
        if let Some(buffer) = tensor.buffer() {
            assert!(buffer.is_mapped(), "constant {index} was copied");
            assert_eq!(buffer.as_ptr() as usize % ALIGNMENT, 0);
        }
    }
    let (key, packed) = builder.packed.first_key_value().unwrap();
    assert_eq!(&package.packed(key).unwrap().unwrap(), packed);
    assert!(package.packed("another").is_none());
    assert_eq!(package.asset("labels.txt").unwrap(), b"a\nb\nc\n");
    assert_eq!(package.asset_names().collect::<Vec<_>>(), ["labels.txt"]);
    assert_eq!(package.golden().unwrap(), builder.golden);
    assert_eq!(package.manifest().tuning, builder.tuning);
    let tuning = |cpu, precision| package.manifest().tuning((cpu, precision));
    let cpu = "Maker-1-2-3-avx2-32K-512K";
    assert_eq!(tuning(cpu, Precision::Bf16), builder.tuning.first());
    assert_eq!((tuning(cpu, Precision::F32), tuning("other", Precision::Bf16)), (None, None));
    let again = PackageBuilder::from_package(&package).unwrap();
    assert!(bytes_of(&again) == fs::read(&path).unwrap(), "written again, it is another file");
    let outer = &package.steps().outer;
    assert_eq!(outer.inputs[0].name, "features");
    let outputs: Vec<_> = outer.outputs.iter().map(|o| (o.name.as_str(), o.dtype)).collect();
    let expected = [("scores", DType::F32), ("indices", DType::I64), ("labels", DType::String)];
    assert_eq!(outputs, expected);
}

#[test]
fn a_graph_comes_back_with_its_constants_in_the_file() {
    let weights = Tensor::from_slice(Shape::from([20]), &[0.25f32; 20]).unwrap();
    let text = "graph \"tiny\" {\n  input %x: f32[batch,20]\n  const %w: f32[20] = @0\n  \
                %y: f32[batch,20] = Mul(%x, %w)\n  output %y\n}\n";
    let graph = landfall_graph::text::parse(text, std::slice::from_ref(&weights)).unwrap();
    let builder = PackageBuilder::from_graph(&graph);
    assert_eq!((builder.graph_text.as_str(), builder.model.name.as_str()), (text, "tiny"));
    let bytes = bytes_of(&builder);
    assert_eq!(open(&bytes).unwrap().graph().unwrap(), graph);

    let mut other = builder;
    other.graph_text = text.replace("%x", "%z");
    let error = open(&bytes_of(&other)).unwrap().graph().unwrap_err().to_string();
    assert!(error.starts_with("graph.txt: its inputs and outputs are not those"), "{error}");
}

#[test]
fn tensors_outlive_the_package_and_a_replaced_file() {
    let folder = Folder::new("replace");
    let path = folder.0.join("m.landfall");
    builder().write(&path).unwrap();
    let tensor = Package::open(&path).unwrap().constant(0).unwrap();
    let mut other = builder();
    other.graph_text = "another graph, and longer".into();
    other.write(&path).unwrap();
    assert_eq!(tensor.as_slice::<f32>().unwrap(), &[0.5; 12]);
    assert_eq!(Package::open(&path).unwrap().graph_text().unwrap(), other.graph_text);
}

#[test]
fn same_input_same_bytes_and_any_change_another_digest() {
    let bytes = bytes_of(&builder());
    assert_eq!(bytes, bytes_of(&builder()));
    let digest = open(&bytes).unwrap().digest();
    let mut changed = builder();
    changed.assets.insert("labels.txt".into(), b"a\nb\nd\n".to_vec());
    assert_ne!(open(&bytes_of(&changed)).unwrap().digest(), digest);
}

#[test]
fn every_damaged_byte_is_found_by_opening_or_verifying() {
    let bytes = bytes_of(&builder());
    let clean = open(&bytes).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        let Ok(package) = open(&damaged) else { continue };
        if package.verify().is_ok() {
            // Timestamps, versions and padding of the archive carry no meaning.
            assert_eq!(package.manifest(), clean.manifest(), "byte {at}");
            assert_eq!(package.golden().unwrap(), clean.golden().unwrap(), "byte {at}");
        }
    }
}

#[test]
fn a_newer_format_and_unknown_fields_are_told_apart() {
    let edit = |from: &str, to: &str| {
        let bytes = bytes_of(&builder());
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
        let mut edited = bytes;
        edited[at..at + from.len()].copy_from_slice(to.as_bytes());
        open(&edited).unwrap_err().to_string()
    };
    let newer = edit("\"format\": 1,", "\"format\": 9,");
    assert!(newer.starts_with("package format 9 is not supported"), "{newer}");
    let unknown = edit("\"description\":", "\"descriptiom\":");
    assert!(unknown.contains("unknown field `descriptiom`, expected one of"), "{unknown}");
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let refused = |change: &dyn Fn(&mut PackageBuilder)| {
        let mut builder = builder();
        change(&mut builder);
        builder.write_to(&mut Vec::new()).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&|b| drop(b.assets.remove("labels.txt"))),
        "postprocess step 1 (top_k): the package has no asset 'labels.txt'"
    );
    assert!(refused(&|b| drop(b.assets.insert("../x".into(), vec![]))).contains("relative path"));
    let nan = refused(&|b| b.model.metrics.extend([("auc".to_owned(), f64::NAN)]));
    assert!(nan.starts_with("manifest.json: "), "{nan}");
    assert_eq!(
        refused(&|b| b.golden[0].inputs[0].0 = "x".into()),
        "manifest.json: golden case 0: callers see no input 'x'"
    );
    assert_eq!(
        refused(&|b| b.golden[0].inputs.clear()),
        "manifest.json: golden case 0: input 'features' is missing"
    );
}

#[test]
fn a_failed_write_leaves_the_old_package() {
    let folder = Folder::new("failed-write");
    let path = folder.0.join("m.landfall");
    builder().write(&path).unwrap();
    let before = fs::read(&path).unwrap();
    let mut bad = builder();
    bad.assets.clear();
    let error = bad.write(&path).unwrap_err().to_string();
    assert!(error.starts_with(path.to_str().unwrap()), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn mutated_packages_never_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut bytes = bytes_of(&builder());
        for (index, value) in edits {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(package) = open(&bytes) {
            let _ = (package.verify(), package.graph().is_ok(), package.golden().is_ok());
            for index in 0..=package.constants() {
                let _ = package.constant(index);
            }
        }
    }
}
