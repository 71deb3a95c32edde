//! Reading a package.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;

use landfall_graph::{Graph, Signature, TensorSpec};
use landfall_tensor::{Buffer, DType, FileAccess, Shape, Tensor};

use crate::archive::{self, ALIGNMENT, Entry};
use crate::manifest::{Digest, Manifest, NamedTensorRecord, TensorRecord, Tolerance};
use crate::steps::{Resolved, StepError};
use crate::{PackageError, encoding};

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const GRAPH: &str = "graph.txt";

/// Axes that a stored tensor may have.
const MAX_RANK: usize = landfall_tensor::MAX_RANK;

/// A golden case: inputs with the outputs expected of them, at the signature that callers see.
#[derive(Debug, Clone, PartialEq)]
pub struct Golden {
    /// What callers send, by name.
    pub inputs: Vec<(String, Tensor)>,
    /// What they must get, by name.
    pub outputs: Vec<(String, Tensor)>,
    /// How far an output may be off.
    pub tolerance: Tolerance,
}

/// An open package. Its file is mapped; tensors taken from it share the mapping and outlive it.
#[derive(Debug)]
pub struct Package {
    file: Buffer,
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
    manifest: Manifest,
    resolved: Resolved,
    digest: Digest,
}

impl Package {
    /// Maps a file and checks its structure and manifest, without reading weights.
    ///
    /// The file must not be changed in place while it is open; replace it by renaming, or open it
    /// with [`FileAccess::Copied`].
    pub fn open(path: &Path) -> Result<Package, PackageError> {
        Package::open_with(path, FileAccess::Mapped)
    }

    /// Opens a file in one way or the other.
    pub fn open_with(path: &Path, access: FileAccess) -> Result<Package, PackageError> {
        let open = |path: &Path| {
            let file = File::open(path).map_err(|e| PackageError::io("open", e))?;
            let doing = match access {
                FileAccess::Mapped => "map into memory",
                FileAccess::Copied => "read into memory",
            };
            Buffer::of_file(&file, access).map_err(|e| PackageError::io(doing, e))
        };
        open(path).and_then(Package::from_buffer).map_err(|e| e.at_path(path))
    }

    /// A package that is already in memory.
    pub fn from_buffer(file: Buffer) -> Result<Package, PackageError> {
        let entries = archive::read(&file)?;
        let by_name: HashMap<String, usize> =
            entries.iter().enumerate().map(|(i, entry)| (entry.name.clone(), i)).collect();
        let missing = || PackageError::entry(MANIFEST, "missing; this is not a package");
        let first = entries.get(*by_name.get(MANIFEST).ok_or_else(missing)?).ok_or_else(missing)?;
        let json = &file[first.data.clone()];
        let manifest = Manifest::from_json(json)?;
        if crc32fast::hash(json) != first.crc32 {
            let message = "its checksum does not match; fetch the package again";
            return Err(PackageError::entry(MANIFEST, message));
        }
        check_listing(&entries, &manifest)?;
        let resolved = check_manifest(&manifest)?;
        let digest = Digest(blake3::hash(json));
        Ok(Package { entries, by_name, manifest, resolved, digest, file })
    }

    /// Everything but the bytes.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The BLAKE3 digest of the manifest, which holds the digest of everything else: equal for
    /// equal packages, and what a signature has to cover.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Inputs and outputs of the graph itself, inside the steps.
    pub fn signature(&self) -> Signature {
        self.manifest.signature()
    }

    /// The steps, checked, and the signature that callers see.
    pub fn steps(&self) -> &Resolved {
        &self.resolved
    }

    /// The graph's text form; its digest is checked.
    pub fn graph_text(&self) -> Result<&str, PackageError> {
        let bytes = self.checked_entry(GRAPH)?;
        std::str::from_utf8(bytes).map_err(|e| PackageError::entry(GRAPH, e.to_string()))
    }

    /// Number of constants of the graph.
    pub fn constants(&self) -> usize {
        self.manifest.constants.len()
    }

