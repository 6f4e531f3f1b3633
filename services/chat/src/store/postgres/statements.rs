//! Statements within a transaction, and the rows that come of them.

use chrono::{DateTime, Utc};
use contracts::{
    ChatId, MessageKey, UserId,
    api::HistoryAccess,
    event::{ChatKind, Role},
};
use kit::{catalog::Topic, idempotency::IdempotencyKey};
use sqlx::{FromRow, PgConnection, PgPool, postgres::PgRow};
use uuid::Uuid;

use crate::{
    domain::{
        self, Access, Change, Chat, Departure, EntryId, Founding, Limits, Member, Membership, NewChat,
        OutboxRecord, OwnState, OwnUpdate, READDING_PAUSE, Refusal, Roster,
        limits::{self, CreatedChats, Memberships},
    },
    store::{Created, Publication, StoreError},
};

/// Departures that are removed with each new one: more than one, so that they get fewer.
const FORGOTTEN_DEPARTURES: i64 = 100;

/// The PostgreSQL channel that announces new rows of the outbox.
pub const WAKE_CHANNEL: &str = "chat_outbox";

/// The columns of [`ChatRow`], of `members` joined with `chats`.
macro_rules! chat_columns {
    () => {
        "chat_id, kind, title, topic, history, role, own_version, muted_until, is_archived, is_favourite, \
         member_count, created_at"
    };
}

pub(super) use chat_columns;

/// The columns of [`PlaceRow`], behind those of [`ChatRow`].
macro_rules! place_columns {
    () => {
        ", joined_at, entry_sender_id, entry_key, low_user_id, high_user_id, version,
           EXISTS (SELECT FROM blocks
                   WHERE (blocker_id = low_user_id AND blocked_id = high_user_id)
                      OR (blocker_id = high_user_id AND blocked_id = low_user_id)) AS is_closed"
    };
}

kit::row! {
    pub(super) struct ChatRow {
        chat_id: Uuid,
        kind: String,
        title: Option<String>,
        topic: Option<String>,
        history: String,
        role: String,
        own_version: i64,
        muted_until: Option<DateTime<Utc>>,
        is_archived: bool,
        is_favourite: bool,
        member_count: i32,
        created_at: DateTime<Utc>,
    }
}

/// A chat, with the place that the member has in it.
struct MembershipRow {
    chat: ChatRow,
    place: PlaceRow,
}

impl FromRow<'_, PgRow> for MembershipRow {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self { chat: ChatRow::from_row(row)?, place: PlaceRow::from_row(row)? })
    }
}

kit::row! {
    struct PlaceRow {
        joined_at: DateTime<Utc>,
        entry_sender_id: Option<Uuid>,
        entry_key: Option<Uuid>,
        low_user_id: Option<Uuid>,
        high_user_id: Option<Uuid>,
        version: i64,
        is_closed: bool,
    }
}

kit::row! {
    struct LockedRow {
        kind: String,
        title: Option<String>,
        topic: Option<String>,
        history: String,
        version: i64,
    }
}

kit::row! {
    struct OwnRow {
        own_version: i64,
        muted_until: Option<DateTime<Utc>>,
        is_archived: bool,
        is_favourite: bool,
    }
}

kit::row! {
    pub(super) struct FoundingRow {
        chat_id: Uuid,
        founding_digest: Option<Vec<u8>>,
    }
}

kit::row! {
    pub(super) struct MemberRow {
        user_id: Uuid,
        role: String,
        joined_at: DateTime<Utc>,
        entry_sender_id: Option<Uuid>,
        entry_key: Option<Uuid>,
        added_by_user_id: Option<Uuid>,
    }
}

kit::row! {
    struct MembershipCountsRow {
        all_memberships: i64,
        added: i64,
    }
}

kit::row! {
    struct CreatedChatsRow {
        with_members: i64,
        lately: i64,
        first_lately: Option<DateTime<Utc>>,
    }
}

kit::row! {
    struct DepartureRow {
        user_id: Uuid,
        by_user_id: Uuid,
        departed_at: DateTime<Utc>,
    }
}

