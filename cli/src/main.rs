use std::process::ExitCode;

use posthouse::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    match posthouse::run(Cli::from_command_line()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            posthouse::note(&failure);
            failure.exit().into()
        }
    }
}
