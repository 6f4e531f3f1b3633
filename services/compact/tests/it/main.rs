//! All services, as a process reads and runs them: alone and together.

mod arguments;
mod dev;
mod process;
mod tenant;
