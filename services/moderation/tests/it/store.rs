//! One suite for every store.

use std::{collections::HashMap, slice, sync::Arc};

use contracts::{
    AppealId, ChatId, ReportId, RuleSetId, UserId,
    api::{
        Appeal, AppealState, AuditEntry, Decision, Evidence, Figures, Report, ReportReason, ReportState,
        RuleAction, RuleSet, RuleSetState, Sample, Sanction, SanctionKind, SanctionTerms, ShadowRun,
        ShadowState,
    },
};
use kit::testing::TestDatabase;
use moderation::{
    domain::{Audit, Change, Deletion, Question, Scores, Standing, Verdict, Window},
    store::{
        AuditFilter, Batch, Counts, MemoryStore, ModerationStore, PostgresStore, Refusal, SCHEMA, StoreError,
    },
};
use sqlx::PgPool;
use uuid::Uuid;

use super::stand::{rule_set, sanction, words};

type Store = Arc<dyn ModerationStore>;

kit::on_both_stores![
    what_was_judged_is_written_once,
    a_rule_set_goes_from_draft_to_retired,
    a_retired_set_counts_for_what_was_sent_before,
    a_set_is_enforced_beside_those_that_it_was_compared_with,
    a_report_is_decided_once,
    changes_are_made_together_or_not_at_all,
    a_standing_is_the_sum_of_what_is_not_lifted,
    a_standing_does_not_grow_with_what_is_over,
    a_standing_that_was_never_tried_is_claimed_first,
    a_standing_that_is_done_is_forgotten,
    what_is_carried_out_behind_a_claim_is_carried_out_again,
    a_deletion_is_claimed_by_one_process_at_a_time,
    lists_go_on_where_they_stopped,
    the_audit_log_is_narrowed,
    what_there_is_is_counted,
    what_is_old_is_forgotten,
    much_that_is_old_is_forgotten_at_once,
    rules_report_a_sender_once_until_it_is_decided,
    what_is_created_twice_is_refused_with_all_that_comes_with_it,
    what_is_remembered_of_a_deleted_account_goes,
    a_question_is_claimed_and_answered_once,
];

/// Returns a database with the tables of this service.
async fn database() -> (TestDatabase, PgPool) {
    let database = TestDatabase::create().await;
    SCHEMA.migrate(&database.args()).await.expect("the migrations apply");
    let pool = SCHEMA.pool(&database.args());
    (database, pool)
}

fn verdict(rule_set: RuleSetId, chat: ChatId, entry_seq: i64, sender: UserId) -> Verdict {
    let terms = SanctionTerms { kind: SanctionKind::Mute, everywhere: false, seconds: Some(60) };
    Verdict {
        rule_set,
        chat,
        entry_seq,
        seq: entry_seq,
        sender,
        rules: vec!["a".to_owned(), "b".to_owned()],
        action: RuleAction { delete: true, report: true, sanction: Some(terms) },
        evidence: Evidence { text: "scam".to_owned(), files: Vec::new(), sent_at_ms: 1_000 },
        by_classifier: false,
    }
}

fn question(chat: ChatId, entry_seq: i64, sender: UserId) -> Question {
    Question {
        chat,
        entry_seq,
        seq: entry_seq,
        sender,
        text: "scam".to_owned(),
        files: vec![("a.png".to_owned(), "image/png".to_owned())],
        sent_at_ms: 1_000,
    }
}

fn report(by: UserId, chat: ChatId, seq: i64) -> Report {
    Report {
        id: ReportId::generate(),
        chat,
        seq,
        sender: UserId::generate(),
        by: Some(by),
        reason: Some(ReportReason::Spam),
        comment: None,
        evidence: Evidence {
            text: "t".to_owned(),
            files: vec!["a.png (image/png)".to_owned()],
            sent_at_ms: 3,
        },
        state: ReportState::Open,
        created_at_ms: 4,
        decision: None,
    }
}

fn decision() -> Decision {
    Decision { by: Some(UserId::generate()), at_ms: 9, note: "so it is".to_owned() }
}

async fn act(store: &Store, changes: &[Change]) {
    store.act(changes).await.expect("a change");
}

/// Returns the audit log, the newest first.
async fn all_noted(store: &Store) -> Vec<AuditEntry> {
    store.audit(&AuditFilter::default(), i64::MAX, 100).await.expect("a read")
}

