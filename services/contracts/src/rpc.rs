//! gRPC clients, servers and messages, generated from `proto/`.
#![allow(clippy::all, unused_qualifications, reason = "generated")]

/// The file descriptor set, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/posthouse.bin"));

tonic::include_proto!("posthouse.v1");
