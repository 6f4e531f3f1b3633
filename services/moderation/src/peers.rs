//! What the other services carry out.

use std::collections::{HashMap, HashSet};

use contracts::{
    ChatId, SessionId, UserId,
    api::{Evidence, UserSession},
    convert::UnreadableField,
    event::EntryKind,
    rpc::{
        AccountSession, CountUsersRequest, EndSessionRequest, EntryRequest, GetAccountClosedRequest,
        GetNamedUsersRequest, GetUsersRequest, ListSessionsRequest, RestrictRequest, SetAccountClosedRequest,
        account_service_client::AccountServiceClient, chat_restrictions_client::ChatRestrictionsClient,
        message_service_client::MessageServiceClient, user_service_client::UserServiceClient,
    },
    wire::Message,
};
use kit::rpc::InternalChannel;
use tonic::{Code, Status};

use crate::{
    domain::{Place, Standing},
    error::Error,
};

/// The services of the tenant that this one calls. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    accounts: AccountServiceClient<InternalChannel>,
    chats: ChatRestrictionsClient<InternalChannel>,
    messages: MessageServiceClient<InternalChannel>,
    users: UserServiceClient<InternalChannel>,
}

/// A message as one of its readers sees it.
pub(crate) struct Seen {
    pub(crate) sender: UserId,
    pub(crate) evidence: Evidence,
}

impl Peers {
    /// Returns the services behind these channels.
    pub fn new(
        accounts: InternalChannel,
        chats: InternalChannel,
        messages: InternalChannel,
        users: InternalChannel,
    ) -> Self {
        Self {
            accounts: AccountServiceClient::new(accounts),
            chats: ChatRestrictionsClient::new(chats),
            messages: MessageServiceClient::new(messages),
            users: UserServiceClient::new(users),
        }
    }

    /// Returns the user service.
    pub const fn users(&self) -> &UserServiceClient<InternalChannel> {
        &self.users
    }

    /// Tells the chat service what holds for a user. It is whole, so that repeating it changes nothing.
    pub(crate) async fn restrict(&self, standing: &Standing) -> Result<(), Error> {
        let Standing { place: Place { user, scope }, silent_until_ms, banned_until_ms, .. } = *standing;
        let request = RestrictRequest {
            user_id: user.to_string(),
            chat_id: scope.map(|chat| chat.to_string()).unwrap_or_default(),
            until_ms: silent_until_ms.unwrap_or(0),
            remove: scope.is_some() && banned_until_ms.is_some(),
            ban: scope.is_none() && banned_until_ms.is_some(),
        };
        self.chats.clone().restrict(request).await.map(drop).map_err(|status| failed("chat", status))
    }

    /// Closes an account, or opens it again.
    pub(crate) async fn set_account_closed(&self, user: UserId, closed: bool) -> Result<(), Error> {
        let request = SetAccountClosedRequest { user_id: user.to_string(), closed };
        let answer = self.accounts.clone().set_account_closed(request).await;
        answer.map(drop).map_err(|status| failed("auth", status))
    }

    /// Returns whether an account is closed, by whomever.
    pub(crate) async fn is_account_closed(&self, user: UserId) -> Result<bool, Error> {
        let request = GetAccountClosedRequest { user_id: user.to_string() };
        let answer = self.accounts.clone().get_account_closed(request).await;
        Ok(answer.map_err(|status| failed("auth", status))?.into_inner().closed)
    }

    /// Returns the sessions of a user that go on, the last used one first.
    pub(crate) async fn sessions(&self, user: UserId) -> Result<Vec<UserSession>, Error> {
        let request = ListSessionsRequest { user_id: user.to_string(), session_ids: Vec::new() };
        let answer = self.accounts.clone().list_sessions(request).await;
        let sessions = answer.map_err(|status| failed("auth", status))?.into_inner().sessions;
        let session = |session: AccountSession| {
            let AccountSession { session_id, started_at_ms, last_used_at_ms } = session;
            UserSession { session_id, started_at_ms, last_used_at_ms }
        };
        Ok(sessions.into_iter().map(session).collect())
    }