async fn refused(store: &Store, changes: &[Change]) -> Refusal {
    match store.act(changes).await {
        Err(StoreError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

async fn what_was_judged_is_written_once(store: Store) {
    let (set, chat, ann) = (RuleSetId::generate(), ChatId::generate(), UserId::generate());
    assert_eq!(store.positions(&[0, 3]).await.expect("a read"), HashMap::from([(0, None), (3, None)]));
    let window = Window { last_seq: 5, times_ms: vec![1_000, 2_000] };
    let batch = Batch {
        partition: 3,
        next_offset: 8,
        windows: HashMap::from([((chat, ann), window.clone())]),
        verdicts: vec![verdict(set, chat, 4, ann), verdict(set, chat, 5, ann)],
        questions: Vec::new(),
        now_ms: 9,
    };
    for _ in 0..2 {
        store.record(&batch).await.expect("it is written");
        let figures = store.figures(set).await.expect("a read");
        assert_eq!((figures.caught, figures.deletions, figures.reports, figures.sanctions), (2, 2, 2, 2));
        let rules: Vec<_> = figures.rules.iter().map(|rule| (rule.rule.as_str(), rule.caught)).collect();
        assert_eq!(rules, [("a", 2), ("b", 2)]);
        assert_eq!(store.sanctions(Some(ann), i64::MAX, 10).await.expect("a read").len(), 2);
        // Both are of one sender, by the same rules: the report about the first is open.
        assert_eq!(store.reports(None, 0, 10).await.expect("a read").len(), 1);
        assert_eq!(all_noted(&store).await.len(), 5);
    }
    assert_eq!(store.positions(&[0, 3]).await.expect("a read"), HashMap::from([(0, None), (3, Some(8))]));
    // A window never goes back.
    let older = Window { last_seq: 4, times_ms: Vec::new() };
    let older = Batch { windows: HashMap::from([((chat, ann), older)]), verdicts: Vec::new(), ..batch };
    store.record(&older).await.expect("it is written");
    let windows = store.windows(&[(chat, ann), (chat, UserId::generate())]).await.expect("a read");
    assert_eq!(windows, HashMap::from([((chat, ann), window)]));
}

async fn a_rule_set_goes_from_draft_to_retired(store: Store) {
    let draft = rule_set(words(&["scam"]), RuleSetState::Draft);
    act(&store, &[Change::RuleSetCreated(draft.clone())]).await;
    assert_eq!(store.rule_set(draft.id).await.expect("a read"), Some(draft.clone()));
    let enforced = RuleSet { state: RuleSetState::Enforced, enforced_from_ms: Some(7), ..draft.clone() };
    let retired = RuleSet { state: RuleSetState::Retired, retired_from_ms: Some(8), ..enforced.clone() };
    assert_eq!(refused(&store, &[Change::RuleSetRetired(retired.clone())]).await, Refusal::NotEnforced);
    act(&store, &[Change::RuleSetEnforced(enforced.clone())]).await;
    assert_eq!(refused(&store, &[Change::RuleSetEnforced(enforced.clone())]).await, Refusal::NotADraft);
    assert_eq!(store.rule_sets(&[RuleSetState::Enforced]).await.expect("a read"), [enforced]);
    act(&store, &[Change::RuleSetRetired(retired.clone())]).await;
    assert_eq!(
        store.rule_sets(&[RuleSetState::Draft, RuleSetState::Retired]).await.expect("a read"),
        [retired]
    );
    assert_eq!(store.shadow_run(draft.id).await.expect("a read"), None);
    let remove = |id, retired_before_ms| [Change::RuleSetRemoved { id, retired_before_ms }];
    assert_eq!(refused(&store, &remove(draft.id, 8)).await, Refusal::InForce, "it was retired later");
    act(&store, &remove(draft.id, 9)).await;
    assert_eq!(store.rule_set(draft.id).await.expect("a read"), None);
    let draft = rule_set(words(&["scam"]), RuleSetState::Draft);
    let enforced = rule_set(words(&["scam"]), RuleSetState::Enforced);
    for set in [&draft, &enforced] {
        act(&store, &[Change::RuleSetCreated(set.clone())]).await;
    }
    assert_eq!(refused(&store, &remove(enforced.id, i64::MAX)).await, Refusal::InForce);
    act(&store, &remove(draft.id, 0)).await;
    assert_eq!(refused(&store, &remove(draft.id, 0)).await, Refusal::InForce, "it is gone");
}

async fn a_retired_set_counts_for_what_was_sent_before(store: Store) {
    let set = |created_at_ms: i64, state: RuleSetState, retired_from_ms: Option<i64>| RuleSet {
        created_at_ms,
        retired_from_ms,
        ..rule_set(words(&["scam"]), state)
    };
    let draft = set(1, RuleSetState::Draft, None);
    let retired = set(2, RuleSetState::Retired, Some(100));
    let enforced = set(3, RuleSetState::Enforced, None);
    for set in [&draft, &retired, &enforced] {
        act(&store, &[Change::RuleSetCreated(set.clone())]).await;
    }
    let from = async |sent_at_ms: i64| {
        let sets = store.rule_sets_from(sent_at_ms).await.expect("a read");
        sets.into_iter().map(|set| set.id).collect::<Vec<_>>()
    };
    assert_eq!(from(99).await, [retired.id, enforced.id]);
    assert_eq!(from(100).await, [enforced.id], "the other one judges what was sent before it alone");
    let late = RuleSet { state: RuleSetState::Retired, retired_from_ms: Some(200), ..enforced.clone() };
    act(&store, &[Change::RuleSetRetired(late.clone())]).await;
    assert_eq!(store.rule_sets_from(199).await.expect("a read"), [late]);
    assert!(from(200).await.is_empty());
}

/// Returns the changes that enforce a draft which was compared with others.
fn enforcing(draft: &RuleSet, among: &[RuleSetId], retired_after_ms: i64) -> [Change; 2] {
    let enforced = RuleSet { state: RuleSetState::Enforced, enforced_from_ms: Some(7), ..draft.clone() };
    [Change::RuleSetsCounted { among: among.to_vec(), retired_after_ms }, Change::RuleSetEnforced(enforced)]
}

async fn a_set_is_enforced_beside_those_that_it_was_compared_with(store: Store) {
    let [first, second, third] = [(); 3].map(|()| rule_set(words(&["scam"]), RuleSetState::Draft));
    for set in [&first, &second, &third] {
        act(&store, &[Change::RuleSetCreated(set.clone())]).await;
    }
    act(&store, &enforcing(&first, &[], 0)).await;
    assert_eq!(refused(&store, &enforcing(&second, &[], 0)).await, Refusal::OthersEnforced);
    assert_eq!(store.rule_set(second.id).await.expect("a read"), Some(second.clone()));
    // One that is enforced no more may be among them.
    act(&store, &enforcing(&second, &[first.id, third.id], 0)).await;
    for (set, retired_from_ms) in [(&first, 100), (&second, 200)] {
        let retired =
            RuleSet { state: RuleSetState::Retired, retired_from_ms: Some(retired_from_ms), ..set.clone() };
        act(&store, &[Change::RuleSetRetired(retired)]).await;
    }
    assert_eq!(refused(&store, &enforcing(&third, &[first.id], 100)).await, Refusal::OthersEnforced);
    act(&store, &enforcing(&third, &[second.id], 100)).await;
}

/// Two moderators, of whom neither sees the set of the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_sets_at_once_one_is_compared_again() {
    let (_database, pool) = database().await;
    let store: Store = Arc::new(PostgresStore::new(pool));
    for _ in 0..20 {
        let sets = [(); 2].map(|()| rule_set(words(&["scam"]), RuleSetState::Draft));
        for set in &sets {
            act(&store, &[Change::RuleSetCreated(set.clone())]).await;
        }
        let known = store.rule_sets_from(0).await.expect("a read");
        let known: Vec<_> = known.iter().map(|set| set.id).collect();
        let [one, two] = sets.each_ref().map(|set| enforcing(set, &known, 0));
        let outcomes = tokio::join!(store.act(&one), store.act(&two));
        assert_ne!(outcomes.0.is_ok(), outcomes.1.is_ok(), "{outcomes:?}");
    }
}

async fn a_report_is_decided_once(store: Store) {
    let (ann, chat) = (UserId::generate(), ChatId::generate());
    let first = report(ann, chat, 7);
    act(&store, &[Change::Reported(first.clone())]).await;
    assert_eq!(refused(&store, &[Change::Reported(report(ann, chat, 7))]).await, Refusal::Known);
    act(&store, &[Change::Reported(report(UserId::generate(), chat, 7))]).await;
    assert_eq!(store.report_of(ann, chat, 7).await.expect("a read"), Some(first.clone()));
    assert_eq!(store.report_of(ann, chat, 8).await.expect("a read"), None);
    assert_eq!(store.reports(Some(ReportState::Open), 0, 10).await.expect("a read").len(), 2);
    let decided = Report { state: ReportState::Upheld, decision: Some(decision()), ..first.clone() };
    act(&store, &[Change::ReportDecided(decided.clone())]).await;
    assert_eq!(refused(&store, &[Change::ReportDecided(decided.clone())]).await, Refusal::Decided);
    assert_eq!(store.report(first.id).await.expect("a read"), Some(decided));
    assert_eq!(store.reports(Some(ReportState::Open), 0, 10).await.expect("a read").len(), 1);
}

async fn changes_are_made_together_or_not_at_all(store: Store) {
    let user = UserId::generate();
    let of = sanction(user, None, SanctionKind::Ban, None);
    act(&store, &[Change::Sanctioned(of.clone())]).await;
    let appeal = Appeal {
        id: AppealId::generate(),
        sanction: of.id,
        user,
        text: "please".to_owned(),
        state: AppealState::Open,
        created_at_ms: 5,
        decision: None,
    };
    act(&store, &[Change::Appealed(appeal.clone())]).await;
    let again = Appeal { id: AppealId::generate(), ..appeal.clone() };
    let audit = || {
        Change::Noted(Audit { at_ms: 1, by: Some(user), action: "x", subject: "y".to_owned(), user: None })
    };
    assert_eq!(refused(&store, &[audit(), Change::Appealed(again)]).await, Refusal::Appealed);
    assert!(all_noted(&store).await.is_empty(), "it is not noted either");
    let accepted = Appeal { state: AppealState::Accepted, decision: Some(decision()), ..appeal.clone() };
    let lifted = Sanction { lifted: Some(decision()), ..of.clone() };
    let both = [Change::AppealDecided(accepted.clone()), Change::Lifted(lifted.clone()), audit()];
    act(&store, &both).await;
    assert_eq!(refused(&store, &both).await, Refusal::Decided);
    assert_eq!(refused(&store, &[Change::Lifted(lifted.clone())]).await, Refusal::Lifted);
    assert_eq!(store.appeal(appeal.id).await.expect("a read"), Some(accepted.clone()));
    assert_eq!(store.appeals_of(user, 10).await.expect("a read"), [accepted]);
    assert_eq!(store.sanction(of.id).await.expect("a read"), Some(lifted));
    assert_eq!(all_noted(&store).await.len(), 1);
}

async fn a_standing_is_the_sum_of_what_is_not_lifted(store: Store) {
    let (user, chat) = (UserId::generate(), ChatId::generate());
    let claim = async |now_ms: i64| store.claim_standings(now_ms, now_ms + 10, 10).await.expect("a claim");
    act(&store, &[Change::Sanctioned(sanction(user, None, SanctionKind::Warning, None))]).await;
    assert!(claim(100).await.is_empty(), "a warning is carried out by no service");
    let ban = sanction(user, None, SanctionKind::Ban, Some(500));
    let mute = sanction(user, Some(chat), SanctionKind::Mute, Some(900));
    act(&store, &[Change::Sanctioned(ban.clone()), Change::Sanctioned(mute)]).await;
    let mut claimed = claim(100).await;
    claimed.sort_by_key(|standing| standing.place);
    let of = |at: usize| (claimed[at].place.scope, claimed[at].silent_until_ms, claimed[at].banned_until_ms);
    assert_eq!([of(0), of(1)], [(None, Some(500), Some(500)), (Some(chat), Some(900), None)]);
    assert!(!claimed[0].has_closed);
    assert!(store.note_closing(&claimed[0]).await.expect("it is noted"));
    assert!(claim(105).await.is_empty(), "another process has them");
    // It did not finish; the account may be closed by now.
    assert!(store.note_closing(&claimed[0]).await.expect("it is noted"), "its claim is the last");
    let again = claim(110).await;
    assert_eq!(again.iter().filter(|standing| standing.has_closed).count(), 1);
    assert!(!store.note_closing(&claimed[0]).await.expect("a look"), "its claim has ended");
    let claimed = again;
    for standing in &claimed {
        store.finish_standing(standing).await.expect("it is noted");
    }
    assert!(claim(200).await.is_empty());
    let due = claim(500).await;
    assert_eq!(due.len(), 1, "the ban is over, and the mute ends by itself");
    assert_eq!((due[0].banned_until_ms, due[0].has_closed), (None, true));
    let opened = Standing { has_closed: false, ..due[0] };
    store.finish_standing(&opened).await.expect("it is noted");
    assert!(claim(2_000).await.is_empty());
    act(&store, &[Change::Lifted(Sanction { lifted: Some(decision()), ..ban })]).await;
    let changed = claim(3_000).await;
    assert_eq!((changed.len(), changed[0].has_closed), (1, false));
}

async fn what_is_carried_out_behind_a_claim_is_carried_out_again(store: Store) {
    let user = UserId::generate();
    let ban = sanction(user, None, SanctionKind::Ban, None);
    let claim = async |now_ms: i64| {
        let mut claimed = store.claim_standings(now_ms, now_ms + 10, 10).await.expect("a claim");
        assert!(claimed.len() < 2);
        claimed.pop()
    };
    act(&store, &[Change::Sanctioned(ban.clone())]).await;
    let slow = claim(100).await.expect("the ban");
    assert!(slow.banned_until_ms.is_some() && store.note_closing(&slow).await.expect("it is noted"));
    let slow = Standing { has_closed: true, ..slow };
    act(&store, &[Change::Lifted(Sanction { lifted: Some(decision()), ..ban })]).await;
    // Another process opens the account, and then the first one closes it.
    let second = claim(110).await.expect("the lift");
    assert_eq!((second.banned_until_ms, second.has_closed), (None, true));
    let second = Standing { has_closed: false, ..second };
    assert!(store.finish_standing(&second).await.expect("it is noted"));
    assert!(claim(111).await.is_none(), "all is done as far as is known");
    assert!(!store.finish_standing(&slow).await.expect("it is noted"), "its claim has ended");
    let again = claim(112).await.expect("it is carried out again");
    assert_eq!((again.banned_until_ms, again.has_closed), (None, true), "the account is opened");
    // Of one that is given up in time nothing is done twice at one time.
    store.leave_standing(&again).await.expect("it is noted");
    assert!(claim(121).await.is_none());
    let once_more = claim(122).await.expect("its claim has ended");
    let once_more = Standing { has_closed: false, ..once_more };
    assert!(store.finish_standing(&once_more).await.expect("it is noted"));
    assert!(claim(123).await.is_none());
    // What was given up behind its claim may have been done since.
    store.leave_standing(&slow).await.expect("it is noted");
    assert!(claim(124).await.is_some_and(|standing| standing.has_closed));
}

async fn a_standing_does_not_grow_with_what_is_over(store: Store) {
    let (user, chat) = (UserId::generate(), ChatId::generate());
    // A rule that warns and mutes catches what a user writes all day.
    for _ in 0..20 {
        let changes: Vec<_> = (0..100)
            .flat_map(|_| {
                let warning = sanction(user, Some(chat), SanctionKind::Warning, None);
                [warning, sanction(user, Some(chat), SanctionKind::Mute, Some(50))]
            })
            .map(Change::Sanctioned)
            .collect();
        act(&store, &changes).await;
    }
    act(&store, &[Change::Sanctioned(sanction(user, Some(chat), SanctionKind::Mute, Some(700)))]).await;
    let claimed = store.claim_standings(100, 200, 10).await.expect("a claim");
    assert_eq!(claimed.len(), 1);
    assert_eq!((claimed[0].silent_until_ms, claimed[0].banned_until_ms), (Some(700), None));
}

async fn a_standing_that_is_done_is_forgotten(store: Store) {
    let chat = ChatId::generate();
    let [muted, short, banned, waiting] = [(); 4].map(|()| UserId::generate());
    let mute = sanction(muted, Some(chat), SanctionKind::Mute, Some(50));
    for of in [
        mute.clone(),
        sanction(short, None, SanctionKind::Ban, Some(500)),
        sanction(banned, None, SanctionKind::Ban, None),
    ] {
        act(&store, &[Change::Sanctioned(of)]).await;
    }
    let claimed = store.claim_standings(100, 110, 10).await.expect("a claim");
    assert_eq!(claimed.len(), 3);
    assert_eq!(store.forget_standings().await.expect("a change"), 0, "a process has them");
    for standing in &claimed {
        let has_closed = standing.place.user == banned;
        store.finish_standing(&Standing { has_closed, ..*standing }).await.expect("it is noted");
    }
    act(&store, &[Change::Sanctioned(sanction(waiting, Some(chat), SanctionKind::Mute, None))]).await;
    assert_eq!(
        store.forget_standings().await.expect("a change"),
        1,
        "one ends later, one has closed an account"
    );
    assert_eq!(store.forget_standings().await.expect("a change"), 0);
    let users = async |now_ms: i64| {
        let claimed = store.claim_standings(now_ms, now_ms + 10, 10).await.expect("a claim");
        for standing in &claimed {
            store.finish_standing(standing).await.expect("it is noted");
        }
        claimed.into_iter().map(|standing| (standing.place.user, standing.has_closed)).collect::<Vec<_>>()
    };
    assert_eq!(users(200).await, [(waiting, false)]);
    assert_eq!(users(500).await, [(short, false)], "its ban is over");
    assert_eq!(store.forget_standings().await.expect("a change"), 2);
    // What is decided later is carried out as the first was, and so is what a slow process may have done since.
    act(&store, &[Change::Lifted(Sanction { lifted: Some(decision()), ..mute })]).await;
    assert_eq!(users(600).await, [(muted, false)]);
    assert_eq!(store.forget_standings().await.expect("a change"), 1);
    let slow = claimed.iter().find(|standing| standing.place.user == muted).expect("its claim");
    assert!(!store.finish_standing(slow).await.expect("it is noted"), "its claim has ended");
    assert_eq!(users(700).await, [(muted, false)]);
}

async fn a_standing_that_was_never_tried_is_claimed_first(store: Store) {
    let users = [1, 2, 3].map(|n| UserId(Uuid::from_u128(n)));
    let ban = async |user: UserId| {
        act(&store, &[Change::Sanctioned(sanction(user, None, SanctionKind::Ban, None))]).await;
    };
    let claim = async |now_ms: i64| {
        let claimed = store.claim_standings(now_ms, now_ms + 10, 1).await.expect("a claim");
        claimed.into_iter().map(|standing| standing.place.user).collect::<Vec<_>>()
    };
    ban(users[0]).await;
    assert_eq!(claim(100).await, [users[0]]);
    ban(users[1]).await;
    assert_eq!(claim(105).await, [users[1]]);
    // Neither was carried out, and both claims have ended.
    ban(users[2]).await;
    assert_eq!(claim(120).await, [users[2]]);
    assert_eq!(claim(120).await, [users[0]], "it was tried before the second");
    assert_eq!(claim(120).await, [users[1]]);
    assert!(claim(120).await.is_empty());
}

/// What is read of a user's sanctions is bounded: the database finds what holds by an index.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_holds_is_found_without_reading_what_is_over() {
    let (_database, pool) = database().await;
    let (user, chat) = (UserId::generate(), ChatId::generate());
    sqlx::query(
        "INSERT INTO sanctions (sanction_id, user_id, chat_id, kind, until_ms, body)
         SELECT gen_random_uuid(), $1, $2, CASE WHEN n % 2 = 0 THEN 'warning' ELSE 'mute' END,
                CASE WHEN n % 2 = 0 THEN 9999999 ELSE n END, '{}'::JSONB
         FROM generate_series(1, 20000) AS n",
    )
    .bind(user.0)
    .bind(chat.0)
    .execute(&pool)
    .await
    .expect("rows");
    sqlx::query("ANALYZE sanctions").execute(&pool).await.expect("figures");
    sqlx::query("INSERT INTO standings (user_id, chat_id, version) VALUES ($1, $2, 1)")
        .bind(user.0)
        .bind(chat.0)
        .execute(&pool)
        .await
        .expect("a row");
    let plan: Vec<String> = sqlx::query_scalar(
        "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF)
         SELECT kind, max(until_ms) FROM sanctions
         WHERE user_id = $1 AND chat_id = $2 AND NOT is_lifted AND kind <> 'warning' AND until_ms > $3
         GROUP BY kind",
    )
    .bind(user.0)
    .bind(chat.0)
    .bind(30_000_i64)
    .fetch_all(&pool)
    .await
    .expect("a plan");
    assert!(plan.iter().any(|line| line.contains("sanctions_in_force")), "{plan:#?}");
    // The bodies are of no sanction: they are not read.
    let store = PostgresStore::new(pool);
    let claimed = store.claim_standings(30_000, 40_000, 10).await.expect("a claim");
    assert_eq!((claimed.len(), claimed[0].silent_until_ms), (1, None));
}

/// Lists of all states and claims read as much as they return, however much there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_and_claims_are_read_from_an_index() {
    let (_database, pool) = database().await;
    for statement in [
        "INSERT INTO reports (report_id, chat_id, seq, by_id, state, created_at_ms, body, sender_id)
         SELECT gen_random_uuid(), gen_random_uuid(), n, gen_random_uuid(), 'open', n, '{}'::JSONB, gen_random_uuid()
         FROM generate_series(1, 20000) AS n",
        "INSERT INTO sanctions (sanction_id, user_id, chat_id, kind, until_ms, body)
         SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'mute', n, '{}'::JSONB
         FROM generate_series(1, 20000) AS n",
        "INSERT INTO appeals (appeal_id, sanction_id, user_id, state, body)
         SELECT gen_random_uuid(), sanction_id, user_id, 'open', '{}'::JSONB FROM sanctions",
        "INSERT INTO deletions (chat_id, seq, claimed_until_ms)
         SELECT gen_random_uuid(), n, n FROM generate_series(1, 20000) AS n",
        "ANALYZE reports, appeals, deletions",
    ] {
        sqlx::query(statement).execute(&pool).await.expect("rows");
    }
    for (statement, index) in [
        (
            "EXPLAIN SELECT place, body FROM reports WHERE place > 100 ORDER BY place LIMIT 50",
            "reports_by_place",
        ),
        (
            "EXPLAIN SELECT place, body FROM appeals WHERE place > 100 ORDER BY place LIMIT 50",
            "appeals_by_place",
        ),
        (
            "EXPLAIN SELECT chat_id, seq FROM deletions WHERE claimed_until_ms <= 19000
             ORDER BY claimed_until_ms LIMIT 200 FOR UPDATE SKIP LOCKED",
            "deletions_by_claim",
        ),
    ] {
        let plan: Vec<String> = sqlx::query_scalar(statement).fetch_all(&pool).await.expect("a plan");
        assert!(plan.iter().any(|line| line.contains(index)), "{plan:#?}");
    }
}