    /// A constant of the graph: the mapped file's memory, at a multiple of 64 bytes from its start.
    /// Its digest is not checked here; see [`Package::verify`].
    pub fn constant(&self, index: usize) -> Result<Tensor, PackageError> {
        let record = self.manifest.constants.get(index).ok_or_else(|| {
            let count = self.manifest.constants.len();
            PackageError::entry(&format!("weights/{index}"), format!("there are {count} constants"))
        })?;
        self.mapped(record)
    }

    /// A constant in a kernel's layout, if the package has one under that key; memory as of
    /// [`Package::constant`].
    pub fn packed(&self, key: &str) -> Option<Result<Tensor, PackageError>> {
        self.manifest.packed.get(key).map(|record| self.mapped(record))
    }

    /// The graph, verified. Its constants share the mapped file and are not read.
    pub fn graph(&self) -> Result<Graph, PackageError> {
        let constants = (0..self.constants()).map(|index| self.constant(index));
        let constants = constants.collect::<Result<Vec<_>, _>>()?;
        let graph = landfall_graph::text::parse(self.graph_text()?, &constants)
            .map_err(|e| PackageError::Graph(e.to_string()))?;
        landfall_graph::verify(&graph).map_err(|e| PackageError::Graph(e.to_string()))?;
        if graph.signature() != self.signature() {
            let message = "its inputs and outputs are not those of the manifest's signature";
            return Err(PackageError::Graph(message.to_owned()));
        }
        Ok(graph)
    }

    fn mapped(&self, record: &TensorRecord) -> Result<Tensor, PackageError> {
        let entry = self.entry(&record.entry)?;
        if !entry.data.start.is_multiple_of(ALIGNMENT) {
            let message = format!(
                "its data starts at byte {}, which is not a multiple of {ALIGNMENT}; packages must \
                 be written by Landfall",
                entry.data.start
            );
            return Err(PackageError::entry(&record.entry, message));
        }
        self.tensor(record)
    }

    /// Names of the assets.
    pub fn asset_names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter_map(|entry| entry.name.strip_prefix("assets/"))
    }

    /// An asset's bytes; its digest is checked.
    pub fn asset(&self, name: &str) -> Result<&[u8], PackageError> {
        self.checked_entry(&format!("assets/{name}"))
    }

    /// The golden cases; their digests are checked. Running them is the caller's work.
    pub fn golden(&self) -> Result<Vec<Golden>, PackageError> {
        let tensors = |records: &[NamedTensorRecord]| {
            let tensor = |record: &NamedTensorRecord| {
                self.checked_entry(&record.tensor.entry)?;
                Ok((record.name.clone(), self.tensor(&record.tensor)?))
            };
            records.iter().map(tensor).collect::<Result<Vec<_>, PackageError>>()
        };
        let case = |record: &crate::GoldenRecord| {
            let (inputs, outputs) = (tensors(&record.inputs)?, tensors(&record.outputs)?);
            Ok(Golden { inputs, outputs, tolerance: record.tolerance })
        };
        self.manifest.golden.iter().map(case).collect()
    }

    /// Checks the digest of every entry: reads the whole file.
    pub fn verify_digests(&self) -> Result<(), PackageError> {
        let names = self.entries.iter().map(|entry| entry.name.as_str());
        names.filter(|&name| name != MANIFEST).try_for_each(|name| {
            self.checked_entry(name)?;
            Ok(())
        })
    }

    /// Checks the digest and the ZIP checksum of every entry: reads the whole file.
    pub fn verify(&self) -> Result<(), PackageError> {
        for entry in self.entries.iter().filter(|entry| entry.name != MANIFEST) {
            let bytes = self.checked_entry(&entry.name)?;
            if crc32fast::hash(bytes) != entry.crc32 {
                let message = "its ZIP checksum does not match, though its digest does; the \
                               package was not written by Landfall";
                return Err(PackageError::entry(&entry.name, message));
            }
        }
        Ok(())
    }

    fn entry(&self, name: &str) -> Result<&Entry, PackageError> {
        let entry = self.by_name.get(name).and_then(|&index| self.entries.get(index));
        entry.ok_or_else(|| PackageError::entry(name, "the package has no such entry"))
    }

    fn checked_entry(&self, name: &str) -> Result<&[u8], PackageError> {
        let bytes = &self.file[self.entry(name)?.data.clone()];
        let expected = self.manifest.entries.get(name).map(|record| record.blake3);
        let found = Digest(blake3::hash(bytes));
        match expected {
            Some(expected) if expected == found => Ok(bytes),
            expected => Err(PackageError::Digest {
                name: name.to_owned(),
                expected: expected.map_or("absent".to_owned(), |digest| digest.to_string()),
                found: found.to_string(),
            }),
        }
    }

    fn tensor(&self, record: &TensorRecord) -> Result<Tensor, PackageError> {
        let fail = |message: String| PackageError::entry(&record.entry, message);
        let bytes = self.file.slice(self.entry(&record.entry)?.data.clone());
        let bytes = bytes.ok_or_else(|| fail("lies outside the file".to_owned()))?;
        let shape = Shape::from(record.shape.as_slice());
        encoding::decode(record.datatype.0, shape, &bytes).map_err(fail)
    }
}

