//! Writing a package.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use landfall_graph::{Graph, Signature};
use landfall_tensor::Tensor;

use crate::archive::{self, Limits, Part};
use crate::manifest::{
    Digest, EntryRecord, FORMAT_VERSION, GoldenRecord, Manifest, ModelConfig, NamedTensorRecord,
    Provenance, TensorRecord, TuningRecord,
};
use crate::package::{GRAPH, Golden, MANIFEST, check_manifest};
use crate::signature::DatatypeName;
use crate::{Package, PackageError, encoding};

/// Everything that goes into a package. Equal builders write equal bytes.
#[derive(Debug, Clone, Default)]
pub struct PackageBuilder {
    /// What the author declares.
    pub model: ModelConfig,
    /// Where the model comes from.
    pub provenance: Provenance,
    /// Inputs and outputs of the graph itself.
    pub signature: Signature,
    /// The graph's text form.
    pub graph_text: String,
    /// The graph's constants, by index.
    pub constants: Vec<Tensor>,
    /// Constants in the layouts that kernels read; see [`Manifest::packed`].
    pub packed: BTreeMap<String, Tensor>,
    /// Files that steps name, and any others worth keeping with the model.
    pub assets: BTreeMap<String, Vec<u8>>,
    /// Inputs with the outputs expected of them, at the signature that callers see.
    pub golden: Vec<Golden>,
    /// What was measured to be fastest.
    pub tuning: Vec<TuningRecord>,
}

impl PackageBuilder {
    /// Everything that is in a package, to write it again with changes.
    pub fn from_package(package: &Package) -> Result<PackageBuilder, PackageError> {
        let Manifest { model, provenance, packed, tuning, .. } = package.manifest();
        let packed = packed.keys().filter_map(|key| Some((key.clone(), package.packed(key)?)));
        let asset = |name: &str| Ok((name.to_owned(), package.asset(name)?.to_vec()));
        let constants = (0..package.constants()).map(|index| package.constant(index));
        Ok(PackageBuilder {
            model: model.clone(),
            provenance: provenance.clone(),
            signature: package.signature(),
            graph_text: package.graph_text()?.to_owned(),
            constants: constants.collect::<Result<_, _>>()?,
            packed: packed
                .map(|(key, tensor)| Ok((key, tensor?)))
                .collect::<Result<_, PackageError>>()?,
            assets: package.asset_names().map(asset).collect::<Result<_, PackageError>>()?,
            golden: package.golden()?,
            tuning: tuning.clone(),
        })
    }

    /// A package of a graph, with nothing declared about it yet.
    pub fn from_graph(graph: &Graph) -> PackageBuilder {
        let printed = landfall_graph::text::print(graph);
        PackageBuilder {
            model: ModelConfig { name: graph.name.clone(), ..ModelConfig::default() },
            signature: graph.signature(),
            graph_text: printed.text,
            constants: printed.constants,
            ..PackageBuilder::default()
        }
    }

    /// Writes the package to `path`, which appears complete or not at all: the bytes go to a file
    /// beside it that is synced and then renamed over it. Of a file that it replaces it keeps the
    /// permissions, the links to it, and the owner if it may.
    pub fn write(&self, path: &Path) -> Result<(), PackageError> {
        let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let temporary = temporary_path(&resolved);
        let result = self
            .write_file(&temporary)
            .and_then(|()| keep_attributes(&resolved, &temporary))
            .and_then(|()| {
                fs::rename(&temporary, &resolved)
                    .map_err(|e| PackageError::io("rename the new file", e))
            });
        if result.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        result.and_then(|()| sync_folder(&resolved)).map_err(|e| e.at_path(path))
    }

    fn write_file(&self, temporary: &Path) -> Result<(), PackageError> {
        let create = |e| PackageError::io("create a file beside the target", e);
        let file =
            OpenOptions::new().write(true).create_new(true).open(temporary).map_err(create)?;
        let mut out = BufWriter::with_capacity(1 << 20, &file);
        self.write_to(&mut out)?;
        let failed = |e| PackageError::io("write the package", e);
        out.flush().map_err(failed)?;
        drop(out);
        file.sync_all().map_err(failed)
    }

