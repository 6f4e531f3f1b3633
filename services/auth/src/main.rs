use auth::config::{Command, Config};
use clap::Parser as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    match config.command {
        Command::Run => auth::run(config).await,
    }
}