async fn a_deletion_is_claimed_by_one_process_at_a_time(store: Store) {
    let chat = ChatId::generate();
    let (one, two) = (Deletion { chat, seq: 1 }, Deletion { chat, seq: 2 });
    act(&store, &[Change::Deleted(one), Change::Deleted(two), Change::Deleted(one)]).await;
    let claim = async |now_ms: i64, limit: usize| {
        store.claim_deletions(now_ms, now_ms + 10, limit).await.expect("a claim")
    };
    let first = claim(100, 1).await;
    let second = claim(100, 10).await;
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_ne!(first, second);
    assert!(claim(109, 10).await.is_empty());
    store.finish_deletion(first[0]).await.expect("it is noted");
    assert_eq!(claim(110, 10).await, second);
}

async fn lists_go_on_where_they_stopped(store: Store) {
    let user = UserId::generate();
    let sanctions: Vec<_> = (0..3).map(|n| sanction(user, None, SanctionKind::Mute, Some(n + 1))).collect();
    let changes: Vec<_> = sanctions.iter().cloned().map(Change::Sanctioned).collect();
    act(&store, &changes).await;
    let page = store.sanctions(Some(user), i64::MAX, 2).await.expect("a read");
    assert_eq!([&page[0].1, &page[1].1], [&sanctions[2], &sanctions[1]]);
    let rest = store.sanctions(None, page[1].0, 2).await.expect("a read");
    assert_eq!(rest.iter().map(|(_, sanction)| sanction).collect::<Vec<_>>(), [&sanctions[0]]);
    let chat = ChatId::generate();
    let reports: Vec<_> = (1..4).map(|seq| report(user, chat, seq)).collect();
    let changes: Vec<_> = reports.iter().cloned().map(Change::Reported).collect();
    act(&store, &changes).await;
    let page = store.reports(None, 0, 2).await.expect("a read");
    assert_eq!([&page[0].1, &page[1].1], [&reports[0], &reports[1]]);
    let rest = store.reports(Some(ReportState::Open), page[1].0, 2).await.expect("a read");
    assert_eq!(rest.iter().map(|(_, report)| report).collect::<Vec<_>>(), [&reports[2]]);
}