kit::row! {
    pub(super) struct SeatRow {
        kind: Option<String>,
        role: Option<String>,
        member_count: Option<i32>,
        is_blocked: Option<bool>,
    }
}

kit::row! {
    pub(super) struct OutboxRow {
        topic: String,
        record_key: String,
        payload: Option<String>,
    }
}

/// Returns the id of the newest record about a chat that is not yet published. Every record key begins with the chat.
pub(super) async fn newest_record(
    connection: &mut PgConnection,
    chat_id: ChatId,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT max(outbox_id) FROM outbox WHERE left(record_key, 36) = $1")
        .bind(chat_id.to_string())
        .fetch_one(connection)
        .await
}

/// Returns the direct chat that the pair has, with both in it, or the group that the founder has created with the same key.
/// `is_blocked` says whether the pair has a block between them.
pub(super) async fn created_before(
    connection: &mut PgConnection,
    limits: &Limits,
    new: &NewChat,
    is_blocked: bool,
) -> Result<Option<Created>, StoreError> {
    let failed = |source| StoreError::Create { chat_id: new.chat_id, source };
    let Some(FoundingRow { chat_id, founding_digest }) = founded(connection, new).await.map_err(failed)?
    else {
        return Ok(None);
    };
    if founding_digest.is_some_and(|digest| digest != new.digest()) {
        return Err(Refusal::KeyReused.into());
    }
    let chat_id = ChatId(chat_id);
    let mut publication = Publication { chat_id, newest: None };
    if let Founding::Direct { other } = new.founding {
        let (founder, at) = (new.founder, new.created_at);
        let roster = locked_roster(connection, chat_id, at).await.map_err(failed)?;
        let mut roster = roster.ok_or_else(|| failed(sqlx::Error::RowNotFound))?;
        let back = domain::reopen(&roster, founder, other, is_blocked)?;
        make(connection, limits, &mut roster, (founder, &back), at).await.map_err(failed)??;
        // The records of a chat that no one has ever left need not be waited for.
        if roster.members.iter().any(|member| member.reads_from.is_some()) {
            publication.newest = newest_record(connection, chat_id).await.map_err(failed)?;
        }
    }
    let chat = chat(connection, chat_id, new.founder).await.map_err(failed)?;
    Ok(Some(Created { chat: chat.ok_or(Refusal::NotAMember(chat_id))?, fresh: false, publication }))
}

pub(super) async fn founded(
    connection: &mut PgConnection,
    new: &NewChat,
) -> Result<Option<FoundingRow>, sqlx::Error> {
    let (low, high) = new.pair().unzip();
    sqlx::query_as(
        "SELECT chat_id, founding_digest FROM chats
         WHERE (low_user_id = $1 AND high_user_id = $2) OR (founder_id = $3 AND idempotency_key = $4)",
    )
    .bind(low.map(|user| user.0))
    .bind(high.map(|user| user.0))
    .bind(new.founder.0)
    .bind(new.group_key().map(IdempotencyKey::as_str))
    .fetch_optional(connection)
    .await
}

/// Makes changes of a chat that is locked, and publishes them, unless they add more members than the user may.
pub(super) async fn make(
    connection: &mut PgConnection,
    limits: &Limits,
    roster: &mut Roster,
    (actor, changes): (UserId, &[Change]),
    at: DateTime<Utc>,
) -> Result<Result<(), Refusal>, sqlx::Error> {
    if changes.is_empty() {
        return Ok(Ok(()));
    }
    let more = domain::additions(changes);
    if more > 0
        && let Err(refusal) = limits.check_members(memberships(connection, actor).await?, more)
    {
        return Ok(Err(refusal));
    }
    let records = roster.apply(actor, changes, at, MessageKey::generate);
    // At once, whatever their number: a group of a thousand may be deleted. No change of one command depends on who was removed.
    remove(connection, roster, changes).await?;
    for change in changes {
        write(connection, roster, change).await?;
    }
    publish(connection, roster, &records).await.map(Ok)
}

