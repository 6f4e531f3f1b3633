//! One suite for every engine.

use std::{collections::HashMap, sync::Arc};

use contracts::{ChatId, MessageKey, UserId};
use search::{
    domain::{Beginning, Build, Document, DocumentId, EntryName, File, Progress, Search, Text},
    store::{EmbeddedIndex, Index, Write},
};
use uuid::Uuid;

use crate::stand::{TENANT, analyzer, search};

const ONE: ChatId = ChatId(Uuid::from_u128(1));
const TWO: ChatId = ChatId(Uuid::from_u128(2));
const ANN: UserId = UserId(Uuid::from_u128(11));

macro_rules! suite {
    ($($story:ident),* $(,)?) => {
        mod in_memory {
            $(
                #[tokio::test]
                async fn $story() {
                    let index = super::EmbeddedIndex::in_memory(super::analyzer()).expect("an index");
                    super::$story(std::sync::Arc::new(index)).await;
                }
            )*
        }
        mod in_a_folder {
            $(
                #[tokio::test]
                async fn $story() {
                    let folder = tempfile::tempdir().expect("a folder");
                    let index = super::EmbeddedIndex::open(folder.path(), super::TENANT, super::analyzer());
                    super::$story(std::sync::Arc::new(index.expect("an index"))).await;
                }
            )*
        }
        mod on_opensearch {
            $(
                #[tokio::test]
                async fn $story() {
                    crate::opensearch::with_index(super::$story).await;
                }
            )*
        }
    };
}

suite![
    documents_and_progress_are_written_together,
    a_document_takes_the_place_of_another,
    a_history_begins_with_the_entry_that_the_chat_service_names,
    only_what_a_seat_reads_is_found,
    what_has_disappeared_is_not_found_and_then_forgotten,
    the_newest_come_first_and_pages_go_on,
    no_word_with_a_common_beginning_is_left_out,
    files_are_found_by_their_type_and_their_names,
];

fn text(chat: ChatId, seq: i64, body: &str) -> Text {
    Text {
        chat,
        seq,
        sender: ANN,
        sent_at_ms: seq,
        reply_to: None,
        expires_at_ms: None,
        body: body.to_owned(),
        body_seq: seq,
        files: Vec::new(),
        deleted: false,
    }
}

async fn write(index: &Arc<dyn Index>, texts: impl IntoIterator<Item = Text>) {
    let documents = texts.into_iter().map(Document::Text).collect();
    index.write(Write { documents, ..Write::default() }).await.expect("a write");
}

async fn found(index: &Arc<dyn Index>, search: Search) -> Vec<(ChatId, i64)> {
    let places = index.search(search).await.expect("an answer");
    places.into_iter().map(|place| (place.chat, place.seq)).collect()
}

async fn documents_and_progress_are_written_together(index: Arc<dyn Index>) {
    assert_eq!(index.progress().await.expect("an answer"), None);
    let documents = vec![Document::Text(text(ONE, 1, "one")), Document::Text(text(ONE, 2, "two"))];
    let progress = Progress { next: [(0, 7), (3, 9)].into(), build: Build::Done };
    let write = Write { documents: documents.clone(), progress: progress.clone(), expired_at_ms: None };
    index.write(write).await.expect("a write");
    assert_eq!(index.progress().await.expect("an answer"), Some(progress));
    let id = |seq| DocumentId { chat: ONE, seq };
    let read = index.documents(vec![id(1), id(2), id(3)]).await.expect("an answer");
    let [one, two] = <[Document; 2]>::try_from(documents).expect("two");
    assert_eq!(read, HashMap::from([(id(1), one), (id(2), two)]));
}

async fn a_document_takes_the_place_of_another(index: Arc<dyn Index>) {
    let seats = [(ONE, 1)];
    write(&index, [text(ONE, 1, "first words")]).await;
    write(&index, [text(ONE, 1, "other words")]).await;
    assert_eq!(found(&index, search("words", &seats)).await, [(ONE, 1)]);
    assert_eq!(found(&index, search("first", &seats)).await, []);
    write(&index, [Text { deleted: true, body: String::new(), ..text(ONE, 1, "") }]).await;
    assert_eq!(found(&index, search("words", &seats)).await, []);
    let kept = index.documents(vec![DocumentId { chat: ONE, seq: 1 }]).await.expect("an answer");
    assert_eq!(kept.len(), 1, "that it is deleted is known on");
}

async fn a_history_begins_with_the_entry_that_the_chat_service_names(index: Arc<dyn Index>) {
    let entry = EntryName { sender: ANN, key: MessageKey(Uuid::from_u128(5)) };
    let stranger = EntryName { key: MessageKey(Uuid::from_u128(6)), ..entry };
    let begun =
        |begun: &[(ChatId, EntryName)]| Search { begun: begun.to_vec(), ..search("news", &[(TWO, 2)]) };
    write(&index, [text(ONE, 3, "news"), text(ONE, 5, "news"), text(TWO, 1, "news"), text(TWO, 2, "news")])
        .await;
    assert_eq!(found(&index, begun(&[(ONE, entry)])).await, [(TWO, 2)], "the entry is not there yet");
    let beginning = Beginning { chat: ONE, seq: 4, entry };
    let documents = vec![Document::Beginning(beginning)];
    index.write(Write { documents, ..Write::default() }).await.expect("a write");
    assert_eq!(found(&index, begun(&[(ONE, entry)])).await, [(ONE, 5), (TWO, 2)]);
    assert_eq!(found(&index, begun(&[(ONE, stranger)])).await, [(TWO, 2)]);
    assert_eq!(found(&index, begun(&[])).await, [(TWO, 2)]);
}