async fn the_audit_log_is_narrowed(store: Store) {
    let [ann, ben, eve] = [0; 3].map(|_| UserId::generate());
    let noted = |at_ms: i64, by: Option<UserId>, action: &'static str, user: UserId| {
        Change::Noted(Audit { at_ms, by, action, subject: at_ms.to_string(), user: Some(user) })
    };
    act(&store, &[noted(1, Some(ann), "one", ben), noted(2, None, "two", eve)]).await;
    act(&store, &[noted(3, Some(ann), "two", eve), noted(4, Some(ben), "one", eve)]).await;
    let any = AuditFilter::default();
    for (filter, expected) in [
        (any.clone(), vec!["4", "3", "2", "1"]),
        (AuditFilter { by: Some(ann), ..any.clone() }, vec!["3", "1"]),
        (AuditFilter { user: Some(eve), ..any.clone() }, vec!["4", "3", "2"]),
        (AuditFilter { action: Some("two".to_owned()), ..any.clone() }, vec!["3", "2"]),
        (AuditFilter { action: Some("three".to_owned()), ..any.clone() }, vec![]),
        (AuditFilter { from_ms: Some(2), to_ms: Some(4), ..any.clone() }, vec!["3", "2"]),
        (AuditFilter { by: Some(ann), user: Some(eve), ..any.clone() }, vec!["3"]),
    ] {
        let found = store.audit(&filter, i64::MAX, 10).await.expect("a read");
        let subjects: Vec<_> = found.iter().map(|entry| entry.subject.as_str()).collect();
        assert_eq!(subjects, expected, "{filter:?}");
    }
    // A page goes on where the one before it stopped, under the same filter.
    let filter = AuditFilter { user: Some(eve), ..any };
    let page = store.audit(&filter, i64::MAX, 2).await.expect("a read");
    let rest = store.audit(&filter, page[1].id, 2).await.expect("a read");
    assert_eq!(rest.iter().map(|entry| entry.at_ms).collect::<Vec<_>>(), [2]);
}

