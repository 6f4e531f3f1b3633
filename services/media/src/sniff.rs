//! What a file really is, by its first bytes.
