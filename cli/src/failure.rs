//! How a command fails: what went wrong, with what, what to do next, and the exit code.

use std::{error::Error, fmt, process::ExitCode};

use contracts::ErrorCode;
use posthouse_client::ClientError;

/// The exit codes of `posthouse`; clap itself ends with 2 for a wrong command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The command found a problem: a message is missing, a tenant is not ready.
    Fault = 1,
    /// A messenger or the cluster does not respond.
    Unreachable = 3,
    /// The request was refused: wrong password, missing permission, unknown user.
    Refused = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command that failed.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    what: String,
    next: String,
}

impl Failure {
    /// Returns a failure: `what` went wrong, with its cause, and what to do `next`.
    pub fn new(exit: Exit, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { exit, what: what.into(), next: next.into() }
    }

    /// Returns the failure of a request to a service that a messenger may not have; `what` is missing without it. The request is one
    /// that the service itself never answers with not found.
    pub fn of_optional(service: &str, what: &str, error: ClientError) -> Self {
        match error.code() {
            Some(ErrorCode::NotFound) => Self::new(
                Exit::Refused,
                format!("this messenger has no {what}"),
                format!("ask its administrators to enable spec.services.{service}"),
            ),
            _ => error.into(),
        }
    }

    pub fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        if !self.next.is_empty() {
            write!(f, "\n next: {}", self.next)?;
        }
        Ok(())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let what = chain(&error);
        match &error {
            ClientError::Address { .. } => {
                Self::new(Exit::Refused, what, "use an address like http://acme.localhost:8000")
            }
            ClientError::Transport { .. } | ClientError::Timeout { .. } | ClientError::Prepare { .. } => {
                Self::new(
                    Exit::Unreachable,
                    what,
                    "check that the stack is up (`make up`) and that the address is right (`posthouse status -A`)",
                )
            }
            ClientError::Refused { status: 401, .. } => {
                Self::new(Exit::Refused, what, "check the user name and the password")
            }
            // A problem body is from the messenger: the address is right.
            ClientError::Refused { status: 404, problem: None, .. } => Self::new(
                Exit::Unreachable,
                what,
                "check that a tenant has this address and that its routes are ready: `posthouse status -A`",
            ),
            ClientError::Refused { status, .. } if *status >= 500 => Self::new(
                Exit::Unreachable,
                what,
                "a service of the tenant is unavailable: `posthouse status -A` shows the condition",
            ),
            ClientError::Refused { .. } => Self::new(Exit::Refused, what, ""),
            ClientError::Local { .. } => {
                Self::new(Exit::Refused, what, "check the path, and that you may read and write there")
            }
            ClientError::NotTaken { .. } => Self::new(Exit::Refused, what, "send another file"),
            ClientError::Shape { .. } | ClientError::Handshake { .. } => Self::new(
                Exit::Unreachable,
                what,
                "check that this is the address of a messenger of this version",
            ),
        }
    }
}

/// Returns an error with all its causes on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat the cause in their own message.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use contracts::api::Problem;

    use super::*;

    #[test]
    fn a_service_that_the_messenger_does_not_have_is_named_as_what_is_missing() {
        let shown = |code: ErrorCode| {
            let problem = Problem {
                kind: format!("urn:posthouse:error:{code}"),
                title: "a title".to_owned(),
                status: code.http_status(),
                detail: None,
                code,
            };
            let url = "http://acme.localhost:8000/".to_owned();
            let (action, status) = ("search messages", code.http_status());
            let (retry_after_seconds, problem) = (None, Some(problem));
            let error = ClientError::Refused { action, url, status, retry_after_seconds, problem };
            let failure = Failure::of_optional("search", "search", error);
            (failure.exit(), failure.to_string())
        };
        let lacking = "error: this messenger has no search\n next: ask its administrators to enable spec.services.search";
        assert_eq!(shown(ErrorCode::NotFound), (Exit::Refused, lacking.to_owned()));
        let (exit, text) = shown(ErrorCode::Unavailable);
        assert_eq!(exit, Exit::Unreachable);
        assert!(text.contains("failed to search messages"), "{text}");
    }
}