async fn what_there_is_is_counted(store: Store) {
    assert_eq!(store.counts(1_000).await.expect("a read"), Counts::default());
    let [ann, ben, eve] = [0; 3].map(|_| UserId::generate());
    let chat = ChatId::generate();
    let over = sanction(ben, None, SanctionKind::Mute, Some(1_000));
    let lifted = sanction(eve, None, SanctionKind::Ban, None);
    let sanctions = [
        sanction(ann, None, SanctionKind::Mute, Some(2_000)),
        sanction(ann, None, SanctionKind::Mute, None),
        sanction(ben, Some(chat), SanctionKind::Ban, None),
        sanction(eve, None, SanctionKind::Warning, None),
        sanction(eve, None, SanctionKind::Ban, Some(2_000)),
        over,
        lifted.clone(),
    ];
    act(&store, &sanctions.map(Change::Sanctioned)).await;
    act(&store, &[Change::Lifted(Sanction { lifted: Some(decision()), ..lifted })]).await;
    let (open, decided) = (report(ann, chat, 1), report(ann, chat, 2));
    act(&store, &[Change::Reported(open), Change::Reported(decided.clone())]).await;
    let decided = Report { state: ReportState::Dismissed, decision: Some(decision()), ..decided };
    act(&store, &[Change::ReportDecided(decided)]).await;
    let (draft, enforced) =
        (rule_set(words(&["a"]), RuleSetState::Draft), rule_set(words(&["b"]), RuleSetState::Enforced));
    act(&store, &[Change::RuleSetCreated(draft), Change::RuleSetCreated(enforced.clone())]).await;
    // Two sets that catch one post caught one post.
    let action = RuleAction { delete: false, report: false, sanction: None };
    let other = RuleSetId::generate();
    let verdicts = [(enforced.id, 1), (other, 1), (other, 2)]
        .map(|(set, seq)| Verdict { action: action.clone(), ..verdict(set, chat, seq, ann) });
    let batch = Batch { next_offset: 1, verdicts: verdicts.to_vec(), now_ms: 1_000, ..Batch::default() };
    store.record(&batch).await.expect("it is written");
    let expected = Counts {
        open_reports: 1,
        open_appeals: 0,
        muted_users: 1,
        banned_users: 1,
        enforced_rule_sets: 1,
        caught: 2,
    };
    assert_eq!(store.counts(1_000).await.expect("a read"), expected);
    let later = Counts { banned_users: 0, ..expected };
    assert_eq!(
        store.counts(2_000).await.expect("a read"),
        later,
        "a ban for a time is over, and a mute for good is not"
    );
}

