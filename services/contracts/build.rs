//! Compiles `proto/` with a pure Rust compiler, so that no `protoc` has to be installed.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

const PROTOS: [&str; 4] = [
    "posthouse/v1/auth.proto",
    "posthouse/v1/user.proto",
    "posthouse/v1/chat.proto",
    "posthouse/v1/message.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // gRPC reflection serves this file set as it is.
    fs::write(out.join("posthouse.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
