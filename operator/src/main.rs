use clap::Parser;
use operator::config::{Command, Config};

/// Of each thread; what is not used takes no memory. A pass takes more than half of the usual two megabytes where it is not optimised, and the clients of
/// backends come on top of it. Its own future is on the heap.
const STACK_BYTES: usize = 8 * 1024 * 1024;

fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().thread_stack_size(STACK_BYTES).build()?.block_on(async {
        match config.command.clone() {
            Some(Command::Check { url }) => operator::run::check(url).await,
            Some(Command::Console(settings)) => operator::run::console(config.log_format, settings).await,
            None => operator::run::run(config).await,
        }
    })
}
