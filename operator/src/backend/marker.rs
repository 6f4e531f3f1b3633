//! What a backend's object says of its owner.

use std::fmt;

/// What an owner marker states. As text it is `UID:NAMESPACE/NAME` or `released:NAMESPACE`; former versions wrote `UID`. It holds
/// no character that a backend reads as something else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Marker {
    /// A resource uses the object, or used it when it was last seen.
    Used(MarkedOwner),
    /// Its resource was deleted with `deletionPolicy: Retain`.
    Released { namespace: String },
}

/// The resource that a marker names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MarkedOwner {
    pub uid: String,
    /// `NAMESPACE/NAME`, unknown where a former version marked the object.
    pub place: Option<String>,
}

/// Begins the marker of a released object. No UID is this word.
const RELEASED: &str = "released";

impl Marker {
    /// Reads the text of a marker.
    pub(super) fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((RELEASED, namespace)) => Self::Released { namespace: namespace.to_owned() },
            Some((uid, place)) => {
                Self::Used(MarkedOwner { uid: uid.to_owned(), place: Some(place.to_owned()) })
            }
            None => Self::Used(MarkedOwner { uid: text.to_owned(), place: None }),
        }
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Used(MarkedOwner { uid, place: Some(place) }) => write!(f, "{uid}:{place}"),
            Self::Used(MarkedOwner { uid, place: None }) => f.write_str(uid),
            Self::Released { namespace } => write!(f, "{RELEASED}:{namespace}"),
        }
    }
}

impl fmt::Display for MarkedOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "MessengerTenant {place} (UID {})", self.uid),
            None => write!(f, "the MessengerTenant with UID {}", self.uid),
        }
    }
}

/// Returns what tells an object from one that is made under its name after it was removed.
#[expect(clippy::disallowed_methods, reason = "an edge: nothing that is made twice is the same")]
pub(super) fn new_identity() -> String {
    uuid::Uuid::new_v4().to_string()
}
