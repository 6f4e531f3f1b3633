//! Pages of history for readers, many of whom ask for the same.

use std::sync::Arc;

use contracts::ChatId;
use futures_util::future::BoxFuture;
use kit::{
    flights::{Flights, How},
    page::Span,
};

use crate::{
    domain::SeatId,
    history::{Archive, Beginning, History},
    metrics::{Metrics, Page},
    store::StoreError,
};

/// What of a chat is read, by readers whose histories begin with the same seq: the chat, that seq, the part, and its largest size.
type Wanted = (ChatId, i64, Span, usize);

/// Reads pages. Those who ask for the same at the same time read it together, if their histories begin with the same seq; which
/// reactions are their own, each of them reads alone.
pub(crate) struct Pages {
    store: Arc<dyn Archive>,
    flights: Flights<Wanted, Result<Arc<History>, Arc<StoreError>>>,
    metrics: Metrics,
}

impl Pages {
    pub(crate) fn new(store: Arc<dyn Archive>, metrics: Metrics) -> Self {
        Self { store, flights: Flights::default(), metrics }
    }

    /// Returns a page as [`crate::history::history`] does.
    pub(crate) async fn page(
        &self,
        reader: SeatId,
        beginning: Beginning,
        span: Span,
        limit: usize,
    ) -> Result<History, Arc<StoreError>> {
        let Some(from_seq) = self.store.beginning_of(beginning).await? else {
            // It is looked up again behind the head: the entry may be stored by then.
            self.metrics.count_page(Page::Read);
            return Ok(self.store.history_of(reader, beginning, span, limit).await?);
        };
        let (store, chat) = (self.store.clone(), reader.chat);
        let read = move || -> BoxFuture<'static, _> {
            Box::pin(async move {
                let page = store.page_of(chat, from_seq, span, limit).await;
                page.map(Arc::new).map_err(Arc::new)
            })
        };
        let (page, how) = self.flights.share((chat, from_seq, span, limit), read).await;
        self.metrics.count_page(match how {
            How::Read => Page::Read,
            How::Shared => Page::Shared,
        });
        let mut page = Arc::unwrap_or_clone(page?);
        self.store.mark_own_of(reader, &mut page.messages).await?;
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use contracts::{
        MessageKey, UserId,
        event::EntryKind,
        wire::{Changes, Message, Reactions},
    };
    use futures_util::{future::join_all, poll};
    use prometheus_client::{encoding::text::encode, registry::Registry};
    use tokio::sync::Semaphore;
    use tonic::async_trait;
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::{KeyId, KnownKey, TargetId},
        history::{List, OwnTexts},
        store::Result,
    };

    const CHAT: ChatId = ChatId(Uuid::from_u128(1));

    /// A chat of five messages with a reaction of user 7 each. It counts the pages that are read, each of which waits until it is let through.
    struct Counting {
        pages: AtomicUsize,
        gate: Semaphore,
    }

    fn message(seq: i64) -> Message {
        let user = UserId(Uuid::from_u128(7));
        let reactions = vec![Reactions { emoji: "+".into(), count: 1, own: false, users: vec![user] }];
        Message {
            chat: CHAT,
            seq,
            sender: user,
            key: MessageKey(Uuid::from_u128(9)),
            kind: EntryKind::Text,
            body: "hi".into(),
            subject: None,
            target_seq: None,
            mentions: Vec::new(),
            mention_roles: Vec::new(),
            mentions_all: false,
            mentions_here: false,
            silent: false,
            attachments: Vec::new(),
            forwarded: None,
            range: None,
            sent_at_ms: 0,
            expires_at_ms: None,
            expired: false,
            changes: Changes { reactions, ..Changes::default() },
        }
    }

    #[async_trait]
    impl Archive for Counting {
        async fn known_key_of(&self, _: KeyId) -> Result<Option<KnownKey>> {
            Ok(None)
        }

        async fn beginning_of(&self, beginning: Beginning) -> Result<Option<i64>> {
            let Beginning::Seq(seq) = beginning else { return Ok(None) };
            Ok(Some(seq))
        }

        async fn page_of(&self, _: ChatId, from_seq: i64, _: Span, _: usize) -> Result<History> {
            self.pages.fetch_add(1, Ordering::SeqCst);
            self.gate.acquire().await.expect("it stays open").forget();
            Ok(History { messages: (from_seq..=5).map(message).collect(), head_seq: 5, from_seq })
        }

        async fn entries_of(&self, _: Vec<TargetId>) -> Result<Vec<Message>> {
            Ok(Vec::new())
        }

        async fn mark_own_of(&self, reader: SeatId, messages: &mut [Message]) -> Result<()> {
            for message in messages {
                let reactions = &mut message.changes.reactions;
                reactions.iter_mut().for_each(|of| of.own = of.users.contains(&reader.user));
            }
            Ok(())
        }

        async fn count_pins_of(&self, _: ChatId, _: i64) -> Result<usize> {
            Ok(0)
        }

        async fn pins_of(&self, _: SeatId, _: i64, _: Option<i64>, _: usize) -> Result<List> {
            Ok(List::default())
        }

        async fn replies_of(&self, _: SeatId, _: i64, _: (i64, i64), _: usize) -> Result<Option<List>> {
            Ok(None)
        }

        async fn own_texts_of(&self, _: UserId, _: Option<TargetId>, _: usize) -> Result<OwnTexts> {
            Ok(OwnTexts::default())
        }

        async fn history_of(&self, _: SeatId, _: Beginning, _: Span, _: usize) -> Result<History> {
            self.pages.fetch_add(1, Ordering::SeqCst);
            Ok(History { messages: Vec::new(), head_seq: 5, from_seq: 6 })
        }
    }

    #[tokio::test]
    async fn a_hot_chat_is_read_once_for_all_who_ask_and_as_each_of_them_may_see_it() {
        let store = Arc::new(Counting { pages: AtomicUsize::new(0), gate: Semaphore::new(0) });
        let mut registry = Registry::default();
        let pages = Pages::new(store.clone(), Metrics::register(&mut registry));
        let read = async |user: u128, from_seq: i64, span| {
            let reader = SeatId { chat: CHAT, user: UserId(Uuid::from_u128(user)) };
            pages.page(reader, Beginning::Seq(from_seq), span, 50).await.expect("a page")
        };
        let span = Span::After(0);
        let mut first = Box::pin(read(1, 1, span));
        assert!(poll!(&mut first).is_pending());
        // A hundred ask for the same meanwhile, some joined later, and one asks for something else.
        let mut same = Box::pin(join_all((1..=100).map(|user| read(user, 1, span))));
        let mut later = Box::pin(join_all((1..=10).map(|user| read(user, 3, span))));
        let mut other = Box::pin(read(1, 1, Span::Before(9)));
        assert!(poll!(&mut same).is_pending() && poll!(&mut later).is_pending());
        assert!(poll!(&mut other).is_pending());
        store.gate.add_permits(100);
        first.await;
        for (user, page) in (1..).zip(same.await) {
            assert_eq!((page.from_seq, page.messages.len()), (1, 5));
            let own = page.messages.iter().filter(|message| message.changes.reactions[0].own).count();
            assert_eq!(own, if user == 7 { 5 } else { 0 }, "user {user}");
        }
        for page in later.await {
            assert_eq!((page.from_seq, page.messages[0].seq), (3, 3), "nothing from before they joined");
        }
        other.await;
        // One for the first, one for the hundred; for the ten one that came first and one for the others; one for the last.
        assert_eq!(store.pages.load(Ordering::SeqCst), 5);
        let mut text = String::new();
        encode(&mut text, &registry).expect("metrics");
        assert!(text.contains("history_pages_total{page=\"read\"} 5"), "{text}");
        assert!(text.contains("history_pages_total{page=\"shared\"} 107"), "{text}");

        // One whose beginning is not known yet shares nothing.
        let (sender, key) = (UserId(Uuid::from_u128(1)), MessageKey(Uuid::from_u128(2)));
        let beginning = Beginning::Entry(KeyId { chat: CHAT, sender, key });
        let page = pages.page(SeatId { chat: CHAT, user: sender }, beginning, span, 50).await;
        assert_eq!(page.expect("a page").from_seq, 6);
    }
}
