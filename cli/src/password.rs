//! The password of the user who signs in, which is never an argument.

use std::io::IsTerminal;

use crate::failure::{Exit, Failure};

/// Returns the password from the environment, or from the terminal without an echo.
pub(crate) fn read(user: &str) -> Result<String, Failure> {
    if let Ok(password) = std::env::var("POSTHOUSE_PASSWORD") {
        return Ok(password);
    }
    let terminal = console::Term::stderr();
    if !terminal.is_term() || !std::io::stdin().is_terminal() {
        let next = "set POSTHOUSE_PASSWORD: there is no terminal for a prompt";
        return Err(Failure::new(Exit::Refused, format!("no password for {user}"), next));
    }
    let entered =
        terminal.write_str(&format!("Password of {user}: ")).and_then(|()| terminal.read_secure_line());
    entered.map_err(|error| {
        Failure::new(Exit::Refused, format!("failed to read the password: {error}"), "set POSTHOUSE_PASSWORD")
    })
}
