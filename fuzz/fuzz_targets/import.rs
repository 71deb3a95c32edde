//! Any bytes at all: the importer answers with an error or with a graph that the verifier accepts.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(imported) = landfall_onnx::import_bytes(landfall_tensor::Buffer::copy_of(bytes)) {
        landfall_graph::verify(&imported.graph).expect("an imported graph verifies");
    }
});