/// Writes what a change left of a chat, and the records about it.
pub(super) async fn publish(
    connection: &mut PgConnection,
    roster: &Roster,
    records: &[OutboxRecord],
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE chats SET member_count = $2, version = $3 WHERE chat_id = $1")
        .bind(roster.chat_id.0)
        .bind(i32::try_from(roster.members.len()).expect("members are bounded"))
        .bind(roster.version)
        .execute(&mut *connection)
        .await?;
    enqueue(connection, records).await
}

/// Returns how many memberships there are, and how many of them a user added.
pub(super) async fn memberships(
    connection: &mut PgConnection,
    user_id: UserId,
) -> Result<Memberships, sqlx::Error> {
    let MembershipCountsRow { all_memberships, added } = sqlx::query_as(
        "SELECT coalesce(sum(memberships) FILTER (WHERE added_by_user_id = $2), 0)::BIGINT AS all_memberships,
                coalesce(sum(memberships) FILTER (WHERE added_by_user_id = $1), 0)::BIGINT AS added
         FROM membership_counts WHERE added_by_user_id IN ($1, $2)",
    )
    .bind(user_id.0)
    .bind(Uuid::nil())
    .fetch_one(connection)
    .await?;
    Ok(Memberships { all: count(all_memberships), added: count(added) })
}

/// Returns the memberships of a user: all of them, or the one in a chat.
pub(super) async fn memberships_of(
    pool: &PgPool,
    user_id: UserId,
    chat_id: Option<ChatId>,
) -> Result<Vec<Membership>, sqlx::Error> {
    const ALL: &str = concat!(
        "SELECT ",
        chat_columns!(),
        place_columns!(),
        " FROM members JOIN chats USING (chat_id) WHERE user_id = $1"
    );
    // A text of its own: one for both would be planned for all.
    const ONE: &str = concat!(
        "SELECT ",
        chat_columns!(),
        place_columns!(),
        " FROM members JOIN chats USING (chat_id) WHERE user_id = $1 AND chat_id = $2"
    );
    let query = match chat_id {
        None => sqlx::query_as(ALL).bind(user_id.0),
        Some(chat_id) => sqlx::query_as(ONE).bind(user_id.0).bind(chat_id.0),
    };
    let rows: Vec<MembershipRow> = query.fetch_all(pool).await?;
    rows.into_iter().map(|row| row.of(user_id)).collect()
}

/// Returns how many chats a user has created.
pub(super) async fn created_chats(
    connection: &mut PgConnection,
    founder: UserId,
    now: DateTime<Utc>,
) -> Result<CreatedChats, sqlx::Error> {
    let CreatedChatsRow { with_members, lately, first_lately } = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE member_count > 0) AS with_members,
                count(*) FILTER (WHERE created_at > $2) AS lately,
                min(created_at) FILTER (WHERE created_at > $2) AS first_lately
         FROM chats WHERE founder_id = $1",
    )
    .bind(founder.0)
    .bind(limits::lately(now))
    .fetch_one(connection)
    .await?;
    Ok(CreatedChats { with_members: count(with_members), lately: count(lately), first_lately })
}

fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}

pub(super) async fn chat(
    connection: &mut PgConnection,
    chat_id: ChatId,
    member: UserId,
) -> Result<Option<Chat>, sqlx::Error> {
    let row: Option<ChatRow> = sqlx::query_as(concat!(
        "SELECT ",
        chat_columns!(),
        " FROM members JOIN chats USING (chat_id) WHERE chat_id = $1 AND user_id = $2"
    ))
    .bind(chat_id.0)
    .bind(member.0)
    .fetch_optional(connection)
    .await?;
    row.map(Chat::try_from).transpose()
}

