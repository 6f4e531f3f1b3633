//! How an index has documents, and how it is asked for them. No I/O.
//!
//! The words of a text are those of the embedded engine: the service finds them, and the server only divides them at spaces. So both engines find the
//! same, whatever analyzers a server has. A word that may be searched by its beginning is indexed by all of them, each at the place of the word, and the
//! whole word has an end that no beginning has: a phrase with a beginning in it is as exact, and as fast, as one without.

use contracts::ChatId;
use serde_json::{Value, json};

use crate::domain::{
    Analyzer, Beginning, Document, DocumentId, EntryName, Form, Has, Place, Search, Seats, Term, Text, Token,
};

/// Counts the forms of the index, which is a part of the name of a generation.
pub(super) const FORM: u32 = 1;
/// The oldest form that can still be searched and written.
pub(super) const OLDEST_FORM: u32 = 1;

/// Ends a whole word. It is no letter, so no word has it.
const END: char = '$';
/// Takes the place of a space in a word: a character that stands for several words is one here.
const SPACE: char = '_';
/// Shortest and longest beginning: those that are searched for, and the longest word with its end.
const BEGINNINGS: [u32; 2] = [2, 65];
/// Version of a text that is deleted. No seq is as great, and a number of JSON has it exactly.
const DELETED: i64 = 1 << 53;
/// Chats in one query that are read from their beginning on.
const WHOLE_CHATS: usize = 10_000;
/// Likewise, of those that are read from a later entry on. Each is two clauses, of which a query has at most 1,024.
const LATER_CHATS: usize = 400;

/// Returns the settings and fields of a new index.
pub(super) fn index(replicas: u32) -> Value {
    let [least, most] = BEGINNINGS;
    let words = |analyzer: &str| json!({"type": "text", "analyzer": analyzer, "search_analyzer": "words", "norms": false});
    let keyword = json!({"type": "keyword"});
    json!({
        "settings": {
            "index": {"number_of_shards": 1, "number_of_replicas": replicas},
            "analysis": {
                "filter": {"beginnings": {"type": "edge_ngram", "min_gram": least, "max_gram": most}},
                "analyzer": {
                    "words": {"type": "custom", "tokenizer": "whitespace"},
                    "beginnings": {"type": "custom", "tokenizer": "whitespace", "filter": ["beginnings"]},
                },
            },
        },
        "mappings": {
            "dynamic": false,
            // The document has the text already.
            "_source": {"excludes": ["stem", "exact"]},
            "properties": {
                "document": {"type": "object", "enabled": false},
                "progress": {"type": "object", "enabled": false},
                "chat": keyword,
                "sender": keyword,
                "thread": keyword,
                "entry": keyword,
                "has": keyword,
                "seq": {"type": "long"},
                "sent_at": {"type": "long"},
                "expires_at": {"type": "long"},
                "stem": words("words"),
                "exact": words("beginnings"),
            },
        },
    })
}

/// Returns the id of a document.
pub(super) fn id_of(DocumentId { chat, seq }: DocumentId) -> String {
    format!("{chat}/{seq}")
}

fn name_of(chat: ChatId, EntryName { sender, key }: EntryName) -> String {
    format!("{chat}/{sender}/{key}")
}

/// Returns the version of a document. A document of a greater one takes the place of another, and those of one version are the same: a body is that of
/// the entry it is of, and what is deleted stays so.
pub(super) fn version_of(document: &Document) -> i64 {
    match document {
        Document::Text(text) if text.deleted => DELETED,
        Document::Text(text) => text.body_seq,
        Document::Beginning(_) => 1,
    }
}

/// Returns a document as the index has it. Only a text that can be found has words.
pub(super) fn indexed(analyzer: &Analyzer, document: &Document) -> Result<Value, serde_json::Error> {
    let kept = serde_json::to_value(document)?;
    Ok(match document {
        Document::Beginning(Beginning { chat, seq, entry }) => {
            json!({"document": kept, "chat": chat.to_string(), "seq": seq, "entry": name_of(*chat, *entry)})
        }
        Document::Text(text) if text.deleted => json!({"document": kept}),
        Document::Text(text) => with_words(analyzer, text, &kept),
    })
}

fn with_words(analyzer: &Analyzer, text: &Text, kept: &Value) -> Value {
    let Text { chat, seq, sender, sent_at_ms, reply_to, expires_at_ms, .. } = text;
    // Between two values of a field are a hundred places without a word, so that no phrase reaches from one into the next.
    let tokens: Vec<_> = text.worded().into_iter().map(|words| analyzer.tokens(words)).collect();
    let values = |of: fn(&Token) -> String| {
        let value = |tokens: &Vec<Token>| tokens.iter().map(of).collect::<Vec<_>>().join(" ");
        tokens.iter().map(value).collect::<Vec<_>>()
    };
    json!({
        "document": kept,
        "chat": chat.to_string(),
        "sender": sender.to_string(),
        "thread": reply_to.map(|seq| id_of(DocumentId { chat: *chat, seq })),
        "has": Has::ALL.into_iter().filter(|has| has.is_in(text)).map(Has::as_str).collect::<Vec<_>>(),
        "seq": seq,
        "sent_at": sent_at_ms,
        "expires_at": expires_at_ms,
        "stem": values(stem),
        "exact": values(whole),
    })
}

