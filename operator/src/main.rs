use clap::Parser;
use operator::config::{Command, Config};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    match config.command.clone() {
        Some(Command::Check { url }) => operator::run::check(url).await,
        Some(Command::Console(settings)) => operator::run::console(config.log_format, settings).await,
        None => operator::run::run(config).await,
    }
}