/// Changes how a member has a chat. Changes at the same time happen one after the other.
pub(super) async fn update_own(
    connection: &mut PgConnection,
    chat_id: ChatId,
    member: UserId,
    update: &OwnUpdate,
) -> Result<Option<OwnState>, sqlx::Error> {
    let row: Option<OwnRow> = sqlx::query_as(
        "SELECT own_version, muted_until, is_archived, is_favourite FROM members
         WHERE chat_id = $1 AND user_id = $2 FOR UPDATE",
    )
    .bind(chat_id.0)
    .bind(member.0)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(OwnRow { own_version: version, muted_until, is_archived, is_favourite }) = row else {
        return Ok(None);
    };
    let own = OwnState { version, muted_until, is_archived, is_favourite }.after(update);
    if own.version != version {
        sqlx::query(
            "UPDATE members SET own_version = $3, muted_until = $4, is_archived = $5, is_favourite = $6
             WHERE chat_id = $1 AND user_id = $2",
        )
        .bind(chat_id.0)
        .bind(member.0)
        .bind(own.version)
        .bind(own.muted_until)
        .bind(own.is_archived)
        .bind(own.is_favourite)
        .execute(connection)
        .await?;
    }
    Ok(Some(own))
}

/// Reads a chat for a change. The lock on its row puts the changes of the chat, and so its outbox ids, in one order.
pub(super) async fn locked_roster(
    connection: &mut PgConnection,
    chat_id: ChatId,
    now: DateTime<Utc>,
) -> Result<Option<Roster>, sqlx::Error> {
    let row: Option<LockedRow> = sqlx::query_as(
        "SELECT kind, title, topic, history, version FROM chats WHERE chat_id = $1 FOR UPDATE",
    )
    .bind(chat_id.0)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(LockedRow { kind, title, topic, history, version }) = row else { return Ok(None) };
    let (kind, history) = (kind_of(&kind)?, history_of(&history)?);
    let members = members(connection, chat_id).await?;
    let departures = departures(connection, chat_id, now).await?;
    Ok(Some(Roster { chat_id, kind, title, topic, history, version, members, departures }))
}

/// Returns the departures from a chat that still count.
async fn departures(
    connection: &mut PgConnection,
    chat_id: ChatId,
    now: DateTime<Utc>,
) -> Result<Vec<Departure>, sqlx::Error> {
    let rows: Vec<DepartureRow> = sqlx::query_as(
        "SELECT user_id, by_user_id, departed_at FROM departures WHERE chat_id = $1 AND departed_at > $2",
    )
    .bind(chat_id.0)
    .bind(now - READDING_PAUSE)
    .fetch_all(connection)
    .await?;
    let departure = |row: DepartureRow| Departure {
        user_id: UserId(row.user_id),
        by: UserId(row.by_user_id),
        at: row.departed_at,
    };
    Ok(rows.into_iter().map(departure).collect())
}

pub(super) async fn members(
    connection: &mut PgConnection,
    chat_id: ChatId,
) -> Result<Vec<Member>, sqlx::Error> {
    let rows: Vec<MemberRow> = sqlx::query_as(
        "SELECT user_id, role, joined_at, entry_sender_id, entry_key, added_by_user_id
         FROM members WHERE chat_id = $1 ORDER BY user_id",
    )
    .bind(chat_id.0)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(Member::try_from).collect()
}

