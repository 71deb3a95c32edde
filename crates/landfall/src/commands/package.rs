//! `landfall package`: a model and everything needed to serve it, in one file.

mod golden;
mod precision;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::Args;
use landfall_graph::Graph;
use landfall_package::steps::Resolved;
use landfall_package::{
    Package, PackageBuilder, PrecisionName, Provenance, ServingDefaults, Source,
};
use landfall_predict::pipeline::{Limits, Pipeline};
use landfall_runtime::{Cpu, Isa, Model};
use landfall_tensor::{Buffer, Precision, Tensor};

use self::precision::PrecisionChoice;
use super::Failure;
use super::output::print;
use super::paths::Paths;
use super::run::arrange;
use crate::declared::{manifest_beside, read_manifest};
use crate::engine::{self, AssetFolder, EngineOptions, FileKind, Opened};
use crate::npz::{self, Arrays};
use crate::sample::{self, Extents};
use crate::serving::SERVER_VERSION;

const EXAMPLES: &str = "\
Examples:
  landfall package model.onnx -o model.landfall
  landfall package minilm/1/model.onnx -o minilm.landfall --manifest minilm/1/manifest.yaml
      with the steps, serving defaults, data and metrics that the manifest declares; files that
      steps name are found beside the manifest
  landfall package model.onnx -o model.landfall --golden inputs.npz
      loading then checks that these inputs give the outputs that they give now
  landfall package model.onnx -o model.landfall --golden inputs.npz --precision auto
      for bf16, if no output differs by more than 1 % of the greatest on these inputs

The same model, manifest and golden inputs make the same bytes, on every machine and whatever
LANDFALL_ISA says. To that end expected outputs are those of the scalar kernels, which can take
a while for large models. Loading allows outputs to be off by 1e-5 + 1e-4 of their size, or by
more if the instruction sets of this machine differ by more; `tolerance: {absolute: A, relative: R}`
in the manifest fixes it, where the bytes must not depend on what was measured here.";

/// Rows of golden inputs that are made up: as many as the first request most likely has, so that
/// checking them prepares for it.
const GOLDEN_ROWS: usize = 1;
/// Length of free axes of golden inputs that are made up.
const GOLDEN_LENGTH: usize = 8;

/// Put a model, its steps and its weights in one file that loads at once.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PackageArguments {
    /// The ONNX model
    model: PathBuf,
    /// The package to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Declarations: name, description, steps, serving defaults, data, metrics [default: the
    /// manifest.yaml beside a model.onnx]
    #[arg(long, value_name = "YAML")]
    manifest: Option<PathBuf>,
    /// Golden inputs, by the names that callers use [default: made up]
    #[arg(long, value_name = "NPZ")]
    golden: Option<PathBuf>,
    /// Precision of matrix products and convolutions: f32, bf16, or auto for bf16 if its error on
    /// the golden inputs is within --max-error [default: what the manifest declares, or f32]
    #[arg(long, value_name = "NAME", value_parser = precision::choice)]
    precision: Option<PrecisionChoice>,
    /// With --precision auto: greatest difference from f32, as a fraction of an output's greatest
    /// value, or share of other elements that differ
    #[arg(long, value_name = "X", default_value_t = 0.01, value_parser = precision::limit)]
    max_error: f64,
    /// Leave out weights in kernels' layouts: half the size, slower to load
    #[arg(long)]
    plain: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &PackageArguments) -> Result<(), Failure> {
    let written = package(arguments).map_err(Failure::Input)?;
    let mut text = format!("{}\n", arguments.output.display());
    for key in ["name", "bytes", "digest", "constants", "packed", "golden", "precision"] {
        text.push_str(&format!("  {key:<11}{}\n", written[key].to_string().trim_matches('"')));
    }
    if let Some(error) = written["bf16_error"].as_f64() {
        let limit = arguments.max_error;
        text.push_str(&format!("  bf16 error {error:.2e} on the golden inputs, limit {limit}\n"));
    }
    print(&if arguments.json { format!("{written}\n") } else { text }).map_err(Failure::No)
}

