//! REST: searches in messages and for names, and how far the index has come. gRPC: the index, for administrators.
#![expect(unused_qualifications, reason = "in what utoipa::path makes of `params`")]

mod grpc;
mod names;
mod problems;
mod searches;

use std::{collections::HashMap, sync::Arc, time::Instant};

use axum::extract::{FromRef, State};
use contracts::{
    ChatId, UserId,
    api::{FoundFile, FoundMessage, FoundMessages, Page, Problem, SearchStatus},
    attachment::Attachment,
    convert::UnreadableField,
    rpc::{
        EntriesRequest, EntryPlace, ListMembershipsRequest, Membership,
        chat_service_client::ChatServiceClient, message_service_client::MessageServiceClient,
        user_service_client::UserServiceClient,
    },
    wire::Message,
};
use kit::{
    auth::Caller,
    clock::now_ms,
    docs::{self, CallerProblems, OpenApiRouter, routes},
    error::{ApiError, InvalidField},
    extract::{Json, Query},
    page::PageSizes,
    rpc::InternalChannel,
    traces::current,
};
use serde::Deserialize;
use utoipa::IntoParams;

pub use self::{grpc::IndexRpc, searches::Searches};
use self::{problems::SearchProblems, searches::SearchingCaller};
use crate::{
    domain::{Analyzer, Document, EntryName, Place, Query as Words, Search, Seats, Text, excerpts, parse},
    error::Error,
    events::Standing,
    metrics::Metrics,
    store::Generations,
};

const PAGE_SIZES: PageSizes = PageSizes { default: 20, max: 50 };

/// What requests share.
#[derive(Clone)]
pub struct AppState {
    pub generations: Arc<dyn Generations>,
    pub analyzer: Arc<Analyzer>,
    pub chats: ChatServiceClient<InternalChannel>,
    pub messages: MessageServiceClient<InternalChannel>,
    pub users: UserServiceClient<InternalChannel>,
    pub standing: Arc<Standing>,
    pub metrics: Metrics,
    pub searches: Searches,
}

impl FromRef<AppState> for Searches {
    fn from_ref(state: &AppState) -> Self {
        state.searches.clone()
    }
}

/// Returns the REST API with its description.
pub fn routes(state: AppState) -> OpenApiRouter {
    docs::router()
        .routes(routes!(search_messages))
        .routes(routes!(names::search_chats))
        .routes(routes!(names::search_users))
        .routes(routes!(get_status))
        .with_state(state)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SearchQuery {
    /// At most 256 characters: up to 32 words, each in any of its forms in Russian and English, `"phrases"` that stand so, and up to two
    /// beginnings of words, of two letters at least, with a `*` behind them. A character of a script without spaces between words is a word. All
    /// of them are in the text of a message that is found, or in the names of its files. `has:file`, `has:image`, `has:video`, `has:audio` and `has:link` are what a
    /// message has besides, and need no words. Case, width, accents and punctuation do not count. A `*` elsewhere and another `has:` are refused, and there
    /// are no regular expressions. The schema allows some queries.
    #[param(
        max_length = 256,
        pattern = r#"^[0-9A-Za-z][^*:"\s\u0000-\u001f\u007f-\u009f]{0,30}( [0-9A-Za-z][^*:"\s\u0000-\u001f\u007f-\u009f]{0,30}){0,7}$"#
    )]
    q: String,
    /// In this chat alone, of which the caller is a member.
    #[param(inline)]
    chat: Option<ChatId>,
    /// The message of `chat` with this seq and the replies to it. Without `chat` it has no effect.
    #[param(minimum = 1)]
    thread: Option<i64>,
    /// Of this sender alone.
    #[param(inline)]
    sender: Option<UserId>,
    /// Sent at this time or later, in milliseconds since the epoch.
    #[param(minimum = 0)]
    from_ms: Option<i64>,
    /// Sent before this time, in milliseconds since the epoch.
    #[param(minimum = 0)]
    to_ms: Option<i64>,
    /// Most messages in the response.
    #[param(minimum = 1, maximum = 50, default = 20)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    #[param(pattern = "^[0-9]{1,15}\\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\\.[0-9]{1,15}$")]
    cursor: Option<String>,
}