async fn only_what_a_seat_reads_is_found(index: Arc<dyn Index>) {
    write(&index, (1..=4).flat_map(|seq| [text(ONE, seq, "news"), text(TWO, seq, "news")])).await;
    assert_eq!(found(&index, search("news", &[])).await, []);
    assert_eq!(found(&index, search("news", &[(ONE, 3)])).await, [(ONE, 4), (ONE, 3)]);
    let both = found(&index, search("news", &[(ONE, 4), (TWO, 3)])).await;
    assert_eq!(both, [(TWO, 4), (ONE, 4), (TWO, 3)]);
    // A chat in the query opens nothing that the seats do not have.
    let elsewhere = Search { chat: Some(TWO), ..search("news", &[(ONE, 1)]) };
    assert_eq!(found(&index, elsewhere).await, []);
}

async fn what_has_disappeared_is_not_found_and_then_forgotten(index: Arc<dyn Index>) {
    let expiring = |seq, at_ms| Text { expires_at_ms: Some(at_ms), ..text(ONE, seq, "news") };
    write(&index, [expiring(1, 1_000), expiring(2, 1_001), text(ONE, 3, "news")]).await;
    let seats = [(ONE, 1)];
    assert_eq!(found(&index, search("news", &seats)).await, [(ONE, 3), (ONE, 2)]);
    index.write(Write { expired_at_ms: Some(1_000), ..Write::default() }).await.expect("a write");
    let ids = (1..=3).map(|seq| DocumentId { chat: ONE, seq }).collect();
    let mut kept: Vec<_> = index.documents(ids).await.expect("an answer").into_keys().collect();
    kept.sort_unstable();
    assert_eq!(kept.iter().map(|id| id.seq).collect::<Vec<_>>(), [2, 3]);
}

async fn the_newest_come_first_and_pages_go_on(index: Arc<dyn Index>) {
    // Some were sent in one millisecond, and they come in several writes.
    for part in [1..=3, 4..=6, 7..=9] {
        let texts = part.map(|seq| Text { sent_at_ms: seq / 4, ..text(ONE, seq, "news") });
        write(&index, texts).await;
    }
    let page = |after, limit| Search { after, limit, ..search("news", &[(ONE, 1)]) };
    let mut seqs = Vec::new();
    let mut after = None;
    loop {
        let places = index.search(page(after, 2)).await.expect("an answer");
        let Some(last) = places.last() else { break };
        after = Some(*last);
        seqs.extend(places.iter().map(|place| place.seq));
    }
    assert_eq!(seqs, [9, 8, 7, 6, 5, 4, 3, 2, 1]);
}

async fn no_word_with_a_common_beginning_is_left_out(index: Arc<dyn Index>) {
    // More than one could list, so that a part would be left out: the last of them is found as the first.
    let texts = (1..=3_000).map(|seq| text(ONE, seq, &format!("aa{seq:05} in ab{seq:05}")));
    write(&index, texts).await;
    let seats = [(ONE, 1)];
    let all = |query| Search { limit: 5_000, ..search(query, &seats) };
    for query in ["aa*", "aa* ab*", "in-ab*", "in ab*"] {
        assert_eq!(found(&index, all(query)).await.len(), 3_000, "{query}");
    }
    assert_eq!(found(&index, search("ab02999", &seats)).await, [(ONE, 2_999)]);
    assert_eq!(found(&index, search("ab0299*", &seats)).await.len(), 10);
    assert_eq!(found(&index, search("in-ab02999*", &seats)).await, [(ONE, 2_999)]);
}

async fn files_are_found_by_their_type_and_their_names(index: Arc<dyn Index>) {
    let files = |files: &[(&str, &str)]| {
        let file = |(name, media_type): &(&str, &str)| File {
            name: (*name).to_owned(),
            media_type: (*media_type).to_owned(),
        };
        files.iter().map(file).collect::<Vec<_>>()
    };
    let image = files(&[("red car.png", "image/png")]);
    let both = files(&[("the red", "video/mp4"), ("car-song.mp3", "audio/mpeg")]);
    write(
        &index,
        [
            Text { files: image, ..text(ONE, 1, "") },
            Text { files: both, ..text(ONE, 2, "our news") },
            text(ONE, 3, "news at https://example.org/car"),
            text(ONE, 4, "a red car"),
        ],
    )
    .await;
    let seats = [(ONE, 1)];
    for (query, expected) in [
        ("has:file", vec![2, 1]),
        ("has:image", vec![1]),
        ("has:video has:audio", vec![2]),
        ("has:image has:audio", vec![]),
        ("has:link", vec![3]),
        ("news has:file", vec![2]),
        ("news song", vec![2]),
        ("car", vec![4, 3, 2, 1]),
        ("cars has:file", vec![2, 1]),
        ("\"red car\"", vec![4, 1]),
        ("\"car png\"", vec![1]),
        ("mp*", vec![2]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(|seq| (ONE, seq)).collect();
        assert_eq!(found(&index, search(query, &seats)).await, expected, "{query}");
    }
    assert_eq!(found(&index, search("has:file", &[])).await, [], "the reader is in no chat");
    assert_eq!(found(&index, search("has:file", &[(ONE, 2)])).await, [(ONE, 2)]);
    write(&index, [Text { deleted: true, ..text(ONE, 1, "") }]).await;
    assert_eq!(found(&index, search("has:file", &seats)).await, [(ONE, 2)]);
}
