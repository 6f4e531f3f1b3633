//! Pages as a process sends them to browsers: files that are part of its binary, and the headers of every response.
//!
//! `embed.rs` beside this crate is what a build script includes to embed a folder; [`assets`] serves what it found.

pub mod assets;
pub mod browser;
