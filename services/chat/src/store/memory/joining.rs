//! Invite links and requests to join.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use contracts::{ChatId, InviteId, UserId, event::Role};
use kit::idempotency::IdempotencyKey;
use tonic::async_trait;

use super::{MemoryStore, Row, Tables};
use crate::{
    domain::{
        self, Admission, Change, CodeHash, Entrance, Excerpt, Invite, JoinRequest, MAX_INVITES, MAX_REQUESTS,
        NewInvite, Preview, PublicChat, Refusal,
    },
    store::{Invited, JoinStore, Publication, StoreError},
};

/// A link, with what it is found by.
pub(super) struct Link {
    pub(super) invite: Invite,
    code_hash: CodeHash,
    key: Option<IdempotencyKey>,
    /// Kept for a while without effect.
    is_revoked: bool,
    used_by: BTreeSet<UserId>,
}

impl Tables {
    fn managed(&self, chat_id: ChatId, actor: UserId) -> Result<(), Refusal> {
        let row = self.chats.iter().find(|row| row.excerpt.chat_id == chat_id);
        domain::manage(&row.ok_or(Refusal::NotAMember(chat_id))?.excerpt, actor)
    }

    fn link(&self, code: CodeHash) -> Option<&Link> {
        self.links.iter().find(|link| link.code_hash == code && !link.is_revoked)
    }

    fn request(&self, chat_id: ChatId, user_id: UserId) -> Option<JoinRequest> {
        let requested_at = *self.requests.get(&(chat_id, user_id))?;
        Some(JoinRequest { chat_id, user_id, requested_at })
    }

    /// Revokes the links of users who may not make any now, removes the requests of users who are in, and all of both of a chat in which no one
    /// is left.
    pub(super) fn tidy(&mut self, chat_id: ChatId) {
        let Some(row) = self.chats.iter().find(|row| row.excerpt.chat_id == chat_id) else { return };
        let excerpt = &row.excerpt;
        let is_over = excerpt.deleted_by.is_some() || excerpt.member_count == 0;
        self.links.retain(|link| link.invite.chat_id != chat_id || !is_over);
        for link in self.links.iter_mut().filter(|link| link.invite.chat_id == chat_id) {
            link.is_revoked |= !matches!(excerpt.role(link.invite.made_by), Some(Role::Owner | Role::Admin));
        }
        self.requests
            .retain(|(chat, user), _| *chat != chat_id || (!is_over && excerpt.role(*user).is_none()));
    }
}

#[async_trait]
impl JoinStore for MemoryStore {
    async fn public_chats(
        &self,
        search: &str,
        before: Option<ChatId>,
        limit: usize,
    ) -> Result<Vec<PublicChat>, StoreError> {
        let tables = self.tables();
        let excerpts = tables.chats.iter().map(|row| &row.excerpt);
        let found = excerpts.filter(|of| {
            of.member_count > 0
                && of.deleted_by.is_none()
                && before.is_none_or(|before| of.chat_id < before)
                && of.search_key().is_some_and(|key| key.contains(search))
        });
        let mut found: Vec<_> = found.map(public_chat).collect();
        found.sort_by_key(|chat| std::cmp::Reverse(chat.chat_id));
        found.truncate(limit);
        Ok(found)
    }

    async fn join(
        &self,
        chat_id: ChatId,
        user_id: UserId,
        at: DateTime<Utc>,
    ) -> Result<Publication, StoreError> {
        self.change_as(chat_id, user_id, at, |excerpt| {
            let excerpt = excerpt.ok_or(Refusal::NotAMember(chat_id))?;
            Ok(match domain::join(excerpt, user_id, Entrance::Public)? {
                Admission::Present | Admission::Requested => Vec::new(),
                Admission::Joined(change) => vec![change],
            })
        })
    }

    async fn create_invite(&self, new: &NewInvite) -> Result<(Invite, bool), StoreError> {
        let mut tables = self.tables();
        let NewInvite { invite, code_hash, key } = new.clone();
        tables.managed(invite.chat_id, invite.made_by)?;
        let mut links = tables.links.iter_mut();
        let before = links.find(|link| {
            key.is_some()
                && link.key == key
                && (link.invite.chat_id, link.invite.made_by) == (invite.chat_id, invite.made_by)
        });
        if let Some(before) = before {
            if !before.invite.is_alike(&invite) {
                return Err(Refusal::InviteKeyReused.into());
            }
            if before.is_revoked {
                return Err(Refusal::InviteRevoked.into());
            }
            before.code_hash = code_hash;
            return Ok((before.invite.clone(), false));
        }
        let is_of_chat = |link: &Link| link.invite.chat_id == invite.chat_id;
        let now = invite.created_at;
        tables.links.retain(|link| !is_of_chat(link) || !link.invite.is_past(link.is_revoked, now));
        let is_good = |link: &&Link| is_of_chat(link) && !link.is_revoked && link.invite.is_good(now);
        if tables.links.iter().filter(is_good).count() >= MAX_INVITES {
            return Err(Refusal::TooManyInvites.into());
        }
        let used_by = BTreeSet::new();
        tables.links.push(Link { invite: invite.clone(), code_hash, key, is_revoked: false, used_by });
        Ok((invite, true))
    }

    async fn invites(&self, chat_id: ChatId, now: DateTime<Utc>) -> Result<Vec<Invite>, StoreError> {
        let tables = self.tables();
        let invites = tables.links.iter().filter(|link| !link.is_revoked).map(|link| &link.invite);
        let good = invites.filter(|invite| invite.chat_id == chat_id && invite.is_good(now));
        let mut good: Vec<_> = good.cloned().collect();
        good.sort_by_key(|invite| invite.invite_id);
        Ok(good)
    }

