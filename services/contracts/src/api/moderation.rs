//! Bodies of moderation: rule sets, reports, sanctions, appeals, and what was done.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    AppealId, ChatId, ReportId, RuleSetId, SanctionId, UserId,
    event::is_false,
    word::{whole, whole_or_null, word},
};

/// `POST /api/moderation/rule-sets`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRuleSetRequest {
    #[schema(min_length = 1, max_length = 64)]
    pub name: String,
    /// Each is judged by itself. Of what those want that a message is caught by, the strictest is done.
    #[schema(min_items = 1, max_items = 100)]
    pub rules: Vec<Rule>,
}

/// What a message is caught by, and what is done then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// No two rules of a set have one name.
    #[schema(min_length = 1, max_length = 64)]
    pub name: String,
    pub test: RuleTest,
    pub action: RuleAction,
}

/// What a message is caught by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleTest {
    /// It has one of these words or phrases.
    Words(WordsRule),
    /// It has a part that the pattern describes.
    Pattern(PatternRule),
    /// It has a link.
    Links(LinksRule),
    /// Its sender has written too much in the chat.
    Rate(RateRule),
    /// It has a file.
    Attachments(AttachmentsRule),
    /// The tenant's classifier gives it a label.
    Classifier(ClassifierRule),
}

/// Words and phrases, as whole words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WordsRule {
    /// At most 10,000 in a set. Case, width, accents and invisible characters do not count.
    #[schema(min_items = 1, max_items = 10_000)]
    pub words: Vec<String>,
    /// Letters of other scripts and digits that look alike are told apart, and so are letters that are repeated or stand alone. Otherwise they
    /// are not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub exact: bool,
}

/// A regular expression without look-around and references to groups. It is compared with the text in lower case, without invisible characters, and
/// once more with all that looks like a Latin letter as that letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatternRule {
    #[schema(min_length = 1, max_length = 500)]
    pub pattern: String,
}

/// Links by the domains that they lead to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinksRule {
    /// Each with all domains below it.
    #[schema(max_items = 1_000)]
    pub domains: Vec<String>,
    /// These are the ones that are allowed: a link to any other is caught.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_only: bool,
}

/// More than so many messages of one user in one chat within a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateRule {
    #[schema(minimum = 1, maximum = 99)]
    #[serde(deserialize_with = "whole")]
    pub messages: u32,
    #[schema(minimum = 1, maximum = 3_600)]
    #[serde(deserialize_with = "whole")]
    pub seconds: u32,
}

/// Files by their media types.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachmentsRule {
    /// Such as `image/png` or `image/*`.
    #[schema(max_items = 100)]
    pub types: Vec<String>,
    /// These are the ones that are allowed: a file of any other is caught.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_only: bool,
}

/// A label of the tenant's classifier (`spec.moderation.classifier`). It is asked after all other rules have judged, which do not wait for it; what follows
/// from its answer comes beside what followed from them. A set with such a rule is enforced where the tenant has a classifier, and a shadow run asks none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassifierRule {
    #[schema(min_length = 1, max_length = 64)]
    pub label: String,
    /// The least score that is caught, in percent.
    #[schema(minimum = 1, maximum = 100)]
    #[serde(deserialize_with = "whole")]
    pub percent: u32,
}

/// What is done with a message that is caught, and with its sender.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleAction {
    /// The message loses its text and files, for good.
    #[serde(default, skip_serializing_if = "is_false")]
    pub delete: bool,
    /// The moderators see it among the reports.
    #[serde(default, skip_serializing_if = "is_false")]
    pub report: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sanction: Option<SanctionTerms>,
}

/// What a user gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SanctionTerms {
    pub kind: SanctionKind,
    /// In the whole messenger, and not in the chat alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub everywhere: bool,
    /// For so long; for good when absent. Of a warning it has no effect.
    #[schema(minimum = 1, maximum = 315_360_000)]
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_or_null")]
    pub seconds: Option<u32>,
}

/// How strict a sanction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum SanctionKind {
    /// The user reads of it.
    Warning,
    /// The user writes nothing.
    Mute,
    /// The user is out of the chat and writes nothing there; everywhere: the account is closed.
    Ban,
}