/// Returns a word without spaces.
fn joined(word: &str) -> String {
    word.chars().map(|c| if c.is_whitespace() { SPACE } else { c }).collect()
}

fn stem(token: &Token) -> String {
    joined(&token.stem)
}

fn whole(token: &Token) -> String {
    format!("{}{END}", joined(&token.exact))
}

fn beginning(token: &Token) -> String {
    joined(&token.exact)
}

/// Returns a query for texts of some chats that a reader reads, which a search looks in one after the other: each bounded in what it has. All of
/// them together are the seats.
pub(super) fn queries(search: &Search, seats: &Seats) -> Vec<Value> {
    let (mut whole, mut later) = (Vec::new(), Vec::new());
    for (chat, from_seq) in seats.iter().filter(|(chat, _)| search.chat.is_none_or(|only| only == **chat)) {
        if *from_seq <= 1 {
            whole.push(chat.to_string());
        } else {
            later.push(json!({"bool": {"filter": [
                {"term": {"chat": chat.to_string()}},
                {"range": {"seq": {"gte": from_seq}}},
            ]}}));
        }
    }
    let (mut whole, mut later) = (whole.chunks(WHOLE_CHATS), later.chunks(LATER_CHATS));
    let mut queries = Vec::new();
    loop {
        let (some_whole, some_later) = (whole.next(), later.next());
        if some_whole.is_none() && some_later.is_none() {
            return queries;
        }
        let mut clauses = some_later.map(<[Value]>::to_vec).unwrap_or_default();
        clauses.extend(some_whole.map(|chats| json!({"terms": {"chat": chats}})));
        queries.push(query(search, &json!({"bool": {"should": clauses, "minimum_should_match": 1}})));
    }
}

/// Returns the body of a search in chats.
fn query(search: &Search, chats: &Value) -> Value {
    let Search { query, sender, from_ms, to_ms, after, limit, now_ms, .. } = search;
    let mut filter: Vec<_> = query.terms.iter().map(clause).collect();
    filter.push(chats.clone());
    filter.extend(query.has.iter().map(|has| json!({"term": {"has": has.as_str()}})));
    filter.extend(sender.map(|sender| json!({"term": {"sender": sender.to_string()}})));
    filter.extend(from_ms.map(|ms| json!({"range": {"sent_at": {"gte": ms}}})));
    filter.extend(to_ms.map(|ms| json!({"range": {"sent_at": {"lt": ms}}})));
    if let (Some(chat), Some(seq)) = (search.chat, search.thread) {
        let id = id_of(DocumentId { chat, seq });
        let either = json!([{"ids": {"values": [id]}}, {"term": {"thread": id}}]);
        filter.push(json!({"bool": {"should": either, "minimum_should_match": 1}}));
    }
    let mut body = json!({
        "size": limit,
        "_source": false,
        "track_total_hits": false,
        "query": {"bool": {
            "filter": filter,
            "must_not": [{"range": {"expires_at": {"lte": now_ms}}}],
        }},
        "sort": [{"sent_at": "desc"}, {"chat": "desc"}, {"seq": "desc"}],
    });
    if let Some(Place { sent_at_ms, chat, seq }) = after {
        body["search_after"] = json!([sent_at_ms, chat.to_string(), seq]);
    }
    body
}

/// Returns what a text must have of a term.
fn clause(term: &Term) -> Value {
    let last = term.tokens.len() - 1;
    let (field, words): (_, Vec<_>) = match term.form {
        Form::Word => ("stem", term.tokens.iter().map(stem).collect()),
        Form::Exact => ("exact", term.tokens.iter().map(whole).collect()),
        Form::Prefix => {
            let word =
                |(at, token): (usize, &Token)| if at == last { beginning(token) } else { whole(token) };
            ("exact", term.tokens.iter().enumerate().map(word).collect())
        }
    };
    match words.as_slice() {
        [word] => json!({"term": {field: word}}),
        words => json!({"match_phrase": {field: {"query": words.join(" "), "analyzer": "words"}}}),
    }
}

/// Returns the body of a search for the entries with which histories begin.
pub(super) fn beginnings(begun: &[(ChatId, EntryName)]) -> Value {
    let names: Vec<_> = begun.iter().map(|(chat, entry)| name_of(*chat, *entry)).collect();
    json!({
        "size": names.len(),
        "_source": false,
        "track_total_hits": false,
        "query": {"terms": {"entry": names}},
        "sort": [{"chat": "asc"}, {"seq": "asc"}],
    })
}

#[cfg(test)]
mod tests {
    use contracts::{MessageKey, UserId};
    use uuid::Uuid;

    use super::*;
    use crate::domain::parse;

    const CHAT: ChatId = ChatId(Uuid::from_u128(1));

