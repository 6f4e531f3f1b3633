//! What needs a running system, or is the same for every implementation of something.

mod log;