async fn what_is_old_is_forgotten(store: Store) {
    let (set, chat, ann) = (RuleSetId::generate(), ChatId::generate(), UserId::generate());
    let batch = Batch {
        partition: 0,
        next_offset: 1,
        windows: HashMap::from([((chat, ann), Window { last_seq: 1, times_ms: vec![1_000] })]),
        verdicts: vec![verdict(set, chat, 1, ann)],
        questions: Vec::new(),
        now_ms: 2_000,
    };
    store.record(&batch).await.expect("it is written");
    assert_eq!(store.forget(1_000, 2_000).await.expect("a change"), 0);
    assert_eq!(store.forget(1_001, 2_001).await.expect("a change"), 2);
    assert_eq!(store.figures(set).await.expect("a read").caught, 0);
    assert_eq!(store.sanctions(None, i64::MAX, 10).await.expect("a read").len(), 1, "what was decided stays");
}

async fn much_that_is_old_is_forgotten_at_once(store: Store) {
    let (set, chat) = (RuleSetId::generate(), ChatId::generate());
    let mut batch = Batch { partition: 0, next_offset: 1, now_ms: 2_000, ..Batch::default() };
    for seq in 1..=2_500 {
        let sender = UserId::generate();
        batch.windows.insert((chat, sender), Window { last_seq: seq, times_ms: vec![1_000, 1_500] });
        let action = RuleAction { delete: false, report: false, sanction: None };
        batch.verdicts.push(Verdict { action, ..verdict(set, chat, seq, sender) });
    }
    store.record(&batch).await.expect("it is written");
    let (of, window) = batch.windows.iter().next().expect("a window");
    assert_eq!(store.windows(&[*of]).await.expect("a read").get(of), Some(window));
    assert_eq!(store.forget(1_001, 2_001).await.expect("a change"), 5_000);
    assert!(store.windows(&[*of]).await.expect("a read").is_empty());
}

