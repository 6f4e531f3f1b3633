//! All services, as a process reads and runs them: alone and together.

#![allow(clippy::disallowed_methods, reason = "tests make names of their own")]

mod arguments;
mod dev;
mod process;
mod stomp;
mod tenant;
mod traces;
