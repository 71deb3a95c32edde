//! The `.landfall` file: one archive that holds a model and everything needed to serve it.
//!
//! A package is a ZIP archive of stored (uncompressed) entries, so that ordinary tools list and
//! check it, and every entry's data starts at a multiple of 64 bytes, so that a mapped file is used
//! in place as tensors. What lies where:
//!
//! | entry | content |
//! |---|---|
//! | `manifest.json` | [`Manifest`]: signature, steps, serving defaults, provenance, digests |
//! | `graph.txt` | the graph's text form; refers to constants by index |
//! | `assets/…` | files that steps name: tokenizer, labels, mappings |
//! | `golden/<case>/…` | inputs and the outputs expected of them |
//! | `weights/<n>` | constant `n`: little-endian elements, row-major |
//! | `packed/<n>` | weights or trees in the layout that a kernel reads: loading packs nothing |
//!
//! Three levels of checking: opening checks the structure of the whole file and the manifest
//! without touching weights; reading `graph.txt`, an asset or a golden case checks its BLAKE3
//! digest; [`Package::verify_digests`] checks every entry's (100 MB in 0.05 s, so serving does it
//! for files that it reads anyway), and [`Package::verify`] the ZIP checksums too. The manifest
//! lists every other entry's digest, so the manifest's own digest ([`Package::digest`]) identifies
//! the whole package.
//!
//! Same input, same bytes: no clocks, fixed timestamps, a fixed order of entries.
//!
//! Architecture invariant: this crate knows nothing of execution or the network. It declares steps
//! and derives the signature that callers see; running them is `predict`'s work.

mod archive;
mod builder;
mod encoding;
mod error;
mod manifest;
mod package;
mod signature;
pub mod steps;

pub use archive::ALIGNMENT;
pub use builder::PackageBuilder;
pub use error::PackageError;
pub use manifest::{
    Digest, EntryRecord, FORMAT_VERSION, GoldenRecord, Manifest, ModelConfig, NamedTensorRecord,
    PrecisionName, Provenance, ServingDefaults, Source, TensorRecord, Tolerance, TuningRecord,
};
pub use package::{Golden, Package};
pub use signature::{DatatypeName, DimRecord, SignatureRecord, TensorSpecRecord};
