//! What a messenger keeps about a user.

use contracts::{
    ErrorCode, UserId,
    api::{
        AuthSession, Block, Chat, ChatMember, Contact, OwnEmailAddress, OwnProfile, ScheduledMessage,
        Settings,
    },
    wire::Message,
};
use serde::Serialize;

use crate::{ClientError, Identity};

/// A user's own data, read from the API of each service with the rights of the user.
#[derive(Clone, Debug, Serialize)]
pub struct Export {
    pub user_id: UserId,
    pub profile: OwnProfile,
    /// The e-mail address of the account.
    pub email: OwnEmailAddress,
    /// Those that go on.
    pub sessions: Vec<AuthSession>,
    pub settings: Settings,
    pub contacts: Vec<Contact>,
    pub blocks: Vec<Block>,
    pub memberships: Vec<Membership>,
    /// What the user wrote, by chat and oldest first: also in chats that they have left or were removed from. Edits and deletions are in the
    /// messages.
    pub messages: Vec<Message>,
}

/// A chat that the user is in, as the user sees it.
#[derive(Clone, Debug, Serialize)]
pub struct Membership {
    #[serde(flatten)]
    pub chat: Chat,
    pub members: Vec<ChatMember>,
    /// What the user has scheduled there.
    pub scheduled_messages: Vec<ScheduledMessage>,
}

impl Export {
    /// Reads all of it. What changes meanwhile is there as it was before or after the change.
    pub async fn read(identity: &Identity) -> Result<Self, ClientError> {
        let messenger = identity.messenger();
        let token = identity.token().await?;
        let mut memberships = Vec::new();
        for chat in messenger.chats(&token).await? {
            // Reading thousands of chats takes longer than a token lives.
            let token = identity.token().await?;
            let has_scheduled = chat.own.scheduled + chat.own.scheduled_refused > 0;
            let read = async {
                let members = messenger.members(&token, chat.chat_id).await?;
                let scheduled_messages =
                    if has_scheduled { messenger.scheduled(&token, chat.chat_id).await? } else { Vec::new() };
                Ok::<_, ClientError>((members, scheduled_messages))
            };
            match read.await {
                Ok((members, scheduled_messages)) => {
                    memberships.push(Membership { chat, members, scheduled_messages });
                }
                // The user was removed at this moment.
                Err(error) if error.code() == Some(ErrorCode::NotAMember) => {}
                Err(error) => return Err(error),
            }
        }
        let messages = own_messages(identity).await?;
        let token = identity.token().await?;
        Ok(Self {
            user_id: identity.user(),
            profile: messenger.me(&token).await?,
            email: messenger.email(&token).await?,
            sessions: messenger.sessions(&token).await?.items,
            settings: messenger.settings(&token).await?,
            contacts: messenger.contacts(&token).await?,
            blocks: messenger.blocks(&token).await?,
            memberships,
            messages,
        })
    }
}

/// Returns what the user wrote.
async fn own_messages(identity: &Identity) -> Result<Vec<Message>, ClientError> {
    let (mut own, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let token = identity.token().await?;
        let page = identity.messenger().own_messages(&token, cursor.as_deref()).await?;
        own.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(own);
        }
    }
}