pub(super) async fn insert_members(
    connection: &mut PgConnection,
    chat_id: ChatId,
    members: &[Member],
) -> Result<(), sqlx::Error> {
    let users: Vec<_> = members.iter().map(|member| member.user_id.0).collect();
    let roles: Vec<_> = members.iter().map(|member| member.role.as_str()).collect();
    let joined: Vec<_> = members.iter().map(|member| member.joined_at).collect();
    let entries = members.iter().map(|member| member.reads_from);
    let hands: Vec<_> = members.iter().map(|member| member.added_by.map(|user| user.0)).collect();
    let (senders, keys): (Vec<_>, Vec<_>) =
        entries.map(|entry| entry.map(|EntryId { sender, key }| (sender.0, key.0)).unzip()).unzip();
    sqlx::query(
        "INSERT INTO members (chat_id, user_id, role, joined_at, entry_sender_id, entry_key, added_by_user_id)
         SELECT $1, user_id, role, joined_at, entry_sender_id, entry_key, added_by_user_id
         FROM unnest($2::UUID[], $3::TEXT[], $4::TIMESTAMPTZ[], $5::UUID[], $6::UUID[], $7::UUID[])
              AS new (user_id, role, joined_at, entry_sender_id, entry_key, added_by_user_id)",
    )
    .bind(chat_id.0)
    .bind(users)
    .bind(roles)
    .bind(joined)
    .bind(senders)
    .bind(keys)
    .bind(hands)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes a change that the roster has.
async fn write(connection: &mut PgConnection, roster: &Roster, change: &Change) -> Result<(), sqlx::Error> {
    let chat_id = roster.chat_id;
    match *change {
        Change::Added { user_id, .. } => {
            let added: Vec<_> = roster.member(user_id).cloned().into_iter().collect();
            insert_members(connection, chat_id, &added).await
        }
        // See `remove`.
        Change::Removed { .. } => Ok(()),
        Change::TitleSet { ref title } => {
            sqlx::query("UPDATE chats SET title = $2 WHERE chat_id = $1")
                .bind(chat_id.0)
                .bind(title)
                .execute(connection)
                .await?;
            Ok(())
        }
        Change::TopicSet { ref topic } => {
            sqlx::query("UPDATE chats SET topic = $2 WHERE chat_id = $1")
                .bind(chat_id.0)
                .bind(topic)
                .execute(connection)
                .await?;
            Ok(())
        }
        Change::HistorySet { history } => {
            sqlx::query("UPDATE chats SET history = $2 WHERE chat_id = $1")
                .bind(chat_id.0)
                .bind(history_text(history))
                .execute(connection)
                .await?;
            Ok(())
        }
        Change::RoleSet { user_id, role } => {
            sqlx::query("UPDATE members SET role = $3 WHERE chat_id = $1 AND user_id = $2")
                .bind(chat_id.0)
                .bind(user_id.0)
                .bind(role.as_str())
                .execute(connection)
                .await?;
            Ok(())
        }
    }
}

/// Removes the members whom the changes remove, writes their departures, and removes some that do not count any more, of
/// whichever chats.
async fn remove(
    connection: &mut PgConnection,
    roster: &Roster,
    changes: &[Change],
) -> Result<(), sqlx::Error> {
    let removed = changes.iter().filter_map(|change| match change {
        Change::Removed { user_id } => Some(*user_id),
        _ => None,
    });
    let departed = removed
        .filter_map(|user_id| roster.departures.iter().rfind(|departure| departure.user_id == user_id));
    let departed: Vec<&Departure> = departed.collect();
    let Some(last) = departed.last() else { return Ok(()) };
    let users: Vec<_> = departed.iter().map(|departure| departure.user_id.0).collect();
    sqlx::query("DELETE FROM members WHERE chat_id = $1 AND user_id = ANY ($2)")
        .bind(roster.chat_id.0)
        .bind(&users)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "INSERT INTO departures (chat_id, user_id, by_user_id, departed_at)
         SELECT $1, user_id, $3, $4 FROM unnest($2::UUID[]) AS user_id
         ON CONFLICT (chat_id, user_id, by_user_id) DO UPDATE SET departed_at = EXCLUDED.departed_at",
    )
    .bind(roster.chat_id.0)
    .bind(&users)
    .bind(last.by.0)
    .bind(last.at)
    .execute(&mut *connection)
    .await?;
    // What another transaction writes is left to it: two never wait for each other.
    sqlx::query(
        "DELETE FROM departures WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM departures WHERE departed_at <= $1 ORDER BY departed_at LIMIT $2 FOR UPDATE SKIP LOCKED
         ))",
    )
    .bind(last.at - READDING_PAUSE)
    .bind(FORGOTTEN_DEPARTURES)
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds the records to the outbox in their order and wakes its publisher when the transaction commits.
pub(super) async fn enqueue(
    connection: &mut PgConnection,
    records: &[OutboxRecord],
) -> Result<(), sqlx::Error> {
    let topics: Vec<_> = records.iter().map(|record| record.topic.name).collect();
    let keys: Vec<_> = records.iter().map(|record| record.key.as_str()).collect();
    let payloads: Vec<_> = records.iter().map(|record| record.payload.as_deref()).collect();
    sqlx::query(
        "INSERT INTO outbox (topic, record_key, payload)
         SELECT topic, record_key, payload
         FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[])
              WITH ORDINALITY AS new (topic, record_key, payload, place)
         ORDER BY place",
    )
    .bind(topics)
    .bind(keys)
    .bind(payloads)
    .execute(&mut *connection)
    .await?;
    sqlx::query("SELECT pg_notify($1, '')").bind(WAKE_CHANNEL).execute(connection).await?;
    Ok(())
}

