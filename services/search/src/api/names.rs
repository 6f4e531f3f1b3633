//! Searches for chats and users by their names. There is no index of names here: the services that own them are queried.

use std::{collections::HashMap, time::Duration};

use axum::extract::State;
use contracts::{
    ChatId, UserId,
    api::{FoundChat, FoundChats, FoundUser, FoundUsers},
    convert::UnreadableField,
    event::ChatKind,
    rpc::{FindChatsRequest, FindUsersRequest, NamedChat, User},
};
use kit::{
    error::ApiError,
    extract::{Json, Query},
    page::PageSizes,
    rpc::within,
    text::NameQuery,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{AppState, problems::SearchProblems, searches::SearchingCaller};
use crate::error::Error;

const SIZES: PageSizes = PageSizes { default: 20, max: 50 };
/// Names are searched for while they are typed: an answer that comes later is of no use.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct NameParameters {
    /// 1 to 8 words in at most 64 characters. Each of them begins a word of the name, in any order, case and width. Spaces and the marks of ASCII divide
    /// words. The schema allows some queries.
    #[param(max_length = 64, pattern = "^[0-9A-Za-z]{1,15}([ .][0-9A-Za-z]{1,15}){0,3}$")]
    q: String,
    /// Most items in the response.
    #[param(minimum = 1, maximum = 50, default = 20)]
    limit: Option<i64>,
}

/// What is searched for, and how many of it.
struct Wanted {
    q: String,
    limit: usize,
}

impl NameParameters {
    fn read(self) -> Result<Wanted, Error> {
        let limit = SIZES.of(self.limit)?.items();
        // The services read it again, as it was typed.
        NameQuery::parse("q", &self.q)?;
        Ok(Wanted { q: self.q, limit })
    }
}

/// Finds chats of the caller by their names, the newest first.
///
/// Groups and channels are found by their titles, direct chats by the names of their other users. The caller is in what is found at this moment. The newest
/// 10,000 chats are looked at, of direct chats the newest 1,000. What a more exact query would find may be missing when there are `limit` items.
#[utoipa::path(
    get,
    path = "/api/search/chats",
    tag = "search",
    security(("access_token" = [])),
    params(NameParameters),
    responses(
        (status = OK, description = "What was found", body = FoundChats),
        SearchProblems,
    )
)]
pub(super) async fn search_chats(
    State(state): State<AppState>,
    SearchingCaller(caller): SearchingCaller,
    Query(parameters): Query<NameParameters>,
) -> Result<Json<FoundChats>, ApiError> {
    let found = state.chats_named(caller.user_id, parameters).await;
    state.metrics.count_names(&found);
    Ok(Json(FoundChats { items: found? }))
}

/// Finds users by their usernames and display names, in the order of their usernames.
///
/// These are the users whom `GET /api/users` lists: all but deleted accounts. Who has blocked whom makes no difference, so that nothing tells of a block. What
/// a more exact query would find may be missing when there are `limit` items.
#[utoipa::path(
    get,
    path = "/api/search/users",
    operation_id = "search_users_by_words",
    tag = "search",
    security(("access_token" = [])),
    params(NameParameters),
    responses(
        (status = OK, description = "What was found", body = FoundUsers),
        SearchProblems,
    )
)]
pub(super) async fn search_users(
    State(state): State<AppState>,
    _: SearchingCaller,
    Query(parameters): Query<NameParameters>,
) -> Result<Json<FoundUsers>, ApiError> {
    let found = state.users_named(parameters).await;
    state.metrics.count_names(&found);
    Ok(Json(FoundUsers { items: found? }))
}

impl AppState {
    async fn chats_named(&self, user: UserId, parameters: NameParameters) -> Result<Vec<FoundChat>, Error> {
        let wanted = parameters.read()?;
        let request = FindChatsRequest {
            user_id: user.to_string(),
            query: wanted.q.clone(),
            limit: count(wanted.limit),
        };
        let named = within(ANSWER_WITHIN, self.chats.clone().find_chats(request)).await;
        let named = named.map_err(|status| Error::Chats(Box::new(status)))?;
        let mut found = named.chats.into_iter().map(titled).collect::<Result<Vec<_>, _>>()?;

        let among: Vec<_> = named.direct_chats.iter().map(|direct| direct.other_id.clone()).collect();
        // Without any of them it would be all users.
        let others = if among.is_empty() { Vec::new() } else { self.find_users(&wanted, among).await? };
        let names: HashMap<_, _> =
            others.into_iter().map(|other| (other.user_id, other.display_name)).collect();
        for direct in named.direct_chats {
            let Some(name) = names.get(&direct.other_id) else { continue };
            let other = direct.other_id.parse().map_err(|_| UnreadableField("other_id"))?;
            found.push(FoundChat { name: name.clone(), other: Some(other), ..titled(direct)? });
        }
        found.sort_by_key(|chat| std::cmp::Reverse(chat.chat_id));
        found.truncate(wanted.limit);
        Ok(found)
    }

    async fn users_named(&self, parameters: NameParameters) -> Result<Vec<FoundUser>, Error> {
        let wanted = parameters.read()?;
        let found = self.find_users(&wanted, Vec::new()).await?.into_iter();
        let found = found.map(|User { user_id, username, display_name, .. }| {
            let user_id = user_id.parse().map_err(|_| UnreadableField("user_id"))?;
            Ok(FoundUser { user_id, username, display_name })
        });
        found.collect()
    }

    async fn find_users(&self, wanted: &Wanted, among_ids: Vec<String>) -> Result<Vec<User>, Error> {
        let request = FindUsersRequest { query: wanted.q.clone(), among_ids, limit: count(wanted.limit) };
        let found = within(ANSWER_WITHIN, self.users.clone().find_users(request)).await;
        Ok(found.map_err(|status| Error::Users(Box::new(status)))?.users)
    }
}

/// Returns a chat under its title.
fn titled(named: NamedChat) -> Result<FoundChat, UnreadableField> {
    let chat_id: ChatId = named.chat_id.parse().map_err(|_| UnreadableField("chat_id"))?;
    let kind = ChatKind::parse(&named.kind).ok_or(UnreadableField("kind"))?;
    Ok(FoundChat { chat_id, kind, name: named.title, other: None })
}

fn count(limit: usize) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}