    /// Writes the package's bytes.
    pub fn write_to(&self, out: &mut dyn Write) -> Result<(), PackageError> {
        let (manifest, mut parts) = self.assemble()?;
        check_manifest(&manifest)?;
        parts.insert(0, Part::new(MANIFEST.to_owned(), manifest.to_json()?));
        archive::write(out, &parts, Limits::default())
            .map_err(|e| PackageError::io("write the package", e))
    }

    /// The manifest, and every other entry in the order of the file: small ones first.
    pub(crate) fn assemble(&self) -> Result<(Manifest, Vec<Part<'_>>), PackageError> {
        let mut parts = vec![Part::new(GRAPH.to_owned(), self.graph_text.as_bytes())];
        for (name, bytes) in &self.assets {
            parts.push(Part::new(format!("assets/{name}"), bytes.as_slice()));
        }
        let mut golden = Vec::with_capacity(self.golden.len());
        for (index, case) in self.golden.iter().enumerate() {
            golden.push(GoldenRecord {
                inputs: add_named(&mut parts, &format!("golden/{index}/input"), &case.inputs)?,
                outputs: add_named(&mut parts, &format!("golden/{index}/output"), &case.outputs)?,
                tolerance: case.tolerance,
            });
        }
        let mut constants = Vec::with_capacity(self.constants.len());
        for (index, constant) in self.constants.iter().enumerate() {
            constants.push(add_tensor(&mut parts, format!("weights/{index}"), constant)?);
        }
        let mut packed = BTreeMap::new();
        for (index, (key, tensor)) in self.packed.iter().enumerate() {
            let record = add_tensor(&mut parts, format!("packed/{index}"), tensor)?;
            packed.insert(key.clone(), record);
        }
        let mut entries = BTreeMap::new();
        for part in &parts {
            if let Some(problem) = archive::name_problem(&part.name) {
                return Err(PackageError::entry(&part.name, problem));
            }
            let record =
                EntryRecord { bytes: part.bytes.len() as u64, blake3: Digest(part.blake3) };
            entries.insert(part.name.clone(), record);
        }
        let manifest = Manifest {
            format: FORMAT_VERSION,
            model: self.model.clone(),
            provenance: self.provenance.clone(),
            signature: (&self.signature).into(),
            constants,
            packed,
            golden,
            tuning: self.tuning.clone(),
            entries,
        };
        Ok((manifest, parts))
    }
}

fn add_named<'a>(
    parts: &mut Vec<Part<'a>>,
    folder: &str,
    tensors: &'a [(String, Tensor)],
) -> Result<Vec<NamedTensorRecord>, PackageError> {
    let add = |(index, (name, tensor)): (usize, &'a (String, Tensor))| {
        let tensor = add_tensor(parts, format!("{folder}-{index}"), tensor)?;
        Ok(NamedTensorRecord { name: name.clone(), tensor })
    };
    tensors.iter().enumerate().map(add).collect()
}

fn add_tensor<'a>(
    parts: &mut Vec<Part<'a>>,
    entry: String,
    tensor: &'a Tensor,
) -> Result<TensorRecord, PackageError> {
    let bytes: Cow<'a, [u8]> =
        encoding::encode(tensor).map_err(|e| PackageError::entry(&entry, e))?;
    parts.push(Part::new(entry.clone(), bytes));
    Ok(TensorRecord {
        entry,
        datatype: DatatypeName(tensor.dtype()),
        shape: tensor.shape().to_vec(),
    })
}

/// A name beside `path` that no other writer of this machine uses.
fn temporary_path(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{number}.tmp", std::process::id()))
}

/// Gives a new file the owner and the permissions of the one that it will replace, if there is one.
fn keep_attributes(replaced: &Path, new: &Path) -> Result<(), PackageError> {
    let Ok(old) = fs::metadata(replaced) else { return Ok(()) };
    // Only root may give files away; others keep what they write.
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, chown};
        let _ = chown(new, Some(old.uid()), Some(old.gid()));
    }
    fs::set_permissions(new, old.permissions())
        .map_err(|e| PackageError::io("keep the file's permissions", e))
}

/// Makes a rename survive a power cut.
fn sync_folder(path: &Path) -> Result<(), PackageError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|e| PackageError::io("sync the folder", e))
}