/// Writes the package; what it holds, for people and programs.
fn package(arguments: &PackageArguments) -> Result<serde_json::Value> {
    let manifest = arguments.manifest.clone().or_else(|| manifest_beside(&arguments.model));
    let paths = Paths::default().read("the model", &arguments.model);
    let given = [("--manifest", &manifest), ("--golden", &arguments.golden)];
    let given = given.into_iter().filter_map(|(name, path)| Some((name, path.as_deref()?)));
    given
        .fold(paths, |paths, (name, path)| paths.read(name, path))
        .write("--output", &arguments.output)?;
    check_kinds(&arguments.model, &arguments.output)?;
    // What is packaged must depend neither on the machine's cores nor on its instruction sets.
    let cpu = Cpu::with_isa(Isa::Reference)?;
    let options = EngineOptions { cpu, ..EngineOptions::from_environment(1)? };
    let prepared = engine::prepare(&arguments.model, &options)?;
    let mut builder = PackageBuilder::from_graph(&prepared.graph);
    builder.model = manifest.as_deref().map(read_manifest).transpose()?.unwrap_or_default();
    if builder.model.name.is_empty() {
        let stem = arguments.model.file_stem().unwrap_or_default();
        builder.model.name = stem.to_string_lossy().into_owned();
    }
    builder.provenance = provenance(&arguments.model)?;
    let folder = manifest.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    add_assets(&mut builder, folder, &arguments.output)?;
    let (first, bf16_error) = first_run(arguments, &builder, &options)?;
    let FirstRun { precision, inputs, outputs, packed } = first;
    if arguments.precision.is_some() {
        builder.model.serving.precision = Some(PrecisionName(precision));
    }
    let options = EngineOptions { precision: Some(precision), ..options };
    let declared = builder.model.tolerance;
    let case = golden::case(inputs, outputs, precision, declared, |cpu| {
        compile(&builder, &EngineOptions { cpu, ..options.clone() }, packed.clone())
    })?;
    builder.golden = vec![case];
    if !arguments.plain {
        builder.packed = packed;
    }
    builder.write(&arguments.output)?;
    let package = Package::open(&arguments.output)?;
    Ok(serde_json::json!({
        "model": arguments.output.display().to_string(),
        "name": builder.model.name,
        "bytes": std::fs::metadata(&arguments.output)?.len(),
        "digest": package.digest().to_string(),
        "constants": builder.constants.len(),
        "packed": builder.packed.len(),
        "golden": builder.golden.len(),
        "precision": precision.name(),
        "bf16_error": bf16_error,
    }))
}

/// The golden inputs, and what a model in some precision gives for them.
struct FirstRun {
    precision: Precision,
    inputs: Arrays,
    outputs: Arrays,
    /// Weights are packed when the first run needs them.
    packed: BTreeMap<String, Tensor>,
}

/// Runs the golden inputs in the precision asked for or chosen; with the error of bf16 if that was
/// measured.
fn first_run(
    arguments: &PackageArguments,
    builder: &PackageBuilder,
    options: &EngineOptions,
) -> Result<(FirstRun, Option<f64>)> {
    let run = |precision: Precision| -> Result<FirstRun> {
        let options = EngineOptions { precision: Some(precision), ..options.clone() };
        let opened = compile(builder, &options, BTreeMap::new())?;
        let inputs = golden_inputs(arguments, &opened, &options)?;
        let outputs = golden::run(&opened, &inputs)?;
        Ok(FirstRun { precision, inputs, outputs, packed: opened.model.packed() })
    };
    match arguments.precision {
        None => Ok((run(engine::declared_precision(&builder.model.serving))?, None)),
        Some(PrecisionChoice::Fixed(precision)) => Ok((run(precision)?, None)),
        Some(PrecisionChoice::Auto) => {
            ensure!(
                arguments.golden.is_some(),
                "--precision auto: needs --golden with inputs such as the model will get, since \
                 the error on made-up ones says little"
            );
            let (plain, bf16) = (run(Precision::F32)?, run(Precision::Bf16)?);
            let error = precision::error(&plain.outputs, &bf16.outputs)?;
            let chosen = if error <= arguments.max_error { bf16 } else { plain };
            Ok((chosen, Some(error)))
        }
    }
}