/// The archive holds exactly what the manifest lists.
fn check_listing(entries: &[Entry], manifest: &Manifest) -> Result<(), PackageError> {
    let mut found = 0;
    for entry in entries.iter().filter(|entry| entry.name != MANIFEST) {
        let size = entry.data.len() as u64;
        match manifest.entries.get(&entry.name) {
            Some(record) if record.bytes == size => found += 1,
            Some(record) => {
                let message = format!("has {size} bytes, the manifest says {}", record.bytes);
                return Err(PackageError::entry(&entry.name, message));
            }
            None => return Err(PackageError::entry(&entry.name, "the manifest does not list it")),
        }
    }
    if found != manifest.entries.len() {
        let present: std::collections::HashSet<&str> =
            entries.iter().map(|entry| entry.name.as_str()).collect();
        let lost = manifest.entries.keys().find(|name| !present.contains(name.as_str()));
        let lost = lost.map_or(MANIFEST, String::as_str);
        return Err(PackageError::entry(lost, "the manifest lists it, the archive lacks it"));
    }
    Ok(())
}

/// The manifest agrees with itself: the writer's last check and the reader's first.
pub(crate) fn check_manifest(manifest: &Manifest) -> Result<Resolved, PackageError> {
    if !manifest.entries.contains_key(GRAPH) {
        return Err(PackageError::entry(GRAPH, "missing; this is not a package"));
    }
    let cases = manifest.golden.iter().flat_map(|case| case.inputs.iter().chain(&case.outputs));
    let weights = manifest.constants.iter().chain(manifest.packed.values());
    for record in weights.chain(cases.map(|record| &record.tensor)) {
        check_tensor(record, &manifest.entries)?;
    }
    let (pre, post) = (&manifest.model.preprocess, &manifest.model.postprocess);
    let resolved = Resolved::new(pre, post, &manifest.signature())?;
    for (place, asset) in resolved.assets() {
        if !manifest.entries.contains_key(&format!("assets/{asset}")) {
            let message = format!("the package has no asset '{asset}'");
            return Err(StepError::new(place, message).into());
        }
    }
    for (index, case) in manifest.golden.iter().enumerate() {
        let tolerance = case.tolerance;
        if !(tolerance.absolute >= 0.0 && tolerance.relative >= 0.0) {
            let message = format!("golden case {index}: tolerances must not be negative");
            return Err(PackageError::Manifest(message));
        }
        check_named(index, "input", &case.inputs, &resolved.outer.inputs, true)?;
        check_named(index, "output", &case.outputs, &resolved.outer.outputs, false)?;
    }
    Ok(resolved)
}

fn check_tensor(
    record: &TensorRecord,
    entries: &BTreeMap<String, crate::EntryRecord>,
) -> Result<(), PackageError> {
    let fail = |message: String| Err(PackageError::entry(&record.entry, message));
    let Some(entry) = entries.get(&record.entry) else {
        return fail("a tensor refers to it, but the manifest does not list it".to_owned());
    };
    if record.shape.len() > MAX_RANK {
        return fail(format!("{} axes, at most {MAX_RANK}", record.shape.len()));
    }
    let dtype = record.datatype.0;
    let elements = Shape::from(record.shape.as_slice()).checked_elements();
    let size = elements.ok().and_then(|n| n.checked_mul(dtype.size()));
    let inline = !matches!(dtype, DType::String | DType::Bytes);
    match size {
        Some(size) if !inline || size as u64 == entry.bytes => Ok(()),
        _ => {
            let shape = Shape::from(record.shape.as_slice());
            fail(format!("has {} bytes, which are not {dtype} {shape}", entry.bytes))
        }
    }
}

