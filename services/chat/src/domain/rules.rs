//! Who may change what.

use std::collections::BTreeSet;

use contracts::{
    ChatId, UserId,
    event::{ChatKind, Role},
};

use super::{Change, Command, Excerpt, MAX_MEMBERS, Refusal, manage};

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
pub fn decide(excerpt: &Excerpt, actor: UserId, command: &Command) -> Result<Vec<Change>, Refusal> {
    let Some(actor_role) = excerpt.role(actor) else {
        // A deletion that is repeated has begun already.
        return match command {
            Command::Delete if excerpt.deleted_by == Some(actor) => Ok(Vec::new()),
            command => command.of_stranger(excerpt.chat_id, actor),
        };
    };
    match (excerpt.kind, command) {
        (ChatKind::Group | ChatKind::Channel, _) | (ChatKind::Direct, Command::Leave) => {}
        (ChatKind::Direct, Command::Remove { user_id }) if *user_id == actor => {}
        (ChatKind::Direct, Command::Update(update)) if update.is_of_ttl() => {
            return Ok(update.changes(excerpt));
        }
        (ChatKind::Direct, _) => return Err(Refusal::DirectIsFixed),
    }
    if excerpt.deleted_by.is_some() && matches!(command, Command::Put { .. } | Command::Update(_)) {
        return Err(Refusal::NotAMember(excerpt.chat_id));
    }
    match *command {
        Command::Put { user_id, role } => put(excerpt, (actor, actor_role), user_id, role),
        Command::Leave => Ok(leave(excerpt, actor, actor_role)),
        Command::Remove { user_id } if user_id == actor => Ok(leave(excerpt, actor, actor_role)),
        Command::Remove { user_id } => {
            let allowed = match (actor_role, excerpt.role(user_id)) {
                (Role::Owner, _) | (Role::Admin, Some(Role::Member) | None) => true,
                (Role::Admin, Some(Role::Owner | Role::Admin)) | (Role::Member, _) => false,
            };
            if !allowed {
                return Err(Refusal::RoleTooLow(actor_role));
            }
            Ok(excerpt.role(user_id).map(|_| Change::Removed { user_id }).into_iter().collect())
        }
        Command::Update(_) if actor_role == Role::Member => Err(Refusal::RoleTooLow(actor_role)),
        Command::Update(ref update) => {
            let changes = update.changes(excerpt);
            let is_owners = |change: &Change| matches!(change, Change::VisibilitySet { .. });
            if actor_role != Role::Owner && changes.iter().any(is_owners) {
                return Err(Refusal::RoleTooLow(actor_role));
            }
            Ok(changes)
        }
        Command::Delete if actor_role != Role::Owner => Err(Refusal::RoleTooLow(actor_role)),
        Command::Delete if excerpt.deleted_by.is_some() => Ok(Vec::new()),
        Command::Delete => Ok(vec![Change::DeletionBegun]),
    }
}

/// Decides what the next step of a deletion that has begun changes: these members go, in this order.
pub fn empty(excerpt: &Excerpt, next: &[UserId]) -> Vec<Change> {
    let next = next.iter().filter(|user_id| excerpt.role(**user_id).is_some());
    next.map(|user_id| Change::Removed { user_id: *user_id }).collect()
}

/// What becomes of users whom `actor` adds at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Additions {
    pub changes: Vec<Change>,
    /// Those whom the actor does not add now. All others are in the chat.
    pub unwanted: BTreeSet<UserId>,
}

/// Decides who becomes a plain member when `actor` adds all of these users: those who are in the chat stay as they are, and one who
/// cannot be added keeps out no other. It concerns all of them and the actor.
pub fn add(excerpt: &Excerpt, actor: UserId, users: &BTreeSet<UserId>) -> Result<Additions, Refusal> {
    manage(excerpt, actor)?;
    let absent = users.iter().copied().filter(|user_id| excerpt.role(*user_id).is_none());
    let (unwanted, wanted): (BTreeSet<_>, BTreeSet<_>) =
        absent.partition(|user_id| excerpt.is_barred(*user_id, actor));
    if wanted.len() > MAX_MEMBERS.saturating_sub(excerpt.member_count) {
        return Err(Refusal::Full);
    }
    let changes = wanted.into_iter().map(|user_id| Change::Added { user_id, role: Role::Member });
    Ok(Additions { changes: changes.collect(), unwanted })
}

/// Decides who comes back into the direct chat of `founder` and `other` when the founder opens it again. Empty: both are in
/// it. While there is a block between them, neither comes back.
pub fn reopen(
    excerpt: &Excerpt,
    founder: UserId,
    other: UserId,
    is_blocked: bool,
) -> Result<Vec<Change>, Refusal> {
    let absent = [founder, other].into_iter().filter(|user_id| excerpt.role(*user_id).is_none());
    let back = absent.map(|user_id| {
        if is_blocked {
            return Err(Refusal::Unwanted(other));
        }
        match excerpt.is_barred(user_id, founder) {
            true => Err(Refusal::Unwanted(user_id)),
            false => Ok(Change::Added { user_id, role: Role::Member }),
        }
    });
    back.collect()
}

fn put(
    excerpt: &Excerpt,
    (actor, actor_role): (UserId, Role),
    user_id: UserId,
    role: Role,
) -> Result<Vec<Change>, Refusal> {
    let current = excerpt.role(user_id);
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
    if current.is_none() && excerpt.is_barred(user_id, actor) {
        return Err(Refusal::Unwanted(user_id));
    }
    if current.is_none() && excerpt.member_count >= MAX_MEMBERS {
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
pub fn depart(excerpt: &Excerpt, user_id: UserId) -> Vec<Change> {
    excerpt.role(user_id).map(|role| leave(excerpt, user_id, role)).unwrap_or_default()
}

fn leave(excerpt: &Excerpt, actor: UserId, actor_role: Role) -> Vec<Change> {
    let mut changes = vec![Change::Removed { user_id: actor }];
    if actor_role == Role::Owner {
        let heir = excerpt.heir.filter(|heir| *heir != actor);
        changes.extend(heir.map(|user_id| Change::RoleSet { user_id, role: Role::Owner }));
    }
    changes
}
