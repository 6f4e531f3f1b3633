//! Compiles `proto/` with a pure Rust compiler, so that no `protoc` has to be installed.

use std::{env, fs, io, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut protos = fs::read_dir("proto/posthouse/v1")?
        .map(|file| Ok(file?.path()))
        .collect::<Result<Vec<_>, io::Error>>()?;
    protos.sort();
    let descriptors = protox::compile(protos, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // gRPC reflection serves this file set as it is.
    fs::write(out.join("posthouse.bin"), descriptors.encode_to_vec())?;
    // So that a stand-in of a service in a test has the calls that the test needs, and no others. The services deny that one is missing.
    tonic_prost_build::configure().generate_default_stubs(true).compile_fds(descriptors)?;
    Ok(())
}
