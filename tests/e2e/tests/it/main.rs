//! Scenarios on the running stack. They need `make up`.

#![allow(clippy::disallowed_methods, reason = "tests make names of their own")]

mod attacks;
mod delivery;
mod files;
mod histories;
mod isolation;
mod lifecycle;
mod moderation;
mod notifications;
mod presence;
mod removal;
mod repair;
mod restarts;
mod sessions;
mod steady;
mod suspension;
mod topology;
mod users;
