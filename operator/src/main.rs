use clap::Parser;
use operator::config::{Command, Config};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    match config.command.clone() {
        Some(Command::Check { url }) => operator::run::check(url).await,
        None => operator::run::run(config).await,
    }
}
