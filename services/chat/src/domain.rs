//! Chats, their members and the permissions to change them. Rules only: no I/O, no clock.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use contracts::{
    ChatId, DeviceId, MessageKey, UserId,
    api::{CreateChatRequest, FOUNDED_MEMBERS, HistoryAccess, UpdateChatRequest},
    event::{self, ChatKind, EntryKind, MembershipRecord, Role, SendRecord},
};
use kit::{
    catalog::Topic,
    error::InvalidField,
    idempotency::IdempotencyKey,
    text::{self, Title},
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub use self::{
    limits::Limits,
    own::{OwnState, OwnUpdate},
};

/// Most members of a chat. An audience and a roster are read at once, so they are bounded: 1000 rows of 90 bytes.
pub const MAX_MEMBERS: usize = FOUNDED_MEMBERS + 1;

/// For this long a user who has left a chat is added again by no one else, and one who was removed not by the user who
/// removed them: a removal and an addition in turn would reach their devices as often as another user likes.
pub const READDING_PAUSE: TimeDelta = TimeDelta::hours(24);

/// Most users whom one user blocks: they are counted with each new block.
pub const MAX_BLOCKS: usize = 1000;

/// A user has blocked another one. It acts in both directions: neither opens a direct chat with the other or adds them to a
/// group, and in the direct chat that they have neither sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub user_id: UserId,
    pub blocked_at: DateTime<Utc>,
}

/// A chat as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chat {
    pub chat_id: ChatId,
    pub kind: ChatKind,
    /// Groups only.
    pub title: Option<String>,
    /// What a group is for.
    pub topic: Option<String>,
    /// What members who are added read.
    pub history: HistoryAccess,
    /// The role of the member who queries.
    pub role: Role,
    /// How that member has it.
    pub own: OwnState,
    pub member_count: i64,
    pub created_at: DateTime<Utc>,
}

impl Chat {
    /// Returns whether the member who queries may add others; [`decide()`] has the whole rule.
    pub fn takes_members(&self) -> bool {
        self.kind != ChatKind::Direct && self.role != Role::Member
    }
}

/// One user's place in one chat, with the chat as they see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub chat: Chat,
    /// The other user of a direct chat, also when they have left it.
    pub other: Option<UserId>,
    pub joined_at: DateTime<Utc>,
    /// As in [`Member`].
    pub reads_from: Option<EntryId>,
    /// The number of the newest record of the chat's memberships: what this says includes them all.
    pub version: i64,
    /// Whether nothing is delivered there: the two of a direct chat have a block between them.
    pub is_closed: bool,
}

/// One user in one chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub user_id: UserId,
    pub role: Role,
    pub joined_at: DateTime<Utc>,
    /// The entry with which this member's history begins; `None` for one who reads all of it. It is decided when the
    /// member is added, so that what a present member reads never changes.
    pub reads_from: Option<EntryId>,
    /// By whose hand, the user's own too; `None` for members who were there before this was kept.
    pub added_by: Option<UserId>,
}

/// Names an entry of a chat: the chat's log has not given it a seq yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryId {
    pub sender: UserId,
    pub key: MessageKey,
}

/// What a user may do with the messages of a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The user is not in the chat.
    None,
    /// Of a direct chat that the other user has left, where no one would receive what is sent, or whose two users have a block
    /// between them.
    Read,
    /// Of a channel whose plain member the user is.
    ReadAndReact,
    ReadAndSend,
}

impl Access {
    /// Returns what a member of a chat of this kind and size may do. `is_blocked` says whether the two of a direct chat have a
    /// block between them.
    pub const fn of_member(kind: ChatKind, role: Role, member_count: usize, is_blocked: bool) -> Self {
        match (kind, role) {
            (ChatKind::Direct, _) if member_count < 2 || is_blocked => Self::Read,
            (ChatKind::Channel, Role::Member) => Self::ReadAndReact,
            (ChatKind::Direct | ChatKind::Group | ChatKind::Channel, _) => Self::ReadAndSend,
        }
    }
}

