//! Whether users are in chats at this moment, as the chat service knows. One call at a time carries all checks that wait.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use contracts::{
    ChatId, UserId,
    rpc::{
        CheckMembersRequest, CheckMembersResponse, GetMembershipRequest,
        chat_service_client::ChatServiceClient,
    },
};
use futures_util::FutureExt as _;
use kit::{
    outage::Outage,
    rpc::{self, InternalChannel},
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Checks of one call; the chat service takes twice as many.
const BATCH: usize = 500;
/// Checks that wait. Beyond it the connections that want more are not read.
const QUEUE: usize = 4_096;
/// A call that takes longer has failed: everything that is sent waits for it.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// After a failure no call is made for this long, and every check fails immediately.
const PAUSE: Duration = Duration::from_millis(500);

/// Asks for checks. Cheap to clone.
#[derive(Clone)]
pub(super) struct Checks(mpsc::Sender<Check>);

/// What a user may do with the messages of a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// The user is not in the chat.
    None,
    /// The other user has left the direct chat, or a block is between the two.
    Read,
    /// Moderators let the user write nothing in the chat.
    Restricted,
    /// The user is a plain member of a channel.
    ReadAndReact,
    ReadAndSend,
}

struct Check {
    chat: ChatId,
    user: UserId,
    outcome: oneshot::Sender<Checked>,
}

/// What the user may do in the chat, and how many seconds they wait between two messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(super) access: Access,
    pub(super) slow_mode_seconds: u32,
}

/// A user's rights in a chat, or why they are not known.
pub(crate) type Checked = Result<Rights, Arc<Status>>;

/// A check on its way; its outcome is as of a moment after it began.
pub(crate) struct Checking(oneshot::Receiver<Checked>);

impl Future for Checking {
    type Output = Checked;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Checked> {
        self.0.poll_unpin(cx).map(|outcome| outcome.unwrap_or_else(|_| Err(stopping())))
    }
}

fn stopping() -> Arc<Status> {
    Arc::new(Status::unavailable("the gateway is stopping"))
}

/// Makes the calls.
pub(crate) struct Checker {
    waiting: mpsc::Receiver<Check>,
    chat: ChatServiceClient<InternalChannel>,
    outage: Outage,
    /// The last failure, and when it was.
    failed: Option<(Instant, Arc<Status>)>,
}

impl Checks {
    /// Returns the two sides.
    pub(super) fn new(chat: ChatServiceClient<InternalChannel>) -> (Self, Checker) {
        let (sender, waiting) = mpsc::channel(QUEUE);
        (Self(sender), Checker { waiting, chat, outage: Outage::default(), failed: None })
    }

    /// Returns what the user may do in the chat, as of a moment after this call began.
    pub(super) async fn rights(&self, chat: ChatId, user: UserId) -> Checked {
        let (outcome, checking) = oneshot::channel();
        self.0.send(Check { chat, user, outcome }).await.map_err(|_| stopping())?;
        Checking(checking).await
    }

    /// Begins a check; `None` when too many wait.
    pub(super) fn begin(&self, chat: ChatId, user: UserId) -> Option<Checking> {
        let (outcome, checking) = oneshot::channel();
        self.0.try_send(Check { chat, user, outcome }).ok()?;
        Some(Checking(checking))
    }
}

impl Checker {
    /// Checks until stopped.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                count = self.waiting.recv_many(&mut batch, BATCH) => if count == 0 { return },
            }
            let outcome = self.check(&batch).await;
            for (at, Check { outcome: answer, .. }) in batch.drain(..).enumerate() {
                // A connection that has closed does not wait any more.
                drop(answer.send(match &outcome {
                    Ok(accesses) => Ok(accesses[at]),
                    Err(status) => Err(status.clone()),
                }));
            }
        }
    }

    async fn check(&mut self, batch: &[Check]) -> Result<Vec<Rights>, Arc<Status>> {
        if let Some((at, status)) = &self.failed
            && at.elapsed() < PAUSE
        {
            return Err(status.clone());
        }
        match self.call(batch).await {
            Ok(accesses) => {
                self.outage.worked("checking members with the chat service");
                self.failed = None;
                Ok(accesses)
            }
            Err(status) => {
                self.outage.failed("checking members with the chat service", &status);
                let status = Arc::new(status);
                self.failed = Some((Instant::now(), status.clone()));
                Err(status)
            }
        }
    }

    async fn call(&mut self, batch: &[Check]) -> Result<Vec<Rights>, Status> {
        let seat = |check: &Check| GetMembershipRequest {
            chat_id: check.chat.to_string(),
            user_id: check.user.to_string(),
        };
        let request = CheckMembersRequest { memberships: batch.iter().map(seat).collect() };
        let response = rpc::within(CALL_TIMEOUT, self.chat.check_members(request)).await?;
        let CheckMembersResponse { is_member, may_send, may_react, slow_mode_seconds, is_restricted } =
            response;
        // During an update of the tenant the chat service may be of a version that does not say who may send.
        let may_send = if may_send.is_empty() { is_member.clone() } else { may_send };
        let may_react = if may_react.is_empty() { may_send.clone() } else { may_react };
        let slow_mode_seconds =
            if slow_mode_seconds.is_empty() { vec![0; batch.len()] } else { slow_mode_seconds };
        let is_restricted = if is_restricted.is_empty() { vec![false; batch.len()] } else { is_restricted };
        let answered =
            [is_member.len(), may_send.len(), may_react.len(), slow_mode_seconds.len(), is_restricted.len()];
        if answered != [batch.len(); 5] {
            return Err(Status::internal("the chat service answered another number of checks"));
        }
        let access = |at: usize| match (is_member[at], may_send[at], may_react[at]) {
            (false, _, _) => Access::None,
            (true, _, _) if is_restricted[at] => Access::Restricted,
            (true, true, _) => Access::ReadAndSend,
            (true, false, true) => Access::ReadAndReact,
            (true, false, false) => Access::Read,
        };
        let rights = |at| Rights { access: access(at), slow_mode_seconds: slow_mode_seconds[at] };
        Ok((0..batch.len()).map(rights).collect())
    }
}
