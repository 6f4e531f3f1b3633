use chat::config::{Command, Config};
use clap::Parser as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    match config.command {
        Command::Run => chat::run(config).await,
        Command::Migrate => chat::migrate(config).await,
    }
}
