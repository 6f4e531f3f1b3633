use clap::Parser as _;
use message::{Command, Config};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    match config.command {
        Command::Run => message::run(config).await,
        Command::Migrate => message::migrate(config).await,
    }
}