/// A chat about to be created: its rules hold.
#[derive(Clone, Debug)]
pub struct NewChat {
    pub chat_id: ChatId,
    pub founder: UserId,
    pub founding: Founding,
    /// A group that its founder creates again with the same key is the same group. A direct chat needs none: the pair is
    /// its key.
    pub key: Option<IdempotencyKey>,
    pub created_at: DateTime<Utc>,
}

/// What a new chat is created from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Founding {
    /// Both are plain members: there is nothing to administer.
    Direct { other: UserId },
    /// The founder owns it, the others are plain members.
    Group { is_channel: bool, title: Title, history: HistoryAccess, others: BTreeSet<UserId> },
}

/// Why a new chat is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChat {
    #[error("members: a direct chat is with exactly one other user")]
    DirectMembers,
    #[error("a direct chat is with another user, not with oneself")]
    DirectWithOneself,
    #[error("title: a direct chat has none")]
    DirectTitle,
    #[error("history: a direct chat has no such rule")]
    DirectHistory,
    #[error(transparent)]
    GroupTitle(#[from] InvalidField),
    #[error("members: a group or channel has at most {MAX_MEMBERS}, the caller included")]
    TooManyMembers,
}

impl Founding {
    /// Reads a request of `founder`. Repeated members count once, and so does the founder.
    pub fn parse(founder: UserId, request: CreateChatRequest) -> Result<Self, InvalidChat> {
        let mut others: BTreeSet<_> = request.members.into_iter().collect();
        let named_founder = others.remove(&founder);
        match request.kind {
            ChatKind::Direct => {
                if request.title.is_some() {
                    return Err(InvalidChat::DirectTitle);
                }
                if request.history.is_some() {
                    return Err(InvalidChat::DirectHistory);
                }
                match others.pop_first() {
                    Some(other) if others.is_empty() => Ok(Self::Direct { other }),
                    None if named_founder => Err(InvalidChat::DirectWithOneself),
                    _ => Err(InvalidChat::DirectMembers),
                }
            }
            kind @ (ChatKind::Group | ChatKind::Channel) => {
                let is_channel = kind == ChatKind::Channel;
                let title = Title::parse("title", &request.title.unwrap_or_default())?;
                if others.len() >= MAX_MEMBERS {
                    return Err(InvalidChat::TooManyMembers);
                }
                // What was said in a channel is for those who come later too.
                let default = if is_channel { HistoryAccess::All } else { HistoryAccess::default() };
                Ok(Self::Group { is_channel, title, history: request.history.unwrap_or(default), others })
            }
        }
    }
}

impl Founding {
    /// Returns the members beside the founder.
    pub fn others(&self) -> BTreeSet<UserId> {
        match self {
            Self::Direct { other } => BTreeSet::from([*other]),
            Self::Group { others, .. } => others.clone(),
        }
    }
}

impl NewChat {
    /// Returns what the chat is.
    pub fn kind(&self) -> ChatKind {
        match self.founding {
            Founding::Direct { .. } => ChatKind::Direct,
            Founding::Group { is_channel: true, .. } => ChatKind::Channel,
            Founding::Group { .. } => ChatKind::Group,
        }
    }

    /// Returns the title of a group.
    pub fn title(&self) -> Option<&str> {
        match &self.founding {
            Founding::Direct { .. } => None,
            Founding::Group { title, .. } => Some(title.as_str()),
        }
    }

    /// Returns what members who are added later read.
    pub fn history(&self) -> HistoryAccess {
        match self.founding {
            Founding::Direct { .. } => HistoryAccess::default(),
            Founding::Group { history, .. } => history,
        }
    }

    /// Returns the two members of a direct chat in ascending order.
    pub fn pair(&self) -> Option<(UserId, UserId)> {
        match self.founding {
            Founding::Direct { other } => Some((self.founder.min(other), self.founder.max(other))),
            Founding::Group { .. } => None,
        }
    }

    /// Returns the key of a group.
    pub fn group_key(&self) -> Option<&IdempotencyKey> {
        match self.founding {
            Founding::Direct { .. } => None,
            Founding::Group { .. } => self.key.as_ref(),
        }
    }