word!(SanctionKind);

/// How far a rule set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleSetState {
    /// It catches nothing; a shadow run shows what it would do.
    Draft,
    Enforced,
    /// It was enforced once, and catches nothing any more.
    Retired,
}

/// Rules that are judged together. They never change: other rules are another set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleSet {
    pub id: RuleSetId,
    pub name: String,
    pub rules: Vec<Rule>,
    pub state: RuleSetState,
    pub created_by: UserId,
    /// Milliseconds since the epoch; likewise the next two.
    pub created_at_ms: i64,
    /// Messages that were sent from then on are judged, by the log's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforced_from_ms: Option<i64>,
    /// Messages that were sent from then on are not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_from_ms: Option<i64>,
}

/// What a rule set did, or would have done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Figures {
    /// Messages and edits that were caught by any rule.
    pub caught: i64,
    /// Of them, those that were deleted.
    pub deletions: i64,
    /// Likewise, that were reported.
    pub reports: i64,
    /// Likewise, whose senders got a sanction.
    pub sanctions: i64,
    /// By name.
    pub rules: Vec<RuleFigures>,
}

/// How much one rule caught.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleFigures {
    pub rule: String,
    pub caught: i64,
}

/// `POST /api/moderation/rule-sets/{rule_set}/shadow`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShadowRequest {
    /// The log of so many days is judged, as far as it is kept.
    #[schema(minimum = 1, maximum = 90)]
    #[serde(deserialize_with = "whole")]
    pub days: u32,
}

/// How far a shadow run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShadowState {
    Running,
    Done,
    /// The process ended before the run, or the log did not answer: begin it again.
    Failed,
}

/// What a rule set would have done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowRun {
    pub rule_set: RuleSetId,
    pub state: ShadowState,
    pub days: u32,
    /// Milliseconds since the epoch; likewise the next.
    pub started_at_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at_ms: Option<i64>,
    /// When the first message was sent that was judged: the log may not reach back as far as was wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_ms: Option<i64>,
    /// Messages and edits that were judged.
    pub judged: i64,
    /// Of them, those that a classifier would have been asked about: rules with one are not in the figures.
    #[serde(default)]
    pub unjudged: i64,
    pub figures: Figures,
    /// The first that each rule would have caught, up to ten of each.
    pub samples: Vec<Sample>,
}

/// A message that a rule would have caught.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sample {
    pub rule: String,
    pub chat: ChatId,
    pub seq: i64,
    pub sender: UserId,
    /// Milliseconds since the epoch.
    pub sent_at_ms: i64,
    /// Its beginning.
    pub text: String,
}

/// Why a message is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum ReportReason {
    Spam,
    Abuse,
    Violence,
    Sexual,
    Illegal,
    Other,
}

word!(ReportReason);

/// `POST /api/moderation/reports`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateReportRequest {
    /// A chat of the caller.
    pub chat: ChatId,
    /// A message that the caller reads there.
    #[schema(minimum = 1)]
    #[serde(deserialize_with = "whole")]
    pub seq: i64,
    pub reason: ReportReason,
    #[schema(max_length = 1_000)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// What a message was when it was reported. It stays when the message is edited or deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    pub text: String,
    /// The names and types of its files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Milliseconds since the epoch.
    pub sent_at_ms: i64,
}

/// How far a report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum ReportState {
    Open,
    /// A moderator has done something about it.
    Upheld,
    Dismissed,
}

word!(ReportState);

/// A message that was reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    pub id: ReportId,
    pub chat: ChatId,
    pub seq: i64,
    /// Who wrote it.
    pub sender: UserId,
    /// Who reported it; absent when a rule did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
    /// Likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ReportReason>,
    /// In the words of the user, or the names of the rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    pub evidence: Evidence,
    pub state: ReportState,
    /// Milliseconds since the epoch.
    pub created_at_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
}

/// What a moderator decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Decision {
    /// The moderator; absent for a caller who is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    pub note: String,
}

