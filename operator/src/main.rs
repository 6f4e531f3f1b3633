use clap::Parser;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    operator::run::run(operator::config::Config::parse()).await
}