    /// Returns the SHA-256 of what the chat is created from: the same key with another digest is another group.
    pub fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.title().unwrap_or_default());
        // No title has a control character, so that none ends like the id of a member.
        digest.update([0]);
        for member in self.members() {
            digest.update(member.user_id.0.as_bytes());
        }
        match self.history() {
            // As in the digests of groups that were created before there was a choice.
            HistoryAccess::FromEntry => {}
            HistoryAccess::All => digest.update([1]),
        }
        if self.kind() == ChatKind::Channel {
            digest.update([2]);
        }
        digest.finalize().into()
    }

    /// Returns the members that the chat starts with, the founder first.
    pub fn members(&self) -> Vec<Member> {
        let (joined_at, added_by) = (self.created_at, Some(self.founder));
        let member = |user_id, role| Member { user_id, role, joined_at, reads_from: None, added_by };
        match &self.founding {
            Founding::Direct { other } => {
                vec![member(self.founder, Role::Member), member(*other, Role::Member)]
            }
            Founding::Group { others, .. } => std::iter::once(member(self.founder, Role::Owner))
                .chain(others.iter().map(|user| member(*user, Role::Member)))
                .collect(),
        }
    }

    /// Returns what is published: every membership, and no entry in the chat itself.
    ///
    /// The founding members are the chat's state before its first entry, so seq 1 is the first message, and
    /// founding a group of a thousand does not push a thousand entries to a thousand users.
    pub fn records(&self) -> Vec<OutboxRecord> {
        let members = self.members();
        let mut places = Places { chat: self.chat_id, kind: self.kind(), version: 0 };
        let count = members.len();
        // The founder comes last: a reader of the founder's membership has most likely read those of the others.
        members.iter().rev().flat_map(|member| places.of_member(member, count)).collect()
    }
}

/// A chat with all its members, read under the lock of the chat.
#[derive(Clone, Debug)]
pub struct Roster {
    pub chat_id: ChatId,
    pub kind: ChatKind,
    /// Groups only.
    pub title: Option<String>,
    pub topic: Option<String>,
    /// What members who are added read.
    pub history: HistoryAccess,
    /// How many records of memberships were written, which is the number of the newest.
    pub version: i64,
    pub members: Vec<Member>,
    /// Those of the last [`READDING_PAUSE`].
    pub departures: Vec<Departure>,
}

/// A user is out of a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    pub user_id: UserId,
    /// The user themselves when they left.
    pub by: UserId,
    pub at: DateTime<Utc>,
}

/// A change that a member requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Adds a user, or changes the role of a member.
    Put {
        user_id: UserId,
        role: Role,
    },
    /// Removes a member; of oneself it is the same as leaving.
    Remove {
        user_id: UserId,
    },
    Leave,
    Update(Update),
    /// Removes all members.
    Delete,
}

/// What a group is to be from now on; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    pub title: Option<Title>,
    /// An empty one removes it.
    pub topic: Option<text::Topic>,
    /// What members who are added read.
    pub history: Option<HistoryAccess>,
}

impl Update {
    /// Reads a request.
    pub fn parse(request: &UpdateChatRequest) -> Result<Self, InvalidField> {
        let title = request.title.as_deref().map(|title| Title::parse("title", title));
        let topic = request.topic.as_deref().map(|topic| text::Topic::parse("topic", topic));
        Ok(Self { title: title.transpose()?, topic: topic.transpose()?, history: request.history })
    }

    /// Returns what it changes of a group.
    fn changes(&self, roster: &Roster) -> Vec<Change> {
        let title = self.title.as_ref().map(|title| title.as_str().to_owned());
        let title = title.filter(|title| roster.title.as_ref() != Some(title));
        let topic = self.topic.as_ref().map(|topic| Some(topic.as_str()).filter(|topic| !topic.is_empty()));
        let topic = topic.filter(|topic| roster.topic.as_deref() != *topic);
        let history = self.history.filter(|history| *history != roster.history);
        let changes = [
            title.map(|title| Change::TitleSet { title }),
            topic.map(|topic| Change::TopicSet { topic: topic.map(str::to_owned) }),
            history.map(|history| Change::HistorySet { history }),
        ];
        changes.into_iter().flatten().collect()
    }
}

