//! Why a backend is changed.

/// Why a change is in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Something the tenant should have does not exist yet.
    Create,
    /// Something exists and differs from what was declared: it was edited, or the resource changed.
    Repair,
    /// What a former owner left is taken over, with its data.
    Adopt,
    /// What the operator notes for itself changes, and nothing of the tenant.
    Record,
    /// The difference cannot be removed without losing data. Applying it returns an error and changes nothing.
    Blocked,
}

/// Returns the names of the parts that do not match, as a repair names them.
pub(super) fn unmatched<const N: usize>(parts: [(bool, &'static str); N]) -> Vec<&'static str> {
    parts.into_iter().filter_map(|(matches, name)| (!matches).then_some(name)).collect()
}