fn check_named(
    case: usize,
    kind: &str,
    records: &[NamedTensorRecord],
    specs: &[TensorSpec],
    complete: bool,
) -> Result<(), PackageError> {
    let fail = |message: Cow<'_, str>| {
        Err(PackageError::Manifest(format!("golden case {case}: {message}")))
    };
    for record in records {
        let Some(spec) = specs.iter().find(|spec| spec.name == record.name) else {
            return fail(format!("callers see no {kind} '{}'", record.name).into());
        };
        let rank_fits =
            spec.dims.as_ref().is_none_or(|dims| dims.len() == record.tensor.shape.len());
        if record.tensor.datatype.0 != spec.dtype || !rank_fits {
            let shape = Shape::from(record.tensor.shape.as_slice());
            let (found, expected) = (record.tensor.datatype.0, spec.dtype);
            let message = format!(
                "{kind} '{}' is {found} {shape}, callers see {expected} of {} axes",
                record.name,
                spec.dims.as_ref().map_or(shape.rank(), Vec::len)
            );
            return fail(message.into());
        }
    }
    let lost = specs.iter().find(|spec| records.iter().all(|record| record.name != spec.name));
    match lost {
        Some(spec) if complete => fail(format!("{kind} '{}' is missing", spec.name).into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::PackageBuilder;
    use crate::archive::{Limits, Part};

    /// A package whose manifest and graph text were replaced, with checksums and digests to match.
    fn forged(manifest: &[u8], graph: &[u8], weights: &[u8]) -> Buffer {
        let parts = [(MANIFEST, manifest), (GRAPH, graph), ("weights/0", weights)];
        let parts = parts.map(|(name, bytes)| Part::new(name.to_owned(), bytes));
        let mut file = Vec::new();
        archive::write(&mut file, &parts, Limits::default()).unwrap();
        Buffer::copy_of(&file)
    }

    fn sample() -> (Vec<u8>, String, Vec<u8>) {
        let text = "graph \"g\" {\n  input %x: f32[batch,20]\n  const %w: f32[20] = @0\n  \
                    %y: f32[batch,20] = Mul(%x, %w)\n  output %y\n}\n";
        let weights = Tensor::from_slice(Shape::from([20]), &[0.25f32; 20]).unwrap();
        let bytes = weights.bytes().unwrap().to_vec();
        let graph = landfall_graph::text::parse(text, &[weights]).unwrap();
        let mut builder = PackageBuilder::from_graph(&graph);
        let steps = serde_json::json!([{"scale": {"factor": 2.0}}]);
        builder.model.preprocess = serde_json::from_value(steps).unwrap();
        (builder.assemble().unwrap().0.to_json().unwrap(), text.to_owned(), bytes)
    }

    #[test]
    fn the_forgery_opens_if_nothing_is_changed() {
        let (manifest, graph, weights) = sample();
        let package = Package::from_buffer(forged(&manifest, graph.as_bytes(), &weights)).unwrap();
        package.verify().unwrap();
        package.graph().unwrap();
    }

    proptest! {
        #[test]
        fn forged_manifests_never_panic(
            edits in proptest::collection::vec(
                (any::<Index>(), "[-0-9a-z\\[\\]{}\",:.?]"),
                1..4,
            ),
        ) {
            let (mut manifest, graph, weights) = sample();
            for (index, text) in edits {
                let at = index.index(manifest.len());
                manifest[at] = text.as_bytes()[0];
            }
            let file = forged(&manifest, graph.as_bytes(), &weights);
            if let Ok(package) = Package::from_buffer(file) {
                let _ = (package.verify(), package.graph().is_ok(), package.golden().is_ok());
                for index in 0..package.constants() {
                    let _ = package.constant(index);
                }
            }
        }
    }
}
