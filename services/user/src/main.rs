use clap::Parser as _;
use user::config::{Command, Config};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    match config.command {
        Command::Run => user::run(config).await,
        Command::Migrate => user::migrate(config).await,
    }
}