/// What goes in is an ONNX model, and what comes out must be known as a package by its name.
fn check_kinds(model: &Path, output: &Path) -> Result<()> {
    ensure!(
        FileKind::of(model)? == FileKind::Onnx,
        "{}: is a package already; expected an .onnx model",
        model.display()
    );
    ensure!(
        matches!(FileKind::of(output), Ok(FileKind::Package)),
        "--output: expected a file name that ends in .landfall, found '{}'",
        output.display()
    );
    Ok(())
}

fn provenance(model: &Path) -> Result<Provenance> {
    let read = || Buffer::map_file(&File::open(model)?);
    let content = read().with_context(|| model.display().to_string())?;
    let file = model.file_name().unwrap_or_default().to_string_lossy();
    let source = Some(Source::of(file, &content));
    Ok(Provenance { tool: format!("landfall {SERVER_VERSION}"), source })
}

fn add_assets(builder: &mut PackageBuilder, folder: &Path, output: &Path) -> Result<()> {
    let (pre, post) = (&builder.model.preprocess, &builder.model.postprocess);
    let resolved = Resolved::new(pre, post, &builder.signature)?;
    for (place, name) in resolved.assets() {
        let asset = format!("the asset '{name}'");
        Paths::default().read(&asset, &folder.join(name)).write("--output", output)?;
        let bytes = AssetFolder::new(folder).read(name).with_context(|| place.to_owned())?;
        builder.assets.insert(name.to_owned(), bytes);
    }
    Ok(())
}

/// The model as a loader will see it: packed weights are kept by the ids of the graph that the
/// package's text gives, which need not be those of the graph in memory. Those at hand are used.
fn compile(
    builder: &PackageBuilder,
    options: &EngineOptions,
    packed: BTreeMap<String, Tensor>,
) -> Result<Opened> {
    let graph: Graph = landfall_graph::text::parse(&builder.graph_text, &builder.constants)
        .map_err(|error| anyhow::anyhow!("the graph's text cannot be read back: {error}"))?;
    let asset = |name: &str| {
        let bytes = builder.assets.get(name).cloned();
        bytes.ok_or_else(|| format!("there is no asset '{name}'"))
    };
    let pipeline = Pipeline::compile(
        &builder.model.preprocess,
        &builder.model.postprocess,
        asset,
        &graph.signature(),
        Limits::default(),
    )?;
    Ok(Opened {
        model: Arc::new(Model::compile_with(graph, &options.runtime(), packed)?),
        steps: (!pipeline.is_identity()).then(|| Arc::new(pipeline)),
        platform: "landfall",
        serving: ServingDefaults::default(),
        package: None,
    })
}

fn golden_inputs(
    arguments: &PackageArguments,
    opened: &Opened,
    options: &EngineOptions,
) -> Result<Arrays> {
    let signature = opened.signature();
    let tensors = match &arguments.golden {
        Some(path) => {
            arrange(signature, npz::read(path)?).with_context(|| path.display().to_string())?
        }
        None => {
            let extents = Extents {
                batch: Some(GOLDEN_ROWS),
                length: Some(GOLDEN_LENGTH),
                ..Extents::default()
            };
            sample::inputs(signature, &extents, options.run_memory_bytes)
                .context("give golden inputs with --golden")?
        }
    };
    Ok(signature.inputs.iter().map(|spec| spec.name.clone()).zip(tensors).collect())
}

#[cfg(test)]
mod tests {
    use landfall_tensor::DType;

    use super::*;

    fn example(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(path)
    }

    fn arguments(output: PathBuf) -> PackageArguments {
        PackageArguments {
            model: example("digits/models/digits/1/model.onnx"),
            output,
            manifest: Some(example("digits/manifest.yaml")),
            golden: Some(example("digits/digits.npz")),
            precision: None,
            max_error: 0.01,
            plain: false,
            json: false,
        }
    }