async fn rules_report_a_sender_once_until_it_is_decided(store: Store) {
    let (set, chat, ann) = (RuleSetId::generate(), ChatId::generate(), UserId::generate());
    let caught = async |seq: i64, rules: &[&str], sender: UserId| {
        let rules = rules.iter().map(|rule| (*rule).to_owned()).collect();
        let action = RuleAction { delete: false, report: true, sanction: None };
        let verdicts = vec![Verdict { rules, action, ..verdict(set, chat, seq, sender) }];
        let batch = Batch { partition: 0, next_offset: seq, verdicts, ..Batch::default() };
        store.record(&batch).await.expect("it is written");
        store.reports(None, 0, 100).await.expect("a read").len()
    };
    assert_eq!(caught(1, &["a"], ann).await, 1);
    for seq in 2..20 {
        assert_eq!(caught(seq, &["a"], ann).await, 1);
    }
    assert_eq!(caught(20, &["a", "b"], ann).await, 2, "by other rules");
    assert_eq!(caught(21, &["a"], UserId::generate()).await, 3, "another sender");
    let (_, first) = store.reports(None, 0, 1).await.expect("a read").remove(0);
    let decided = Report { state: ReportState::Dismissed, decision: Some(decision()), ..first };
    act(&store, &[Change::ReportDecided(decided)]).await;
    assert_eq!(caught(22, &["a"], ann).await, 4, "it was decided about the first");
    assert_eq!(store.figures(set).await.expect("a read").reports, 22, "all of them are in the figures");
    assert_eq!(all_noted(&store).await.len(), 4, "what is not made is not noted");
}

async fn what_is_created_twice_is_refused_with_all_that_comes_with_it(store: Store) {
    let (user, chat) = (UserId::generate(), ChatId::generate());
    let audit =
        || Change::Noted(Audit { at_ms: 1, by: None, action: "x", subject: "y".to_owned(), user: None });
    let set = rule_set(words(&["scam"]), RuleSetState::Draft);
    let of = sanction(user, Some(chat), SanctionKind::Mute, None);
    for change in
        [Change::RuleSetCreated(set), Change::Sanctioned(of), Change::Reported(report(user, chat, 3))]
    {
        act(&store, &[change.clone(), audit()]).await;
        let before = all_noted(&store).await.len();
        assert_eq!(refused(&store, &[change, audit()]).await, Refusal::Known);
        assert_eq!(all_noted(&store).await.len(), before, "it is not noted");
    }
}

/// Two requests with one key, as two processes take them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_are_created_at_once_one_is_refused() {
    let (_database, pool) = database().await;
    let store: Store = Arc::new(PostgresStore::new(pool));
    for _ in 0..20 {
        let set = rule_set(words(&["scam"]), RuleSetState::Draft);
        let change = [Change::RuleSetCreated(set)];
        let outcomes = tokio::join!(store.act(&change), store.act(&change));
        let refused =
            |outcome: &Result<(), StoreError>| matches!(outcome, Err(StoreError::Refused(Refusal::Known)));
        assert!(
            outcomes.0.is_ok() && refused(&outcomes.1) || outcomes.1.is_ok() && refused(&outcomes.0),
            "{outcomes:?}"
        );
    }
}