/// Finds messages by their words and the names of their files, the newest first, in the chats of the caller.
///
/// What is found is what the caller reads at this moment: texts of chats that they are in, from where their history begins, as they are after
/// edits, and none that was deleted or has disappeared. A message is found some seconds after it was sent, likewise an edit. A page may have
/// fewer messages than `limit`, or none, and a `next_cursor`: what changed since it was indexed is left out.
#[utoipa::path(
    get,
    path = "/api/search/messages",
    tag = "search",
    security(("access_token" = [])),
    params(SearchQuery),
    responses(
        (status = OK, description = "One page", body = FoundMessages),
        (status = FORBIDDEN, description = "not_a_member: of the chat that is named", body = Problem,
            content_type = "application/problem+json"),
        SearchProblems,
    )
)]
async fn search_messages(
    State(state): State<AppState>,
    SearchingCaller(caller): SearchingCaller,
    Query(query): Query<SearchQuery>,
) -> Result<Json<FoundMessages>, ApiError> {
    let began = Instant::now();
    let found = state.search(caller.user_id, &query).await;
    state.metrics.search.observe(began.elapsed(), current());
    state.metrics.count_search(&found);
    Ok(Json(found?))
}

/// Returns how far the index has come.
#[utoipa::path(
    get,
    path = "/api/search/status",
    operation_id = "get_search_status",
    tag = "search",
    security(("access_token" = [])),
    responses((status = OK, description = "The state", body = SearchStatus), CallerProblems)
)]
async fn get_status(State(state): State<AppState>, _: Caller) -> Json<SearchStatus> {
    Json(SearchStatus {
        complete: state.is_complete(),
        percent: state.standing.percent(),
        rebuild_percent: state.standing.next().map(|(_, percent)| percent),
    })
}

impl AppState {
    /// Returns whether all that can be searched for is found. An index of an older form lacks something of each message.
    fn is_complete(&self) -> bool {
        self.standing.is_complete() && !self.generations.is_outdated()
    }

    async fn search(&self, user: UserId, query: &SearchQuery) -> Result<FoundMessages, Error> {
        let size = PAGE_SIZES.of(query.limit)?;
        let words = parse(&self.analyzer, &query.q)?;
        let after = query.cursor.as_deref().map(str::parse::<Place>).transpose()?;
        for (field, value, least) in
            [("thread", query.thread, 1), ("from_ms", query.from_ms, 0), ("to_ms", query.to_ms, 0)]
        {
            if value.is_some_and(|value| value < least) {
                return Err(InvalidField { field, problem: format!("must be {least} or more") }.into());
            }
        }
        // Before the seats: what is complete then misses none of them.
        let complete = self.is_complete();
        let (seats, begun) = self.seats(user, query.chat).await?;
        let search = Search {
            reader: user,
            query: words.clone(),
            seats,
            begun,
            chat: query.chat,
            thread: query.thread,
            sender: query.sender,
            from_ms: query.from_ms,
            to_ms: query.to_ms,
            after,
            limit: size.with_next(),
            now_ms: now_ms(),
        };
        let places = self.generations.served().search(search).await?;
        let Page { items, next_cursor }: Page<Place> = size.page(places, Place::to_string);
        let items = self.shown(items, words).await?;
        Ok(FoundMessages { items, next_cursor, complete })
    }