    #[test]
    fn a_package_of_trees_holds_them_as_they_are_evaluated() {
        let folder = std::env::temp_dir().join(format!("landfall-trees-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("flights.landfall");
        let model = example("flights/models/flights/1/model.onnx");
        let arguments =
            PackageArguments { model, manifest: None, golden: None, ..arguments(file.clone()) };
        package(&arguments).unwrap();
        let opened = engine::open(&file, &EngineOptions::from_environment(1).unwrap()).unwrap();
        let packed = opened.model.packed();
        assert_eq!(packed.len(), 1, "{:?}", packed.keys());
        for (key, tensor) in packed {
            assert!(key.ends_with(".trees"), "{key}");
            assert!(tensor.buffer().is_some_and(Buffer::is_mapped), "{key} was made anew");
        }
        let text = opened.package.unwrap();
        assert!(text.graph_text().unwrap().len() < 100_000, "long lists stand in the text");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_package_in_bf16_holds_its_weights_so_and_can_be_run_in_f32() {
        let folder = std::env::temp_dir().join(format!("landfall-bf16-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("a.landfall");
        let arguments = arguments(file.clone());
        let precision = Some(PrecisionChoice::Fixed(Precision::Bf16));
        package(&PackageArguments { precision, ..arguments }).unwrap();
        let options = EngineOptions::from_environment(1).unwrap();
        let opened = engine::open(&file, &options).unwrap();
        assert_eq!(opened.model.precision(), Precision::Bf16);
        let packed = opened.model.packed();
        assert!(packed.values().any(|tensor| tensor.dtype() == DType::BF16), "{packed:?}");
        for (key, tensor) in packed {
            assert!(tensor.buffer().is_some_and(Buffer::is_mapped), "{key} was packed anew");
        }
        let options = EngineOptions { precision: Some(Precision::F32), ..options };
        let plain = engine::open(&file, &options).unwrap();
        assert_eq!(plain.model.precision(), Precision::F32);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_precision_is_chosen_by_its_error_on_golden_inputs() {
        let folder = std::env::temp_dir().join(format!("landfall-auto-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("a.landfall");
        let auto = |max_error: f64, golden: Option<PathBuf>| {
            let precision = Some(PrecisionChoice::Auto);
            let arguments = PackageArguments { manifest: None, ..arguments(file.clone()) };
            package(&PackageArguments { precision, max_error, golden, ..arguments })
        };
        let golden = Some(example("digits/digits.npz"));
        let written = auto(0.05, golden.clone()).unwrap();
        let error = written["bf16_error"].as_f64().unwrap();
        assert!(error > 0.0 && error <= 0.05, "{written}");
        assert_eq!(written["precision"], "bf16");
        let options = EngineOptions::from_environment(1).unwrap();
        assert_eq!(engine::open(&file, &options).unwrap().model.precision(), Precision::Bf16);
        assert_eq!(auto(error * 0.99, golden).unwrap()["precision"], "f32");
        assert_eq!(engine::open(&file, &options).unwrap().model.precision(), Precision::F32);
        let made_up = auto(0.05, None).unwrap_err().to_string();
        assert!(made_up.starts_with("--precision auto: needs --golden"), "{made_up}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_package_answers_like_its_model_and_loads_without_packing() {
        let folder = std::env::temp_dir().join(format!("landfall-package-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (first, second) = (folder.join("a.landfall"), folder.join("b.landfall"));
        package(&arguments(first.clone())).unwrap();
        package(&arguments(second.clone())).unwrap();
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());

        let options = EngineOptions::from_environment(1).unwrap();
        // Opening checks the golden case: the digits of the example.
        let opened = engine::open(&first, &options).unwrap();
        let names: Vec<_> = opened.signature().outputs.iter().map(|s| s.name.clone()).collect();
        assert!(names.contains(&"digit".to_owned()), "{names:?}");
        let packed = opened.model.packed();
        assert!(!packed.is_empty());
        for (key, tensor) in packed {
            assert!(tensor.buffer().is_some_and(Buffer::is_mapped), "{key} was packed anew");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
