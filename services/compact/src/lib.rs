//! `compact`: any set of a tenant's services in one process, for tenants that are too small for a pod of each.
//!
//! The services are the ones that run apart, built from the same implementations. They share the listeners, the runtime
//! and the token verifier, and call each other in process.

pub mod dev;

use clap::Parser as _;
use kit::{Hosted, Program};

/// A small tenant has little concurrent work, and every thread has a stack and a heap of its own.
const WORKER_THREADS: usize = 2;

/// Every service of a tenant.
pub fn services() -> Vec<Hosted> {
    vec![
        Hosted::of::<gateway::Gateway>(),
        Hosted::of::<auth::Auth>(),
        Hosted::of::<user::User>(),
        Hosted::of::<chat::Chat>(),
        Hosted::of::<message::Message>(),
        Hosted::of::<presence::Presence>(),
        Hosted::of::<media::Media>(),
        Hosted::of::<search::SearchService>(),
        Hosted::of::<notification::Notification>(),
        Hosted::of::<moderation::Moderation>(),
        Hosted::of::<web::Web>(),
    ]
}

/// Runs the command line of the process.
pub fn main() -> anyhow::Result<()> {
    let mut line = std::env::args_os();
    if line.nth(1).is_some_and(|command| command == "dev") {
        let name = std::ffi::OsString::from("compact dev");
        return dev::main(&dev::Settings::parse_from([name].into_iter().chain(line)));
    }
    program().main()
}

/// Returns the program that runs services over the backends of a tenant.
pub fn program() -> Program {
    Program {
        name: "compact",
        about: "Runs services of one tenant in one process. `compact dev` runs a whole messenger that keeps nothing.",
        services: services(),
        worker_threads: Some(WORKER_THREADS),
    }
}
