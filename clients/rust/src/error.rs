//! Errors between this client and a messenger.

use std::num::NonZeroU16;

use contracts::{
    ErrorCode,
    api::{FileRefusal, FileState, Problem},
};

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{url} is not the http or https address of a messenger")]
    Address { url: String },
    #[error("failed to prepare an HTTP client for {url}")]
    Prepare { url: String, source: reqwest::Error },
    #[error("failed to {action}: {url} does not respond")]
    Transport { action: &'static str, url: String, source: reqwest::Error },
    #[error("failed to {action}: no response from {url} within {seconds} s")]
    Timeout { action: &'static str, url: String, seconds: u64 },
    #[error("failed to {action}: {url} responded with {status}{}", explained(.problem.as_ref()))]
    Refused {
        action: &'static str,
        url: String,
        status: u16,
        /// After how many seconds the same request may be made again, as far as the server says so.
        retry_after_seconds: Option<NonZeroU16>,
        problem: Option<Problem>,
    },
    #[error("failed to {action}: unexpected response from {url}")]
    Shape { action: &'static str, url: String, source: serde_json::Error },
    #[error("failed to {action}: {url} does not accept WebSockets of this protocol: {detail}")]
    Handshake { action: &'static str, url: String, detail: String },
    #[error("failed to {action}: a file of this machine cannot be read or written")]
    Local { action: &'static str, source: std::io::Error },
    #[error("the messenger did not take the file {name}: it is {}{}", .state.as_str(), reason(.refused.as_ref()))]
    NotTaken { name: String, state: FileState, refused: Option<FileRefusal> },
}

impl ClientError {
    /// Returns the code of a refusal; `None` when the messenger did not give one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { problem, .. } => problem.as_ref().map(|problem| problem.code),
            Self::Address { .. }
            | Self::Prepare { .. }
            | Self::Transport { .. }
            | Self::Timeout { .. }
            | Self::Shape { .. }
            | Self::Handshake { .. }
            | Self::Local { .. }
            | Self::NotTaken { .. } => None,
        }
    }

    /// Returns the HTTP status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Returns whether the same request may succeed later without a change.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::Timeout { .. } => true,
            Self::Refused { status, problem, .. } => problem
                .as_ref()
                .map_or(*status >= 500 || *status == 429, |problem| problem.code.is_temporary()),
            Self::Address { .. }
            | Self::Prepare { .. }
            | Self::Shape { .. }
            | Self::Handshake { .. }
            | Self::Local { .. }
            | Self::NotTaken { .. } => false,
        }
    }
}

fn reason(refused: Option<&FileRefusal>) -> String {
    refused.map(|why| format!(" ({})", why.as_str())).unwrap_or_default()
}

fn explained(problem: Option<&Problem>) -> String {
    match problem {
        Some(Problem { code, detail: Some(detail), .. }) => format!(" ({code}: {detail})"),
        Some(Problem { code, title, .. }) => format!(" ({code}: {title})"),
        None => String::new(),
    }
}
