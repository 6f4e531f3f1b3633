//! One command of a client that has no connection, and its answer.

use std::{sync::Arc, time::Instant};

use contracts::{DeviceId, ErrorCode, wire::Command};

use super::{commands, step::Step};
use crate::{
    domain::{
        answer::{self, Refusal},
        posted::Replied,
        session::{Action, Session, VerifiedToken},
    },
    registry::Connection,
    state::GatewayState,
};

/// Runs the command of a frame for as long as its answer takes. `connection` is not a user's: no push reaches it.
pub(crate) async fn exchange(
    gateway: &Arc<GatewayState>,
    connection: &Arc<Connection>,
    device: DeviceId,
    token: VerifiedToken,
    text: &str,
) -> Replied {
    let now = Instant::now();
    let mut session =
        Session::new(connection.session, connection.queue.encoding(), gateway.limits.clone(), now);
    if let Action::Refuse(frame, _) = session.connected(now, None, device, Ok(token)) {
        return Some(frame);
    }
    let (id, mut step) = match session.text(now, text) {
        Action::Run(id, _, command) if needs_connection(&command) => {
            let detail = "this command is about a connection: name the event stream that it belongs to";
            return Some(answer::frame(id, Err(Refusal::new(ErrorCode::InvalidArgument, detail))));
        }
        Action::Run(id, caller, command) => (id, commands::run(gateway, connection, caller, command)),
        Action::Answer(frame) | Action::Refuse(frame, _) => return Some(frame),
        _ => return None,
    };
    loop {
        step = match step {
            Step::Answer(answer) => return Some(answer::frame(id, answer)),
            Step::Pending(pending) => {
                let lane = pending.lane();
                return lane.frame(id, pending.await);
            }
            Step::Undecided(step) => step.await,
            // Without an answer, or about a connection.
            Step::Nothing | Step::Connected(..) | Step::Refreshed(_) => return None,
        };
    }
}

/// Returns whether a command changes what its connection is.
fn needs_connection(command: &Command) -> bool {
    matches!(command, Command::Connect(_) | Command::Refresh(_) | Command::Watch(_) | Command::Activity(_))
}