/// `POST /api/moderation/reports/{report}/decision`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideReportRequest {
    /// Whether the message breaks the rules. Otherwise the next two have no effect.
    pub upheld: bool,
    /// The message loses its text and files, for good.
    #[serde(default, skip_serializing_if = "is_false")]
    pub delete: bool,
    /// What its sender gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sanction: Option<SanctionTerms>,
    /// The sender reads it with the sanction.
    #[schema(max_length = 1_000)]
    pub note: String,
}

/// `POST /api/moderation/sanctions`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSanctionRequest {
    pub user: UserId,
    /// In this chat alone; everywhere when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<ChatId>,
    pub kind: SanctionKind,
    /// For so long; for good when absent.
    #[schema(minimum = 1, maximum = 315_360_000)]
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_or_null")]
    pub seconds: Option<u32>,
    /// The user reads it.
    #[schema(max_length = 1_000)]
    pub note: String,
}

/// A warning, a mute or a ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sanction {
    pub id: SanctionId,
    pub user: UserId,
    /// Where it holds; everywhere when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<ChatId>,
    pub kind: SanctionKind,
    /// Milliseconds since the epoch; for good when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
    /// The words of the moderator, or the names of the rules.
    pub note: String,
    /// The moderator; absent when a rule did it, and for a caller who is no moderator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
    /// Milliseconds since the epoch.
    pub created_at_ms: i64,
    /// Who took it back, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifted: Option<Decision>,
}

/// `POST /api/moderation/sanctions/{sanction}/lift`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LiftRequest {
    #[schema(max_length = 1_000)]
    pub note: String,
}

/// `POST /api/moderation/appeals`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAppealRequest {
    /// One of the caller's.
    pub sanction: SanctionId,
    #[schema(min_length = 1, max_length = 2_000)]
    pub text: String,
}

/// How far an appeal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", remote = "Self")]
pub enum AppealState {
    Open,
    /// The sanction was lifted.
    Accepted,
    Refused,
}

word!(AppealState);

/// The appeal of a user against a sanction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Appeal {
    pub id: AppealId,
    pub sanction: SanctionId,
    pub user: UserId,
    pub text: String,
    pub state: AppealState,
    /// Milliseconds since the epoch.
    pub created_at_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
}

/// `POST /api/moderation/appeals/{appeal}/decision`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideAppealRequest {
    /// The sanction is lifted.
    pub accepted: bool,
    /// The user reads it.
    #[schema(max_length = 1_000)]
    pub note: String,
}

/// `GET /api/moderation/own`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnModeration {
    /// Whether the caller is a moderator.
    pub moderates: bool,
    /// The caller's sanctions, the newest first: the last 100.
    pub sanctions: Vec<Sanction>,
    /// The caller's appeals against them.
    pub appeals: Vec<Appeal>,
}

/// Something that was done, and by whom. Entries are never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its place: greater ones are later.
    pub id: i64,
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    /// The moderator, or the user who reported or appealed; absent when a rule did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
    /// Such as `sanction_created`.
    pub action: String,
    /// The id of the report, sanction, appeal, rule set or session; of a message its chat and seq.
    pub subject: String,
    /// The user whom it concerns, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
}

/// A session of a user that goes on, as moderators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserSession {
    pub session_id: String,
    /// When it was signed in, in milliseconds since the epoch.
    pub started_at_ms: i64,
    /// When it was signed in or refreshed last, in milliseconds since the epoch.
    pub last_used_at_ms: i64,
}

/// A moderator, as the manifest of the tenant names them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamedModerator {
    /// A username, or `id:` and the id of a user.
    pub named: String,
    /// The user, also one whose account is deleted. Absent while there is none: a username is then that of the first user who registers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
}

/// `GET /api/moderation/usage`: how much there is, or was half a minute ago at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantUsage {
    /// Users whose accounts are not deleted.
    pub users: i64,
    pub open_reports: i64,
    pub open_appeals: i64,
    /// Users who are muted in the whole messenger; likewise the next.
    pub muted_users: i64,
    pub banned_users: i64,
    pub enforced_rule_sets: i64,
    /// Messages and edits that rules caught in the last 90 days.
    pub caught: i64,
}
