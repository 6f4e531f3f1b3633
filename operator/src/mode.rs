//! Whether a pass may change anything.

/// Decided once, at the start of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Apply,
    /// `spec.paused`: observe, and report what would be done.
    DryRun,
}