/// One step of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Added { user_id: UserId, role: Role },
    RoleSet { user_id: UserId, role: Role },
    Removed { user_id: UserId },
    TitleSet { title: String },
    TopicSet { topic: Option<String> },
    HistorySet { history: HistoryAccess },
}

/// Why a member may not change a chat so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("you are not a member of chat {0}, or there is no such chat")]
    NotAMember(ChatId),
    #[error("a direct chat has its two users and no roles; each of them may leave it")]
    DirectIsFixed,
    /// The same for every reason, so that none of them is known to others.
    #[error("user {0} cannot be added by you now")]
    Unwanted(UserId),
    #[error("this needs a higher role than {}", .0.as_str())]
    RoleTooLow(Role),
    #[error("an owner gives the role away by making another member the owner, or by leaving")]
    OwnerStays,
    #[error("the chat has {MAX_MEMBERS} members, which is the most: remove one first")]
    Full,
    #[error(
        "you have created {0} chats that have members, which is the most: remove the members of groups that are not needed and \
         leave them, or let an administrator raise limits.chatsPerUser"
    )]
    TooManyChats(u32),
    #[error("you have created {most} chats in 24 hours, which is the most: wait")]
    TooManyChatsLately { most: u32, wait: Duration },
    #[error(
        "you have added as many members to chats as one user may at present: remove members from groups that are not needed, or \
         let an administrator raise limits.memberships"
    )]
    TooManyAdded,
    #[error(
        "the chats of this messenger have as many members as they may: leave chats that are not needed, or let an administrator \
         raise limits.memberships"
    )]
    TenantFull,
    #[error("this idempotency-key was used before for another group")]
    KeyReused,
    #[error("you block {MAX_BLOCKS} users, which is the most: lift a block that is not needed")]
    TooManyBlocks,
}

impl Command {
    /// Decides what the command of a user changes who is not in the chat; `chat_id` may be of no chat. Leaving is done
    /// already, and the response to a leave that is repeated is the same.
    pub fn of_stranger(&self, chat_id: ChatId, actor: UserId) -> Result<Vec<Change>, Refusal> {
        match self {
            Self::Leave => Ok(Vec::new()),
            Self::Remove { user_id } if *user_id == actor => Ok(Vec::new()),
            Self::Put { .. } | Self::Remove { .. } | Self::Update(_) | Self::Delete => {
                Err(Refusal::NotAMember(chat_id))
            }
        }
    }
}

/// Decides what a command of `actor` changes, in the order in which it is to be done. Empty: it is so already.
///
/// An owner may do everything; an admin adds plain members and removes them, and decides what the group is called and what
/// members who are added read. A group has one owner: making another member the owner makes the old one an admin, and an
/// owner who leaves hands over to the admin (or else the member) who has been there longest.
pub fn decide(roster: &Roster, actor: UserId, command: &Command) -> Result<Vec<Change>, Refusal> {
    let Some(actor_role) = roster.role(actor) else {
        // A deletion that is repeated is done already, for as long as it is known who was the last.
        return match command {
            Command::Delete if roster.was_emptied_by(actor) => Ok(Vec::new()),
            command => command.of_stranger(roster.chat_id, actor),
        };
    };
    match (roster.kind, command) {
        (ChatKind::Group | ChatKind::Channel, _) | (ChatKind::Direct, Command::Leave) => {}
        (ChatKind::Direct, Command::Remove { user_id }) if *user_id == actor => {}
        (ChatKind::Direct, _) => return Err(Refusal::DirectIsFixed),
    }
    match *command {
        Command::Put { user_id, role } => put(roster, (actor, actor_role), user_id, role),
        Command::Leave => Ok(leave(roster, actor, actor_role)),
        Command::Remove { user_id } if user_id == actor => Ok(leave(roster, actor, actor_role)),
        Command::Remove { user_id } => {
            let allowed = match (actor_role, roster.role(user_id)) {
                (Role::Owner, _) | (Role::Admin, Some(Role::Member) | None) => true,
                (Role::Admin, Some(Role::Owner | Role::Admin)) | (Role::Member, _) => false,
            };
            if !allowed {
                return Err(Refusal::RoleTooLow(actor_role));
            }
            Ok(roster.role(user_id).map(|_| Change::Removed { user_id }).into_iter().collect())
        }
        Command::Update(_) if actor_role == Role::Member => Err(Refusal::RoleTooLow(actor_role)),
        Command::Update(ref update) => Ok(update.changes(roster)),
        Command::Delete if actor_role != Role::Owner => Err(Refusal::RoleTooLow(actor_role)),
        Command::Delete => Ok(delete(roster, actor)),
    }
}