async fn what_is_remembered_of_a_deleted_account_goes(store: Store) {
    let (chat, ann, ben) = (ChatId::generate(), UserId::generate(), UserId::generate());
    let set = rule_set(words(&["scam"]), RuleSetState::Draft);
    act(&store, &[Change::RuleSetCreated(set.clone())]).await;
    let sample = |sender: UserId, seq: i64| Sample {
        rule: "words".to_owned(),
        chat,
        seq,
        sender,
        sent_at_ms: 1,
        text: "scam".to_owned(),
    };
    let run = ShadowRun {
        rule_set: set.id,
        state: ShadowState::Done,
        days: 1,
        started_at_ms: 100,
        finished_at_ms: Some(200),
        from_ms: None,
        judged: 3,
        unjudged: 0,
        figures: Figures::default(),
        samples: vec![sample(ben, 1), sample(ann, 2), sample(ben, 3)],
    };
    store.put_shadow_run(&run).await.expect("it is written");
    let window = |last_seq| Window { last_seq, times_ms: vec![1] };
    let windows = HashMap::from([((chat, ann), window(2)), ((chat, ben), window(3))]);
    let batch = Batch { partition: 0, next_offset: 4, windows, ..Batch::default() };
    store.record(&batch).await.expect("it is written");
    let bans = [ann, ben].map(|user| Change::Sanctioned(sanction(user, None, SanctionKind::Ban, None)));
    act(&store, &bans).await;
    for _ in 0..2 {
        store.erase(ann, 300).await.expect("a change");
    }
    let kept = ShadowRun { samples: vec![sample(ben, 1), sample(ben, 3)], ..run };
    assert_eq!(store.shadow_run(set.id).await.expect("a read"), Some(kept.clone()));
    let windows = store.windows(&[(chat, ann), (chat, ben)]).await.expect("a read");
    assert_eq!(windows.into_keys().collect::<Vec<_>>(), [(chat, ben)]);
    let claimed = store.claim_standings(1, 2, 10).await.expect("a claim");
    assert_eq!(claimed.iter().map(|standing| standing.place.user).collect::<Vec<_>>(), [ben]);
    let [(_, of_ann)] =
        store.sanctions(Some(ann), i64::MAX, 10).await.expect("a read").try_into().expect("it stays");
    assert_eq!(
        of_ann.lifted.map(|lifted| (lifted.by, lifted.at_ms)),
        Some((None, 300)),
        "it holds for nobody"
    );
    let [(_, of_ben)] =
        store.sanctions(Some(ben), i64::MAX, 10).await.expect("a read").try_into().expect("one");
    assert_eq!(of_ben.lifted, None);
    let noted = all_noted(&store).await;
    let noted: Vec<_> =
        noted.iter().map(|entry| (entry.action.as_str(), entry.subject.clone(), entry.user)).collect();
    assert_eq!(noted, [("sanction_lifted", of_ann.id.to_string(), Some(ann))], "once");
    store.forget_samples(100).await.expect("a change");
    assert_eq!(store.shadow_run(set.id).await.expect("a read"), Some(kept.clone()));
    store.forget_samples(101).await.expect("a change");
    let empty = ShadowRun { samples: Vec::new(), ..kept };
    assert_eq!(store.shadow_run(set.id).await.expect("a read"), Some(empty));
    assert_eq!(store.deletions_position().get().await.expect("a read"), None);
    for position in ["7", "8"] {
        store.deletions_position().set(position).await.expect("a change");
        assert_eq!(store.deletions_position().get().await.expect("a read").as_deref(), Some(position));
    }
}

async fn a_question_is_claimed_and_answered_once(store: Store) {
    let (chat, ann, ben) = (ChatId::generate(), UserId::generate(), UserId::generate());
    let set = rule_set(words(&["scam"]), RuleSetState::Enforced);
    act(&store, &[Change::RuleSetCreated(set.clone())]).await;
    let questions = vec![question(chat, 1, ann), question(chat, 2, ben), question(chat, 3, ann)];
    let verdicts = vec![verdict(set.id, chat, 1, ann)];
    let batch =
        Batch { partition: 0, next_offset: 4, questions, verdicts, now_ms: 1_000, ..Batch::default() };
    store.record(&batch).await.expect("it is written");
    let claim = async |now_ms, limit| {
        let claimed = store.claim_questions(now_ms, now_ms + 10, limit).await.expect("a change");
        let mut seqs: Vec<_> = claimed.iter().map(|question| question.entry_seq).collect();
        seqs.sort();
        (seqs, claimed)
    };
    let (seqs, claimed) = claim(5, 10).await;
    assert_eq!(seqs, [1, 2, 3]);
    assert!(claimed.contains(&question(chat, 1, ann)), "it is as it was written");
    assert_eq!(claim(14, 10).await.0, Vec::<i64>::new());
    assert_eq!(claim(15, 2).await.0.len(), 2);
    // The verdict of the classifier is beside that of the other rules, and both are of one post.
    let by_classifier = Verdict {
        by_classifier: true,
        rules: vec!["c".to_owned()],
        action: RuleAction { delete: true, ..RuleAction::default() },
        ..verdict(set.id, chat, 1, ann)
    };
    for is_first in [true, false] {
        let answered =
            store.answer(&question(chat, 1, ann), &Scores::default(), slice::from_ref(&by_classifier)).await;
        assert_eq!(answered.expect("a change"), is_first);
    }
    let figures = store.figures(set.id).await.expect("a read");
    assert_eq!((figures.caught, figures.deletions, figures.reports), (1, 1, 1));
    assert_eq!(figures.rules.len(), 3);
    // The log is read again: what was answered is not asked.
    store.record(&batch).await.expect("it is written");
    assert_eq!(claim(100, 10).await.0, [2, 3]);
    store.erase(ben, 300).await.expect("a change");
    assert_eq!(claim(200, 10).await.0, [3]);
    assert_eq!(store.give_up_questions(1_000).await.expect("a change"), 0);
    assert_eq!(store.give_up_questions(1_001).await.expect("a change"), 1);
    store.record(&Batch { now_ms: 9_000, ..batch.clone() }).await.expect("it is written");
    assert_eq!(claim(300, 10).await.0, [2], "what was given up is not asked again");
    // What waits stays, however old.
    assert_eq!(store.forget(1_000, 0).await.expect("a change"), 0);
    assert_eq!(store.forget(1_001, 0).await.expect("a change"), 4, "two verdicts and two answers");
}
