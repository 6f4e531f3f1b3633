//! Who may change what.

use contracts::{
    ChatId, UserId,
    event::{ChatKind, Role},
};

use super::{Change, Command, MAX_MEMBERS, Refusal, Roster};

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