/// The members go in the order in which they came, and the owner last: until then there is one.
fn delete(roster: &Roster, owner: UserId) -> Vec<Change> {
    let mut members: Vec<_> = roster.members.iter().collect();
    members.sort_by_key(|member| (member.user_id == owner, member.joined_at, member.user_id));
    members.into_iter().map(|member| Change::Removed { user_id: member.user_id }).collect()
}

/// Decides who comes back into the direct chat of `founder` and `other` when the founder opens it again. Empty: both are in
/// it. While there is a block between them, neither comes back.
pub fn reopen(
    roster: &Roster,
    founder: UserId,
    other: UserId,
    is_blocked: bool,
) -> Result<Vec<Change>, Refusal> {
    let absent = [founder, other].into_iter().filter(|user_id| roster.role(*user_id).is_none());
    let back = absent.map(|user_id| {
        if is_blocked {
            return Err(Refusal::Unwanted(other));
        }
        match roster.is_barred(user_id, founder) {
            true => Err(Refusal::Unwanted(user_id)),
            false => Ok(Change::Added { user_id, role: Role::Member }),
        }
    });
    back.collect()
}

fn put(
    roster: &Roster,
    (actor, actor_role): (UserId, Role),
    user_id: UserId,
    role: Role,
) -> Result<Vec<Change>, Refusal> {
    let current = roster.role(user_id);
    if current == Some(role) {
        return Ok(Vec::new());
    }
    let allowed = match actor_role {
        Role::Owner => true,
        Role::Admin => matches!((current, role), (None | Some(Role::Member), Role::Member)),
        Role::Member => false,
    };
    if !allowed {
        return Err(Refusal::RoleTooLow(actor_role));
    }
    if user_id == actor {
        return Err(Refusal::OwnerStays);
    }
    if current.is_none() && roster.is_barred(user_id, actor) {
        return Err(Refusal::Unwanted(user_id));
    }
    if current.is_none() && roster.members.len() >= MAX_MEMBERS {
        return Err(Refusal::Full);
    }
    let mut changes = Vec::with_capacity(2);
    if role == Role::Owner {
        // The old owner steps down first: at no moment are there two.
        changes.push(Change::RoleSet { user_id: actor, role: Role::Admin });
    }
    changes.push(match current {
        None => Change::Added { user_id, role },
        Some(_) => Change::RoleSet { user_id, role },
    });
    Ok(changes)
}

/// Decides what the deletion of a user's account changes. Empty: the user is not in the chat.
///
/// The user leaves a group as any member does, and a direct chat too: the other one keeps it, and may read it.
pub fn depart(roster: &Roster, user_id: UserId) -> Vec<Change> {
    roster.role(user_id).map(|role| leave(roster, user_id, role)).unwrap_or_default()
}

fn leave(roster: &Roster, actor: UserId, actor_role: Role) -> Vec<Change> {
    let mut changes = vec![Change::Removed { user_id: actor }];
    if actor_role == Role::Owner {
        let heir = roster
            .members
            .iter()
            .filter(|member| member.user_id != actor)
            // Admins come before members; the id decides between users who joined together.
            .min_by_key(|member| (member.role, member.joined_at, member.user_id));
        changes.extend(heir.map(|heir| Change::RoleSet { user_id: heir.user_id, role: Role::Owner }));
    }
    changes
}