    /// Returns the chats that a user is in, or one of them: those that they read from a seq on, and those that they read from an entry
    /// on.
    async fn seats(
        &self,
        user: UserId,
        chat: Option<ChatId>,
    ) -> Result<(Seats, Vec<(ChatId, EntryName)>), Error> {
        let request = ListMembershipsRequest {
            user_id: user.to_string(),
            chat_ids: chat.iter().map(ChatId::to_string).collect(),
            seats_only: chat.is_none(),
        };
        let listed = self.chats.clone().list_memberships(request).await;
        let listed = listed.map_err(|status| Error::Chats(Box::new(status)))?.into_inner();
        if let Some(chat) = chat.filter(|_| listed.memberships.is_empty()) {
            return Err(Error::NotAMember(chat));
        }
        let mut seats = HashMap::with_capacity(listed.memberships.len());
        let mut begun = Vec::new();
        for Membership { chat_id, reads_from, .. } in listed.memberships {
            let chat: ChatId = chat_id.parse().map_err(|_| UnreadableField("chat_id"))?;
            let Some(entry) = reads_from else {
                seats.insert(chat, 1);
                continue;
            };
            let sender = entry.sender_id.parse().map_err(|_| UnreadableField("sender_id"))?;
            let key = entry.key.parse().map_err(|_| UnreadableField("key"))?;
            begun.push((chat, EntryName { sender, key }));
        }
        Ok((seats, begun))
    }

    /// Returns what was found as it is at this moment. The index may be behind: what was deleted, has disappeared, or does not have all of
    /// the query any more is left out.
    async fn shown(&self, places: Vec<Place>, words: Words) -> Result<Vec<FoundMessage>, Error> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let wanted =
            places.iter().map(|Place { chat, seq, .. }| EntryPlace { chat_id: chat.to_string(), seq: *seq });
        let read = self.messages.clone().entries(EntriesRequest { places: wanted.collect() }).await;
        let read = read.map_err(|status| Error::Messages(Box::new(status)))?.into_inner();
        let messages = read.messages.into_iter().map(Message::try_from).collect::<Result<Vec<_>, _>>()?;
        let (analyzer, now_ms) = (self.analyzer.clone(), now_ms());
        // Long texts keep a core busy for a while.
        let shown = tokio::task::spawn_blocking(move || {
            let texts = messages.into_iter().filter_map(|message| readable(message, now_ms));
            let mut texts: HashMap<_, _> =
                texts.map(|(text, files)| ((text.chat, text.seq), (text, files))).collect();
            let texts = places.into_iter().filter_map(|Place { chat, seq, .. }| texts.remove(&(chat, seq)));
            texts.filter_map(|(text, files)| found(&analyzer, text, files, &words)).collect()
        });
        shown.await.map_err(|_| Error::Cancelled)
    }
}

/// Returns the text of a message that can be read now, and its files.
fn readable(mut message: Message, now_ms: i64) -> Option<(Text, Vec<Attachment>)> {
    message.expire(now_ms);
    let files = message.attachments.clone();
    let Some(Document::Text(text)) = Document::of_stored(message) else { return None };
    (!text.deleted).then_some((text, files))
}

/// Returns what is shown of a message that has all of the query.
fn found(analyzer: &Analyzer, text: Text, files: Vec<Attachment>, query: &Words) -> Option<FoundMessage> {
    if !query.has.iter().all(|has| has.is_in(&text)) {
        return None;
    }
    // The body is the first of them, and the names of the files follow.
    let mut excerpts = excerpts(analyzer, &text.worded(), &query.terms)?.into_iter();
    let excerpt = excerpts.next()?;
    let file = |(file, name): (Attachment, _)| FoundFile {
        file: file.file,
        name,
        media_type: file.media_type,
        size: file.size,
    };
    Some(FoundMessage {
        excerpt,
        files: files.into_iter().zip(excerpts).map(file).collect(),
        chat_id: text.chat,
        seq: text.seq,
        sender: text.sender,
        sent_at_ms: text.sent_at_ms,
        reply_to: text.reply_to,
        edited: text.body_seq != text.seq,
    })
}
