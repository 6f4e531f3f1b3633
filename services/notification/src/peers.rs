//! What the other services of the tenant know of a user and a chat at this moment.

use std::collections::BTreeSet;

use contracts::{
    ChatId, SessionId, UserId,
    api::UserProfile,
    convert::UnreadableField,
    event::ChatKind,
    rpc::{
        AccountSession, EntriesRequest, EntryPlace, ListMembershipsRequest, ListMembershipsResponse,
        ListSessionsRequest, MarkRequest, Membership, SyncRequest, Watermarks,
        account_service_client::AccountServiceClient, chat_service_client::ChatServiceClient,
        message_service_client::MessageServiceClient, user_service_client::UserServiceClient,
    },
};
use kit::{cache::Cache, rpc::InternalChannel, users::ShownUsers};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    domain::{Digest, Missed, NoticeText, excerpt},
    error::Error,
};

/// Chats that a digest looks at: those that were active last.
const DIGEST_CHATS: i32 = 50;

/// The chats of one user come as one answer. This is room for ten thousand of them, whatever their topics are.
const MAX_LIST_BYTES: usize = 16 * 1024 * 1024;

/// The services. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    accounts: AccountServiceClient<InternalChannel>,
    chats: ChatServiceClient<InternalChannel>,
    messages: MessageServiceClient<InternalChannel>,
    users: UserServiceClient<InternalChannel>,
    /// By the cache: a name is shown to many users at once, and decides nothing.
    shown: ShownUsers,
}

/// How a user has a chat.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) kind: ChatKind,
    /// Of a group.
    pub(crate) title: Option<String>,
    pub(crate) is_muted: bool,
    /// The last entry that a device took.
    pub(crate) taken_seq: i64,
    pub(crate) unread: i64,
    pub(crate) mentions: i64,
}

impl Peers {
    /// Returns the services behind these channels, and the users whom a cache of [`kit::users::USERS`] keeps.
    pub fn new(
        accounts: InternalChannel,
        chats: InternalChannel,
        messages: InternalChannel,
        users: InternalChannel,
        cache: Cache<UserProfile, Status>,
    ) -> Self {
        Self {
            accounts: AccountServiceClient::new(accounts),
            chats: ChatServiceClient::new(chats).max_decoding_message_size(MAX_LIST_BYTES),
            messages: MessageServiceClient::new(messages),
            users: UserServiceClient::new(users.clone()),
            shown: ShownUsers::new(users, cache),
        }
    }

    /// Returns how a user has a chat; `None` for one who is not in it, to whom nothing is delivered there, or who is banned everywhere.
    pub(crate) async fn standing(
        &self,
        user_id: UserId,
        chat: ChatId,
        now_ms: i64,
    ) -> Result<Option<Standing>, Error> {
        let request = ListMembershipsRequest {
            user_id: user_id.to_string(),
            chat_ids: vec![chat.to_string()],
            ..ListMembershipsRequest::default()
        };
        let listed = self.chats.clone().list_memberships(request).await.map_err(failed("chat"))?.into_inner();
        if is_banned(&listed) {
            return Ok(None);
        }
        let membership = listed.memberships.into_iter().find(|one| !one.is_closed);
        let Some(membership) = membership else { return Ok(None) };
        // Without anything new it says how things are.
        let request = MarkRequest {
            chat_id: chat.to_string(),
            user_id: user_id.to_string(),
            read_seq: 0,
            delivered_seq: 0,
        };
        let marks = match self.messages.clone().mark(request).await {
            Ok(marks) => marks.into_inner(),
            // The user has left meanwhile.
            Err(status) if status.code() == Code::PermissionDenied => return Ok(None),
            Err(status) => return Err(failed("message")(status)),
        };
        Ok(Some(Standing {
            kind: ChatKind::parse(&membership.kind).ok_or(UnreadableField("kind"))?,
            is_muted: is_muted(&membership, now_ms),
            title: Some(membership.title).filter(|title| !title.is_empty()),
            taken_seq: taken_seq(&marks),
            unread: marks.unread,
            mentions: marks.mentions,
        }))
    }

    /// Returns the chats of a user, with their versions. Those where nothing is delivered are left out.
    pub(crate) async fn chats(&self, user_id: UserId) -> Result<Vec<(ChatId, i64)>, Error> {
        let request =
            ListMembershipsRequest { user_id: user_id.to_string(), ..ListMembershipsRequest::default() };
        let listed = self.chats.clone().list_memberships(request).await.map_err(failed("chat"))?;
        let open = listed.into_inner().memberships.into_iter().filter(|one| !one.is_closed);
        open.map(|one| Ok((read_chat(&one)?, one.version))).collect()
    }

    /// Returns which of some sessions of a user go on. The others count as over, so an answer that cannot be one to this question is refused as a whole: that of a
    /// release that does not know the question is a list of whatever sessions there are, up to a number.
    pub(crate) async fn sessions(
        &self,
        user_id: UserId,
        sessions: &[SessionId],
    ) -> Result<BTreeSet<SessionId>, Error> {
        if sessions.is_empty() {
            return Ok(BTreeSet::new());
        }
        let session_ids: Vec<String> = sessions.iter().map(ToString::to_string).collect();
        let request = ListSessionsRequest { user_id: user_id.to_string(), session_ids };
        let listed = self.accounts.clone().list_sessions(request).await.map_err(failed("auth"))?;
        let mut going_on = BTreeSet::new();
        for AccountSession { session_id, .. } in listed.into_inner().sessions {
            let asked = sessions.iter().find(|session| session.as_str() == session_id);
            let asked = asked.ok_or(Error::NoAnswer("it names a session that it was not asked for"))?;
            if !going_on.insert(asked.clone()) {
                return Err(Error::NoAnswer("it names a session twice"));
            }
        }
        Ok(going_on)
    }