/// Returns how many members the changes add.
pub fn additions(changes: &[Change]) -> usize {
    changes.iter().filter(|change| matches!(change, Change::Added { .. })).count()
}

impl Roster {
    /// Returns the role of a user; `None` for a user who is not in the chat.
    pub fn role(&self, user_id: UserId) -> Option<Role> {
        self.member(user_id).map(|member| member.role)
    }

    /// Returns a member; `None` for a user who is not in the chat.
    pub fn member(&self, user_id: UserId) -> Option<&Member> {
        self.members.iter().find(|member| member.user_id == user_id)
    }

    /// Returns whether the user departed lately in a way for which `actor` does not add them. Users come back by themselves
    /// at any time.
    fn is_barred(&self, user_id: UserId, actor: UserId) -> bool {
        let is_by = |by| by == user_id || by == actor;
        user_id != actor && self.departures.iter().any(|of| of.user_id == user_id && is_by(of.by))
    }

    /// Returns whether no member is left, and this user was the last, by their own hand.
    fn was_emptied_by(&self, actor: UserId) -> bool {
        self.members.is_empty() && self.departures.iter().any(|of| (of.user_id, of.by) == (actor, actor))
    }

    /// Forgets the departures that do not count any more.
    pub fn forget_departures(&mut self, now: DateTime<Utc>) {
        self.departures.retain(|departure| departure.at > now - READDING_PAUSE);
    }

    /// Makes the changes and returns what is published of them.
    ///
    /// What members see of a change is also an entry in the chat's own log, so that it reaches all devices, and "nothing after
    /// the removal" has a meaning there. When a group is deleted, each member receives their own removal and no other: all of
    /// them together would be half a million for a thousand members.
    pub fn apply(
        &mut self,
        actor: UserId,
        changes: &[Change],
        at: DateTime<Utc>,
        mut next_key: impl FnMut() -> MessageKey,
    ) -> Vec<OutboxRecord> {
        let empties = changes.iter().filter(|change| matches!(change, Change::Removed { .. })).count();
        let is_deletion = empties == self.members.len() && self.kind != ChatKind::Direct;
        let mut records = Vec::new();
        for change in changes {
            let key = next_key();
            self.make(actor, change, at, key);
            let mut places = self.places();
            match *change {
                Change::Added { user_id, .. } | Change::RoleSet { user_id, .. } => {
                    let member = self.member(user_id).expect("decide() names members only");
                    records.extend(places.of_member(member, self.members.len()));
                }
                Change::Removed { user_id } => records.extend(places.without(user_id, self.members.len())),
                Change::TitleSet { .. } | Change::TopicSet { .. } | Change::HistorySet { .. } => {}
            }
            self.version = places.version;
            records.extend(change.entry().map(|entry| self.entry(actor, entry, key, is_deletion)));
        }
        records
    }

    /// Makes a change whose entry has this key.
    fn make(&mut self, actor: UserId, change: &Change, at: DateTime<Utc>, key: MessageKey) {
        match *change {
            Change::Added { user_id, role } => {
                let reads_from = match self.history {
                    HistoryAccess::FromEntry => Some(EntryId { sender: actor, key }),
                    HistoryAccess::All => None,
                };
                let added_by = Some(actor);
                self.members.push(Member { user_id, role, joined_at: at, reads_from, added_by });
            }
            Change::RoleSet { user_id, role } => {
                let member = self.members.iter_mut().find(|member| member.user_id == user_id);
                member.expect("decide() names members only").role = role;
            }
            Change::Removed { user_id } => {
                self.members.retain(|member| member.user_id != user_id);
                self.departures.push(Departure { user_id, by: actor, at });
            }
            Change::TitleSet { ref title } => self.title = Some(title.clone()),
            Change::TopicSet { ref topic } => self.topic.clone_from(topic),
            Change::HistorySet { history } => self.history = history,
        }
    }

