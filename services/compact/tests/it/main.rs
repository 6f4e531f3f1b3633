//! All services, as a process reads and runs them: alone and together.

mod arguments;
mod process;
mod tenant;
