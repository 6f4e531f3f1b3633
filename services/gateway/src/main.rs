//! `gateway`: keeps the sockets of one tenant's people.

use clap::Parser as _;
use gateway::{Command, Config};

/// Thousands of connections come and go; glibc's allocator would keep the burst.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    match config.command {
        Command::Run => gateway::run(config).await,
    }
}