    /// Returns what is published of a direct chat when the first block between its two users is made, and when the last one is
    /// lifted. Meanwhile no gateway has its members in `chat.events`, and so none delivers anything there, also while this
    /// service does not answer. The chat's own log says nothing: it would name the block to the blocked user.
    pub fn standing(&mut self, is_blocked: bool) -> Vec<OutboxRecord> {
        let (mut places, count) = (self.places(), self.members.len());
        let records = self.members.iter().flat_map(|member| match is_blocked {
            true => places.without(member.user_id, count),
            false => places.of_member(member, count),
        });
        let records = records.collect();
        self.version = places.version;
        records
    }

    fn places(&self) -> Places {
        Places { chat: self.chat_id, kind: self.kind, version: self.version }
    }

    fn entry(
        &self,
        actor: UserId,
        (kind, subject, body): (EntryKind, Option<UserId>, &str),
        key: MessageKey,
        subject_only: bool,
    ) -> OutboxRecord {
        let record = SendRecord {
            v: event::VERSION,
            chat: self.chat_id,
            sender: actor,
            device: DeviceId(Uuid::nil()),
            key,
            kind,
            body: body.to_owned(),
            subject,
            target_seq: None,
            mentions: Vec::new(),
            mentions_all: false,
            moderates: false,
            subject_only,
        };
        OutboxRecord {
            topic: Topic::MessageSend,
            key: self.chat_id.to_string(),
            payload: Some(serde_json::to_string(&record).expect("a record is plain data")),
        }
    }
}

impl Change {
    /// Returns the kind, the subject and the body of its entry in the chat's log.
    fn entry(&self) -> Option<(EntryKind, Option<UserId>, &str)> {
        match self {
            Self::Added { user_id, .. } => Some((EntryKind::MemberAdded, Some(*user_id), "")),
            Self::Removed { user_id } => Some((EntryKind::MemberRemoved, Some(*user_id), "")),
            Self::RoleSet { user_id, role } => Some((EntryKind::RoleChanged, Some(*user_id), role.as_str())),
            Self::TitleSet { title } => Some((EntryKind::TitleChanged, None, title)),
            Self::TopicSet { topic } => {
                Some((EntryKind::TopicChanged, None, topic.as_deref().unwrap_or_default()))
            }
            // It concerns those who are added, and they see it then.
            Self::HistorySet { .. } => None,
        }
    }
}

/// A record that is not yet published to the event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRecord {
    pub topic: Topic,
    pub key: String,
    /// `None` is a tombstone.
    pub payload: Option<String>,
}

/// Numbers what is published of the places that users have in a chat.
struct Places {
    chat: ChatId,
    kind: ChatKind,
    /// The number of the newest record.
    version: i64,
}

impl Places {
    /// Returns the record of a member of a chat that has so many.
    fn of_member(&mut self, member: &Member, count: usize) -> Vec<OutboxRecord> {
        let record = self.next(member.user_id, count);
        let from_entry = member.reads_from.is_some();
        vec![published(&MembershipRecord { role: Some(member.role), from_entry, ..record })]
    }

    /// Returns the record of a user who receives nothing there any more, and the tombstone behind it.
    fn without(&mut self, user: UserId, count: usize) -> Vec<OutboxRecord> {
        let record = published(&self.next(user, count));
        let tombstone = OutboxRecord { payload: None, ..record.clone() };
        vec![record, tombstone]
    }

    fn next(&mut self, user: UserId, count: usize) -> MembershipRecord {
        self.version += 1;
        MembershipRecord {
            v: event::VERSION,
            chat: self.chat,
            user,
            role: None,
            kind: Some(self.kind),
            version: self.version,
            members: u32::try_from(count).expect("members are bounded"),
            from_entry: false,
        }
    }
}

fn published(record: &MembershipRecord) -> OutboxRecord {
    OutboxRecord {
        topic: Topic::ChatEvents,
        key: MembershipRecord::key(record.chat, record.user),
        payload: Some(serde_json::to_string(record).expect("a record is plain data")),
    }
}

pub mod limits;
mod own;
#[cfg(test)]
mod tests;
