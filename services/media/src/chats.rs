//! Who is in which chat, as the chat service knows, and from where on they read it, as the message service knows.

use std::collections::HashMap;

use contracts::{
    ChatId, UserId,
    convert::UnreadableField,
    event::Role,
    rpc::{
        CheckMembersRequest, CheckMembersResponse, EntryId, GetMembershipRequest, HistoryRequest,
        ListMembershipsRequest, Membership, chat_service_client::ChatServiceClient,
        message_service_client::MessageServiceClient,
    },
};
use kit::rpc::InternalChannel;
use moka::sync::Cache;
use tonic::Code;

use crate::{domain::Readers, error::Error};

/// Beginnings of histories kept, some 200 bytes each: those of the members whose files are fetched at one time. One that is not kept is looked up.
const BEGINNINGS: u64 = 10_000;

/// The chat and the message service of the tenant. Cheap to clone.
#[derive(Clone)]
pub struct Chats {
    chat: ChatServiceClient<InternalChannel>,
    message: MessageServiceClient<InternalChannel>,
    /// The seqs of entries that histories begin with. An entry has its seq for good.
    beginnings: Cache<Beginning, i64>,
}

/// An entry that a history begins with: its chat, its sender and its key.
type Beginning = (ChatId, String, String);

impl Chats {
    /// Returns the services behind these channels.
    pub fn new(chat: InternalChannel, message: InternalChannel) -> Self {
        let (chat, message) = (ChatServiceClient::new(chat), MessageServiceClient::new(message));
        Self { chat, message, beginnings: Cache::new(BEGINNINGS) }
    }

    /// Reports whether a user is in a chat, as of a moment after the call began.
    pub async fn is_in(&self, user_id: UserId, chat: ChatId) -> Result<bool, Error> {
        Ok(self.check(user_id, &[chat]).await?.is_member.contains(&true))
    }

    /// Reports whether a user is among any of these readers, as of a moment after the call began.
    ///
    /// A member whose history begins with an entry that the message service does not have yet reads nothing that has a seq, as in a history.
    pub async fn is_among(&self, user_id: UserId, readers: &[Readers]) -> Result<bool, Error> {
        // A request without chats is for all of them.
        if readers.is_empty() {
            return Ok(false);
        }
        let seqs: HashMap<ChatId, Option<i64>> = readers.iter().map(|of| (of.chat, of.seq)).collect();
        let request = ListMembershipsRequest {
            user_id: user_id.to_string(),
            chat_ids: readers.iter().map(|of| of.chat.to_string()).collect(),
            seats_only: false,
        };
        let listed = self.chat.clone().list_memberships(request).await.map_err(failed)?.into_inner();
        let mut begun = Vec::new();
        for Membership { chat_id, reads_from, .. } in listed.memberships {
            let chat: ChatId = chat_id.parse().map_err(|_| UnreadableField("chat_id"))?;
            let Some(seq) = seqs.get(&chat) else { continue };
            match (reads_from, seq) {
                (Some(entry), Some(seq)) => begun.push((chat, entry, *seq)),
                // All of the chat, or what comes now.
                (None, _) | (_, None) => return Ok(true),
            }
        }
        // Most users of whom one is looked up are in one of the chats.
        for (chat, entry, seq) in begun {
            if self.begins_by(user_id, chat, entry, seq).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reports whether the history of a member, which begins with this entry, has a seq.
    async fn begins_by(
        &self,
        user_id: UserId,
        chat: ChatId,
        entry: EntryId,
        seq: i64,
    ) -> Result<bool, Error> {
        let beginning = (chat, entry.sender_id, entry.key);
        if let Some(from_seq) = self.beginnings.get(&beginning) {
            return Ok(from_seq <= seq);
        }
        // One message at most: what is asked is where it begins.
        let request = HistoryRequest {
            chat_id: chat.to_string(),
            user_id: user_id.to_string(),
            after_seq: seq - 1,
            limit: 1,
            ..HistoryRequest::default()
        };
        let page = match self.message.clone().history(request).await {
            Ok(page) => page.into_inner(),
            // Not a member any more.
            Err(status) if status.code() == Code::PermissionDenied => return Ok(false),
            Err(status) => return Err(Error::Peer { peer: "message", source: Box::new(status) }),
        };
        // Before the entry is stored, the history begins behind the head, and that is not the last word.
        if page.from_seq > page.head_seq {
            return Ok(false);
        }
        self.beginnings.insert(beginning, page.from_seq);
        Ok(page.from_seq <= seq)
    }

    /// Refuses a user who may not send to a chat.
    pub async fn require_sender(&self, user_id: UserId, chat: ChatId) -> Result<(), Error> {
        let answer = self.check(user_id, &[chat]).await?;
        match (answer.is_member.first(), answer.may_send.first()) {
            (Some(true), Some(true)) => Ok(()),
            (Some(true), _) => Err(Error::MayNotSend(chat)),
            _ => Err(Error::NotAMember(chat)),
        }
    }

    /// Refuses a user who may not change the picture of a chat: that is for its owner and admins, and no direct chat has one.
    pub async fn require_manager(&self, user_id: UserId, chat: ChatId) -> Result<(), Error> {
        let answer = self.chat.clone().get_membership(membership(chat, user_id)).await;
        let answer = answer.map_err(failed)?.into_inner();
        let member = answer.member.ok_or(Error::NotAMember(chat))?;
        let is_manager = matches!(Role::parse(&member.role), Some(Role::Owner | Role::Admin));
        if is_manager && answer.other_id.is_empty() { Ok(()) } else { Err(Error::NotAManager(chat)) }
    }

    async fn check(&self, user_id: UserId, chats: &[ChatId]) -> Result<CheckMembersResponse, Error> {
        let memberships = chats.iter().map(|chat| membership(*chat, user_id)).collect();
        let answer = self.chat.clone().check_members(CheckMembersRequest { memberships }).await;
        Ok(answer.map_err(failed)?.into_inner())
    }
}

fn membership(chat: ChatId, user: UserId) -> GetMembershipRequest {
    GetMembershipRequest { chat_id: chat.to_string(), user_id: user.to_string() }
}

fn failed(status: tonic::Status) -> Error {
    Error::Peer { peer: "chat", source: Box::new(status) }
}