    /// Returns what is unread in all chats of a user.
    pub(crate) async fn badge(&self, user_id: UserId) -> Result<i64, Error> {
        let request = SyncRequest { user_id: user_id.to_string(), limit: 1, ..SyncRequest::default() };
        let synced = self.messages.clone().sync(request).await.map_err(failed("message"))?;
        Ok(synced.into_inner().unread)
    }

    /// Returns a text and who wrote it; `None` for one that is gone.
    pub(crate) async fn text(&self, chat: ChatId, seq: i64) -> Result<Option<NoticeText>, Error> {
        let places = vec![EntryPlace { chat_id: chat.to_string(), seq }];
        let read =
            self.messages.clone().entries(EntriesRequest { places }).await.map_err(failed("message"))?;
        let Some(message) = read.into_inner().messages.pop() else { return Ok(None) };
        let is_deleted = message.changes.as_ref().is_some_and(|changes| changes.deleted_seq.is_some());
        if is_deleted || message.expired {
            return Ok(None);
        }
        let sender: UserId = message.sender_id.parse().map_err(|_| UnreadableField("sender_id"))?;
        let found = self.shown.user(sender).await.map_err(failed("user"))?;
        let name = found.map(|user| user.display_name).unwrap_or_default();
        let (name, text) = (excerpt(&name), excerpt(&message.body));
        Ok(Some(NoticeText { sender, name, text, sent_at_ms: message.sent_at_ms }))
    }

    /// Returns what a user has missed in all chats: what is unread, was taken by no device, and is not muted. Nothing of one who is banned
    /// everywhere.
    pub(crate) async fn digest(&self, user_id: UserId, now_ms: i64) -> Result<Digest, Error> {
        // No chat has the nil UUID: what moderators decided about the user is all of the answer.
        let request = ListMembershipsRequest {
            user_id: user_id.to_string(),
            chat_ids: vec![Uuid::nil().to_string()],
            ..ListMembershipsRequest::default()
        };
        let listed = self.chats.clone().list_memberships(request).await.map_err(failed("chat"))?;
        if is_banned(&listed.into_inner()) {
            return Ok(Digest::default());
        }
        let request =
            SyncRequest { user_id: user_id.to_string(), limit: DIGEST_CHATS, ..SyncRequest::default() };
        let synced = self.messages.clone().sync(request).await.map_err(failed("message"))?.into_inner();
        let mut missed = Vec::new();
        for state in synced.chats {
            let (Some(membership), Some(marks)) = (state.membership, state.watermarks) else { continue };
            let is_missed = marks.unread > 0 && taken_seq(&marks) < state.head_seq;
            if !is_missed || membership.is_closed || is_muted(&membership, now_ms) {
                continue;
            }
            let name = match membership.title.as_str() {
                "" => Name::Of(membership.other_id.parse().ok()),
                title => Name::Is(title.to_owned()),
            };
            let is_direct = ChatKind::parse(&membership.kind) == Some(ChatKind::Direct);
            missed.push((name, marks.unread, is_direct || marks.mentions > 0));
        }
        let others: Vec<UserId> = missed.iter().filter_map(|(name, ..)| name.of()).collect();
        let others = self.shown.users(&others).await.map_err(failed("user"))?;
        let mut digest = Digest::default();
        for (name, unread, is_called) in missed {
            let name = match name {
                Name::Is(title) => title,
                Name::Of(user) => match user.and_then(|user| others.get(&user)) {
                    Some(user) if !user.deleted => user.display_name.clone(),
                    Some(_) | None => "a user who is gone".to_owned(),
                },
            };
            digest.unread += unread;
            digest.chats.push(Missed { name, unread, is_called });
        }
        Ok(digest)
    }

    /// Returns the user service.
    pub const fn users(&self) -> &UserServiceClient<InternalChannel> {
        &self.users
    }
}

/// What a chat is called.
enum Name {
    Is(String),
    /// As this user, if it has one.
    Of(Option<UserId>),
}

impl Name {
    fn of(&self) -> Option<UserId> {
        match self {
            Self::Is(_) => None,
            Self::Of(user) => *user,
        }
    }
}

/// Returns whether moderators have banned the user everywhere.
fn is_banned(listed: &ListMembershipsResponse) -> bool {
    listed.restrictions.iter().any(|one| one.ban && one.chat_id.is_empty())
}

/// What is read was received.
fn taken_seq(marks: &Watermarks) -> i64 {
    marks.read_seq.max(marks.delivered_seq)
}

fn is_muted(membership: &Membership, now_ms: i64) -> bool {
    membership.own.as_ref().is_some_and(|own| own.muted_until_ms > now_ms)
}

fn read_chat(membership: &Membership) -> Result<ChatId, Error> {
    membership.chat_id.parse().map_err(|_| UnreadableField("chat_id").into())
}

fn failed(peer: &'static str) -> impl Fn(Status) -> Error {
    move |status| Error::Peer { peer, source: Box::new(status) }
}