impl TryFrom<ChatRow> for Chat {
    type Error = sqlx::Error;

    fn try_from(row: ChatRow) -> Result<Self, Self::Error> {
        Ok(Self {
            chat_id: ChatId(row.chat_id),
            kind: kind_of(&row.kind)?,
            title: row.title,
            topic: row.topic,
            history: history_of(&row.history)?,
            role: role_of(&row.role)?,
            own: OwnState {
                version: row.own_version,
                muted_until: row.muted_until,
                is_archived: row.is_archived,
                is_favourite: row.is_favourite,
            },
            member_count: row.member_count.into(),
            created_at: row.created_at,
        })
    }
}

impl MembershipRow {
    /// Returns the membership of the user whose row it is.
    fn of(self, user_id: UserId) -> Result<Membership, sqlx::Error> {
        let Self { chat, place } = self;
        let pair = [place.low_user_id, place.high_user_id].into_iter().flatten().map(UserId);
        Ok(Membership {
            chat: chat.try_into()?,
            other: pair.into_iter().find(|user| *user != user_id),
            joined_at: place.joined_at,
            reads_from: entry_id(place.entry_sender_id, place.entry_key),
            version: place.version,
            is_closed: place.is_closed,
        })
    }
}

fn entry_id(sender: Option<Uuid>, key: Option<Uuid>) -> Option<EntryId> {
    Some(EntryId { sender: UserId(sender?), key: MessageKey(key?) })
}

impl TryFrom<SeatRow> for Access {
    type Error = sqlx::Error;

    fn try_from(row: SeatRow) -> Result<Self, Self::Error> {
        let (Some(kind), Some(role), Some(member_count)) = (row.kind, row.role, row.member_count) else {
            return Ok(Self::None);
        };
        let is_blocked = row.is_blocked.unwrap_or(false);
        let member_count = usize::try_from(member_count).unwrap_or(0);
        Ok(Self::of_member(kind_of(&kind)?, role_of(&role)?, member_count, is_blocked))
    }
}

impl TryFrom<MemberRow> for Member {
    type Error = sqlx::Error;

    fn try_from(row: MemberRow) -> Result<Self, Self::Error> {
        Ok(Self {
            user_id: UserId(row.user_id),
            role: role_of(&row.role)?,
            joined_at: row.joined_at,
            reads_from: entry_id(row.entry_sender_id, row.entry_key),
            added_by: row.added_by_user_id.map(UserId),
        })
    }
}

impl TryFrom<OutboxRow> for OutboxRecord {
    type Error = sqlx::Error;

    fn try_from(row: OutboxRow) -> Result<Self, Self::Error> {
        let topic = Topic::parse(&row.topic).ok_or_else(|| unknown("topic", &row.topic))?;
        Ok(Self { topic, key: row.record_key, payload: row.payload })
    }
}

fn kind_of(text: &str) -> Result<ChatKind, sqlx::Error> {
    ChatKind::parse(text).ok_or_else(|| unknown("kind", text))
}

pub(super) const fn history_text(history: HistoryAccess) -> &'static str {
    match history {
        HistoryAccess::FromEntry => "from_entry",
        HistoryAccess::All => "all",
    }
}

fn history_of(text: &str) -> Result<HistoryAccess, sqlx::Error> {
    let known = [HistoryAccess::FromEntry, HistoryAccess::All].into_iter();
    let known = known.into_iter().find(|history| history_text(*history) == text);
    known.ok_or_else(|| unknown("history", text))
}

fn role_of(text: &str) -> Result<Role, sqlx::Error> {
    Role::parse(text).ok_or_else(|| unknown("role", text))
}

fn unknown(column: &str, text: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("column {column} has the unknown value {text}").into())
}