    async fn revoke_invite(
        &self,
        chat_id: ChatId,
        actor: UserId,
        invite_id: InviteId,
        _: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        tables.managed(chat_id, actor)?;
        let mut links = tables.links.iter_mut();
        let link =
            links.find(|Link { invite, .. }| (invite.chat_id, invite.invite_id) == (chat_id, invite_id));
        link.into_iter().for_each(|link| link.is_revoked = true);
        Ok(())
    }

    async fn preview(
        &self,
        code: CodeHash,
        user_id: UserId,
        now: DateTime<Utc>,
    ) -> Result<Option<Preview>, StoreError> {
        let tables = self.tables();
        let link = tables.link(code);
        let link = link.filter(|link| link.invite.is_good_for(link.used_by.contains(&user_id), now));
        let Some(Link { invite, .. }) = link else { return Ok(None) };
        let row = tables.chats.iter().find(|row| row.excerpt.chat_id == invite.chat_id);
        let row = row.filter(|_| !tables.are_blocked(user_id, invite.made_by));
        Ok(row.map(|Row { excerpt, .. }| Preview {
            invite: invite.clone(),
            title: excerpt.title.clone().unwrap_or_default(),
            member_count: i64::try_from(excerpt.member_count).expect("members are bounded"),
            is_member: excerpt.role(user_id).is_some(),
        }))
    }

    async fn invited_to(&self, code: CodeHash) -> Result<Option<ChatId>, StoreError> {
        Ok(self.tables().link(code).map(|link| link.invite.chat_id))
    }

    async fn join_by_invite(
        &self,
        code: CodeHash,
        user_id: UserId,
        at: DateTime<Utc>,
    ) -> Result<Invited, StoreError> {
        let mut tables = self.tables();
        let link = tables.link(code).ok_or(Refusal::NoSuchInvite)?;
        let (invite, has_used) = (link.invite.clone(), link.used_by.contains(&user_id));
        let chat_id = invite.chat_id;
        let asked = tables.request(chat_id, user_id);
        let is_good = invite.is_good_for(has_used, at) && !tables.are_blocked(user_id, invite.made_by);
        let entrance = Entrance::Invite { invite: &invite, is_good, has_requested: asked.is_some() };
        let mut admission = Admission::Present;
        let decide = |excerpt: Option<&Excerpt>| {
            admission = domain::join(excerpt.ok_or(Refusal::NoSuchInvite)?, user_id, entrance)?;
            Ok(match &admission {
                Admission::Present | Admission::Requested => Vec::new(),
                Admission::Joined(change) => vec![change.clone()],
            })
        };
        let publication = self.change_in(&mut tables, chat_id, user_id, at, decide)?;
        if admission == Admission::Requested {
            if let Some(asked) = asked {
                return Ok(Invited::Asked(asked));
            }
            if tables.requests.keys().filter(|(chat, _)| *chat == chat_id).count() >= MAX_REQUESTS {
                return Err(Refusal::TooManyRequests.into());
            }
            tables.requests.insert((chat_id, user_id), at);
        }
        if admission != Admission::Present {
            let link = tables.links.iter_mut().find(|link| link.code_hash == code);
            let link = link.expect("it was found above");
            if link.used_by.insert(user_id) {
                link.invite.uses += 1;
            }
        }
        Ok(match admission {
            Admission::Present | Admission::Joined(_) => Invited::Member(publication),
            Admission::Requested => Invited::Asked(JoinRequest { chat_id, user_id, requested_at: at }),
        })
    }

    async fn requests(
        &self,
        chat_id: ChatId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<JoinRequest>, StoreError> {
        let tables = self.tables();
        let of_chat = tables.requests.iter().filter(|((chat, _), _)| *chat == chat_id);
        let behind = of_chat.filter(|((_, user), _)| after.is_none_or(|after| *user > after));
        let requests = behind.map(|((chat_id, user_id), at)| JoinRequest {
            chat_id: *chat_id,
            user_id: *user_id,
            requested_at: *at,
        });
        Ok(requests.take(limit).collect())
    }

    async fn approve(
        &self,
        chat_id: ChatId,
        actor: UserId,
        user_id: UserId,
        at: DateTime<Utc>,
    ) -> Result<Publication, StoreError> {
        let mut tables = self.tables();
        let has_requested = tables.request(chat_id, user_id).is_some();
        let decide = |excerpt: Option<&Excerpt>| -> Result<Vec<Change>, Refusal> {
            domain::approve(excerpt.ok_or(Refusal::NotAMember(chat_id))?, actor, user_id, has_requested)
        };
        self.change_in(&mut tables, chat_id, actor, at, decide)
    }

    async fn withdraw(
        &self,
        chat_id: ChatId,
        actor: UserId,
        user_id: UserId,
        _: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        if actor != user_id {
            tables.managed(chat_id, actor)?;
        }
        tables.requests.remove(&(chat_id, user_id));
        Ok(())
    }

    async fn withdraw_all(&self, user_id: UserId) -> Result<(), StoreError> {
        let mut tables = self.tables();
        tables.requests.retain(|(_, user), _| *user != user_id);
        for link in &mut tables.links {
            link.used_by.remove(&user_id);
        }
        tables.forget_sender(user_id);
        Ok(())
    }
}

fn public_chat(excerpt: &Excerpt) -> PublicChat {
    PublicChat {
        chat_id: excerpt.chat_id,
        kind: excerpt.kind,
        title: excerpt.title.clone().unwrap_or_default(),
        topic: excerpt.topic.clone(),
        member_count: i64::try_from(excerpt.member_count).expect("members are bounded"),
    }
}
