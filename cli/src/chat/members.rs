//! Who is in the open chat, who comes, and who goes.

use contracts::{ChatId, api::CreateInviteRequest, event::Role, wire::PresenceState};
use posthouse_client::Joined;

use super::{Room, shown::word};
use crate::failure::{Exit, Failure};

impl Room {
    pub(super) async fn role(&mut self, username: &str, role: Role) -> Result<(), Failure> {
        let chat = self.opened()?;
        let user = self.user_named(username).await?;
        let token = self.identity.token().await?;
        // To put a user who is no member would add them.
        let members = self.messenger().members(&token, chat).await?;
        if !members.iter().any(|member| member.user_id == user) {
            let what = format!("{username} is not a member of the open chat");
            return Err(Failure::new(Exit::Refused, what, "/members lists them"));
        }
        self.messenger().put_member(&token, chat, user, role).await?;
        Ok(())
    }

    pub(super) async fn public(&mut self, text: &str) -> Result<(), Failure> {
        let chats = self.messenger().public_chats(&self.identity.token().await?, text).await?.items;
        for chat in chats {
            let topic = chat.topic.map(|topic| format!(": {topic}")).unwrap_or_default();
            self.note(&format!(
                "{} ({} members){topic}  /join {}",
                chat.title, chat.member_count, chat.chat_id
            ));
        }
        Ok(())
    }

    pub(super) async fn join(&mut self, what: &str) -> Result<(), Failure> {
        let token = self.identity.token().await?;
        let joined = match what.parse::<ChatId>() {
            Ok(chat) => Joined::Member(Box::new(self.messenger().join(&token, chat).await?)),
            Err(_) => self.messenger().join_by_invite(&token, what).await?,
        };
        match joined {
            Joined::Member(chat) => self.open_by(&chat.chat_id.to_string()).await,
            Joined::Asked(_) => {
                self.note("you ask to join: an owner or admin decides");
                Ok(())
            }
        }
    }

    pub(super) async fn leave(&mut self) -> Result<(), Failure> {
        let chat = self.opened()?;
        let me = self.identity.user();
        self.messenger().remove_member(&self.identity.token().await?, chat, me).await?;
        self.open = None;
        self.note("you have left the chat");
        Ok(())
    }

    pub(super) async fn invite(&mut self, needs_approval: bool) -> Result<(), Failure> {
        let chat = self.opened()?;
        let needs_approval = Some(needs_approval);
        let request = CreateInviteRequest { needs_approval, ..CreateInviteRequest::default() };
        let made = self.messenger().create_invite(&self.identity.token().await?, chat, &request).await?;
        self.note(&format!("/join {} lets users in; the code is not shown again", made.code));
        Ok(())
    }

    pub(super) async fn invites(&mut self) -> Result<(), Failure> {
        let chat = self.opened()?;
        for invite in self.messenger().invites(&self.identity.token().await?, chat).await? {
            let by = self.name(invite.made_by).await;
            self.note(&format!("made by {by}, used {} times  /revoke {}", invite.uses, invite.invite_id));
        }
        Ok(())
    }

    pub(super) async fn requests(&mut self) -> Result<(), Failure> {
        let chat = self.opened()?;
        for request in self.messenger().join_requests(&self.identity.token().await?, chat).await? {
            let name = self.name(request.user_id).await;
            self.note(&format!("{name} asks to join  /approve @{name}"));
        }
        Ok(())
    }

    pub(super) async fn members(&mut self) -> Result<(), Failure> {
        let chat = self.opened()?;
        for member in self.messenger().members(&self.identity.token().await?, chat).await? {
            let name = self.name(member.user_id).await;
            let presence = self.presence.get(&member.user_id).copied().unwrap_or_default();
            let presence = if presence == PresenceState::Unknown { "" } else { word(presence) };
            self.note(format!("{name} ({}) {presence}", member.role.as_str()).trim_end());
        }
        Ok(())
    }
}