    /// Ends a session of a user; one that has ended already stays so.
    pub(crate) async fn end_session(&self, user: UserId, session: &SessionId) -> Result<(), Error> {
        let request = EndSessionRequest { user_id: user.to_string(), session_id: session.to_string() };
        match self.accounts.clone().end_session(request).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::NotFound => Ok(()),
            Err(status) => Err(failed("auth", status)),
        }
    }

    /// Returns the username of a user; nothing of one who has no profile.
    pub(crate) async fn username(&self, user: UserId) -> Result<Option<String>, Error> {
        let request = GetUsersRequest { user_ids: vec![user.to_string()] };
        let answer = self.users.clone().get_users(request).await;
        let found = answer.map_err(|status| failed("user", status))?.into_inner().users;
        Ok(found.into_iter().next().map(|found| found.username))
    }

    /// Returns which of these users have a profile.
    pub(crate) async fn known(&self, users: &[UserId]) -> Result<HashSet<UserId>, Error> {
        if users.is_empty() {
            return Ok(HashSet::new());
        }
        let request = GetUsersRequest { user_ids: users.iter().map(UserId::to_string).collect() };
        let answer = self.users.clone().get_users(request).await;
        let found = answer.map_err(|status| failed("user", status))?.into_inner().users;
        found.into_iter().map(|user| user_id(&user.user_id)).collect()
    }

    /// Returns the users who have these usernames, by username.
    pub(crate) async fn named(&self, usernames: Vec<String>) -> Result<HashMap<String, UserId>, Error> {
        if usernames.is_empty() {
            return Ok(HashMap::new());
        }
        let answer = self.users.clone().get_named_users(GetNamedUsersRequest { usernames }).await;
        let found = answer.map_err(|status| failed("user", status))?.into_inner().users;
        found.into_iter().map(|user| Ok((user.username, user_id(&user.user_id)?))).collect()
    }

    /// Returns how many users there are whose accounts are not deleted.
    pub(crate) async fn count_users(&self) -> Result<i64, Error> {
        let answer = self.users.clone().count_users(CountUsersRequest {}).await;
        Ok(answer.map_err(|status| failed("user", status))?.into_inner().users)
    }

    /// Returns a message as a user reads it at this moment.
    pub(crate) async fn message(&self, user: UserId, chat: ChatId, seq: i64) -> Result<Seen, Error> {
        let request = EntryRequest {
            chat_id: chat.to_string(),
            user_id: user.to_string(),
            seq,
            ..EntryRequest::default()
        };
        let entry = self.messages.clone().entry(request).await.map_err(|status| match status.code() {
            Code::PermissionDenied => Error::NotAMember(chat),
            Code::NotFound => Error::NoMessage { chat, seq },
            _ => failed("message", status),
        })?;
        let message = entry.into_inner().message.ok_or(Error::NoMessage { chat, seq })?;
        let message = Message::try_from(message)?;
        let has_nothing = message.body.is_empty() && message.attachments.is_empty();
        if message.kind != EntryKind::Text || has_nothing {
            return Err(Error::NoMessage { chat, seq });
        }
        let files = message.attachments.iter().map(|file| format!("{} ({})", file.name, file.media_type));
        let evidence = Evidence {
            // No column of JSON takes it.
            text: message.body.replace('\0', "\u{fffd}"),
            files: files.map(|file| file.replace('\0', "\u{fffd}")).collect(),
            sent_at_ms: message.sent_at_ms,
        };
        Ok(Seen { sender: message.sender, evidence })
    }
}

fn user_id(text: &str) -> Result<UserId, Error> {
    text.parse().map_err(|_| Error::Unreadable(UnreadableField("user_id")))
}

fn failed(peer: &'static str, status: Status) -> Error {
    Error::Peer { peer, source: Box::new(status) }
}