    fn search(query: &str) -> Search {
        Search {
            reader: UserId(Uuid::nil()),
            query: parse(&Analyzer::default(), query).expect("a query"),
            seats: Seats::new(),
            begun: Vec::new(),
            chat: None,
            thread: None,
            sender: None,
            from_ms: None,
            to_ms: None,
            after: None,
            limit: 10,
            now_ms: 0,
        }
    }

    fn text(body: &str) -> Text {
        Text {
            chat: CHAT,
            seq: 3,
            sender: UserId(Uuid::nil()),
            sent_at_ms: 5,
            reply_to: None,
            expires_at_ms: None,
            body: body.to_owned(),
            body_seq: 4,
            files: Vec::new(),
            deleted: false,
        }
    }

    #[test]
    fn words_are_those_of_the_service_whatever_the_server_knows() {
        let indexed = |body: &str| {
            let document = indexed(&Analyzer::default(), &Document::Text(text(body))).expect("a document");
            (document["stem"][0].clone(), document["exact"][0].clone())
        };
        assert_eq!(indexed("Running, участников!"), (json!("run участник"), json!("running$ участников$")));
        assert_eq!(indexed("东京 ok"), (json!("东 京 ok"), json!("东$ 京$ ok$")));
        // One character that stands for words with spaces between them.
        let (_, words) = indexed("\u{fdfa}");
        assert!(words.as_str().is_some_and(|words| !words.contains(' ')), "{words}");
    }

    #[test]
    fn a_term_is_one_word_or_a_phrase_and_expands_to_nothing() {
        let clauses = |query: &str| {
            let terms = search(query).query.terms;
            terms.iter().map(clause).collect::<Vec<_>>()
        };
        assert_eq!(clauses("running"), [json!({"term": {"stem": "run"}})]);
        assert_eq!(clauses("\"running\""), [json!({"term": {"exact": "running$"}})]);
        assert_eq!(clauses("run*"), [json!({"term": {"exact": "run"}})]);
        let phrase = |field: &str, words: &str| json!({"match_phrase": {field: {"query": words, "analyzer": "words"}}});
        assert_eq!(clauses("\"red car\""), [phrase("exact", "red$ car$")]);
        assert_eq!(clauses("red-ca*"), [phrase("exact", "red$ ca")]);
        assert_eq!(clauses("e-mail"), [phrase("stem", "e mail")]);
    }

    #[test]
    fn what_is_later_takes_the_place_of_what_was_before() {
        let version = |text: Text| version_of(&Document::Text(text));
        let edited = Text { body_seq: 9, ..text("b") };
        let deleted = Text { deleted: true, ..text("") };
        assert!(version(text("a")) < version(edited.clone()) && version(edited) < version(deleted));
        let deleted = indexed(&Analyzer::default(), &Document::Text(Text { deleted: true, ..text("") }));
        let fields = deleted.expect("a document");
        assert_eq!(fields.as_object().expect("an object").len(), 1, "nothing of it is found: {fields}");
    }

    #[test]
    fn chats_are_divided_so_that_no_query_has_too_many_clauses() {
        let seats: Seats = (0..1_000)
            .map(|number| (ChatId(Uuid::from_u128(number)), if number < 900 { 7 } else { 1 }))
            .collect();
        let queries = queries(&search("news"), &seats);
        let clauses: Vec<_> = queries
            .iter()
            .map(|query| {
                query["query"]["bool"]["filter"][1]["bool"]["should"].as_array().expect("chats").len()
            })
            .collect();
        assert_eq!(clauses, [401, 400, 100]);
        assert!(super::queries(&search("news"), &Seats::new()).is_empty(), "who is in no chat finds nothing");
    }

    #[test]
    fn a_chat_that_is_named_opens_nothing_that_the_seats_do_not_have() {
        let other = Search { chat: Some(ChatId(Uuid::from_u128(2))), ..search("news") };
        assert!(queries(&other, &Seats::from([(CHAT, 1)])).is_empty());
        let own = Search { chat: Some(CHAT), ..search("news") };
        assert_eq!(queries(&own, &Seats::from([(CHAT, 1)])).len(), 1);
    }

    #[test]
    fn a_page_goes_on_behind_its_last_place() {
        let after = Some(Place { sent_at_ms: 5, chat: CHAT, seq: 3 });
        let search = Search { after, ..search("news") };
        let query = &queries(&search, &Seats::from([(CHAT, 1)]))[0];
        assert_eq!(query["search_after"], json!([5, CHAT.to_string(), 3]));
    }

    #[test]
    fn an_entry_has_one_name_where_it_is_kept_and_where_it_is_looked_up() {
        let entry = EntryName { sender: UserId(Uuid::nil()), key: MessageKey(Uuid::from_u128(5)) };
        let beginning = Document::Beginning(Beginning { chat: CHAT, seq: 4, entry });
        let kept = indexed(&Analyzer::default(), &beginning).expect("a document");
        assert_eq!(beginnings(&[(CHAT, entry)])["query"]["terms"]["entry"], json!([kept["entry"]]));
    }
}
