//! The form of every list in this crate.

/// Defines a closed set whose members carry data: an enum, its `ALL` in the order of the source, and access to the entry
/// of each through `Deref`. A member and its data stand in one place, so none can be forgotten in a second one.
macro_rules! table {
    (
        $(#[$of_enum:meta])*
        pub enum $name:ident: $entry:ty;
        $($(#[$of_member:meta])* $member:ident = $data:expr;)+
    ) => {
        $(#[$of_enum])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$of_member])* $member,)+
        }

        impl $name {
            /// All members, in the order of the catalog.
            pub const ALL: &'static [Self] = &[$(Self::$member),+];

            /// Returns the catalog's entry of this member.
            pub const fn entry(self) -> &'static $entry {
                match self {
                    $(Self::$member => {
                        const ENTRY: &$entry = &$data;
                        ENTRY
                    })+
                }
            }

            /// Returns the member's name: unique, constant, in lower case.
            pub const fn as_str(self) -> &'static str {
                self.entry().name
            }

            /// Returns the member of this name.
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|member| member.as_str() == name)
            }
        }

        impl std::ops::Deref for $name {
            type Target = $entry;

            fn deref(&self) -> &$entry {
                self.entry()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
