//! Regenerates `src/generated/` from `proto/`, without protoc:
//! `cargo run -p landfall-protocol --features generate --example generate`.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = root.join("src/generated");
    std::fs::create_dir_all(&out)?;
    let files = protox::compile(["inference.proto", "health.proto"], [root.join("proto")])?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .bytes(".inference.ModelInferRequest.raw_input_contents")
        .bytes(".inference.ModelInferResponse.raw_output_contents")
        .bytes(".inference.InferTensorContents.bytes_contents")
        .out_dir(out)
        .compile_fds(files)?;
    Ok(())
}
