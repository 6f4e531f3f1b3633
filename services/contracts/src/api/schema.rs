//! What is allowed in a text, for JSON Schema: whatever a schema allows is taken.

use std::{borrow::Cow, ops::RangeInclusive};

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ArrayBuilder, KnownFormat, Object, ObjectBuilder, OneOfBuilder, Ref, RefOr, Schema, SchemaFormat,
        Type,
        schema::{AdditionalProperties, Array, SchemaType},
    },
};

use super::{CreateChatRequest, MAX_TTL_SECONDS, MIN_TTL_SECONDS};

/// Most members that a new group is created with, beside its founder.
pub const FOUNDED_MEMBERS: usize = 999;

/// Control characters, line ends and bidirectional formatting: refused in every name.
const HARMFUL: &str = r"\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069";
/// The same but for the line breaks and tabs of a longer text.
const HARMFUL_IN_LINES: &str =
    r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u0084\u0086-\u009f\u202a-\u202e\u2066-\u2069";
/// What leaves no mark: blanks, fillers, joiners and combining marks.
const INVISIBLE: &str = concat!(
    r"\s\u00ad\u0300-\u036f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202f\u205f-\u206f",
    r"\u20d0-\u20ff\u2800\u3000\u3164\ufe00-\ufe0f\ufe20-\ufe2f\ufeff\uffa0\ufff0-\uffff",
);

fn text(chars: RangeInclusive<usize>) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(*chars.start()))
        .max_length(Some(*chars.end()))
}

/// A text on one line with something to see.
fn line(max_chars: usize) -> ObjectBuilder {
    text(1..=max_chars).pattern(Some(format!("^[^{HARMFUL}]*[^{HARMFUL}{INVISIBLE}][^{HARMFUL}]*$")))
}

fn secret(min_chars: usize, pattern: String) -> ObjectBuilder {
    // A character has at most four bytes.
    text(min_chars..=64).pattern(Some(pattern)).format(Some(SchemaFormat::KnownFormat(KnownFormat::Password)))
}

pub(super) fn new_username() -> Object {
    text(3..=32).pattern(Some("^[a-z][a-z0-9._-]{2,31}$")).build()
}

/// A username in any form that is taken.
pub(super) fn username() -> Object {
    line(255).build()
}

/// Such a username as a parameter, for its description alone.
#[derive(Debug)]
pub struct TypedUsername;

impl PartialSchema for TypedUsername {
    fn schema() -> RefOr<Schema> {
        username().into()
    }
}

impl ToSchema for TypedUsername {}

pub(super) fn new_password() -> Object {
    // Spaces alone are none.
    secret(8, format!(r"^[^{HARMFUL}]*[^{HARMFUL}\s][^{HARMFUL}]*$")).build()
}

/// An e-mail address, as far as a pattern says it.
pub(super) fn email() -> Object {
    let (word, label) =
        ("[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,12}", "[A-Za-z0-9]([A-Za-z0-9-]{0,12}[A-Za-z0-9])?");
    text(1..=100)
        .pattern(Some(format!(r"^{word}(\.{word}){{0,2}}@({label}\.){{1,2}}{label}$")))
        .format(Some(SchemaFormat::Custom("email".to_owned())))
        .build()
}

/// The token of a link in a mail.
pub(super) fn link_token() -> Object {
    text(43..=43).pattern(Some("^[A-Za-z0-9_-]{43}$")).build()
}

pub(super) fn password() -> Object {
    secret(1, format!("^[^{HARMFUL}]*$")).build()
}

/// `null` is as good as absent.
fn or_null(text: ObjectBuilder) -> Object {
    text.schema_type(SchemaType::from_iter([Type::String, Type::Null])).build()
}

pub(super) fn display_name() -> Object {
    or_null(line(64))
}

fn title() -> Object {
    line(128).build()
}

pub(super) fn new_title() -> Object {
    or_null(line(128))
}

/// `null` is as good as absent.
fn history() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .enum_values(Some([Some("from_entry"), Some("all"), None]))
        .description(Some("What members who are added later read. When absent, `from_entry` in a group and `all` in a channel"))
        .build()
}

/// `null` is as good as absent.
fn visibility() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .enum_values(Some([Some("private"), Some("public"), None]))
        .description(Some("Who finds it and joins it: those who are added or have an invite link, or every user. `private` when absent"))
        .build()
}

pub(super) fn about() -> Object {
    or_null(text(0..=500).pattern(Some(format!("^[^{HARMFUL_IN_LINES}]*$"))))
}

pub(super) fn ttl_seconds() -> Schema {
    let of = |kind| ObjectBuilder::new().schema_type(kind);
    let seconds = |least, most| of(Type::Integer).minimum(Some(least)).maximum(Some(most));
    OneOfBuilder::new()
        .item(seconds(0, 0))
        .item(seconds(MIN_TTL_SECONDS, MAX_TTL_SECONDS))
        .item(of(Type::Null))
        .description(Some(
            "How long after it was sent a text disappears, from now on: 60 seconds to a year, or 0 for never. In a direct chat either of the two\nchanges it.",
        ))
        .build()
        .into()
}

pub(super) fn status_text() -> Object {
    or_null(line(100))
}

/// Some that are emoji in every version of Unicode; more are taken.
pub(super) fn emoji() -> Object {
    or_null(text(1..=1).pattern(Some("^[\u{1f600}-\u{1f64f}\u{1f680}-\u{1f6c5}]$")))
}

/// An object of [`SettingsValue`]s.
pub(super) struct SettingsObject;

/// Any JSON value whose texts have no U+0000.
struct SettingsValue;

impl ToSchema for SettingsObject {
    fn name() -> Cow<'static, str> {
        "SettingsObject".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((SettingsValue::name().into_owned(), SettingsValue::schema()));
    }
}

impl PartialSchema for SettingsObject {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .property_names(Some(Schema::Object(without_nul().build())))
            .additional_properties(Some(Ref::from_schema_name(SettingsValue::name())))
            .into()
    }
}

impl ToSchema for SettingsValue {
    fn name() -> Cow<'static, str> {
        "SettingsValue".into()
    }
}

impl PartialSchema for SettingsValue {
    fn schema() -> RefOr<Schema> {
        let of = |kind| ObjectBuilder::new().schema_type(kind);
        OneOfBuilder::new()
            .item(without_nul())
            .item(of(Type::Number))
            .item(of(Type::Boolean))
            .item(of(Type::Null))
            .item(ArrayBuilder::new().items(Ref::from_schema_name(Self::name())))
            .item(Ref::from_schema_name(SettingsObject::name()))
            .into()
    }
}

/// Roles that a message calls.
pub(super) fn called_roles() -> Array {
    ArrayBuilder::new()
        .items(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["owner", "admin"])))
        .max_items(Some(2))
        .unique_items(true)
        .description(Some("The roles that it calls: those who have them at its time, at most 100 members"))
        .build()
}

fn without_nul() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[^\\u0000]*$"))
}

/// The name of a file, as any device has it.
pub(super) fn file_name() -> Object {
    without_nul().min_length(Some(1)).max_length(Some(1024)).build()
}

pub(super) fn media_type() -> Object {
    let word = "[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}";
    text(3..=255).pattern(Some(format!("^{word}/{word}$"))).build()
}

/// `null` is as good as absent.
pub(super) fn sha256() -> Object {
    or_null(text(64..=64).pattern(Some("^[0-9a-f]{64}$")))
}

pub(super) fn draft() -> Object {
    without_nul().max_length(Some(1024)).build()
}

pub(super) fn body() -> Object {
    without_nul().min_length(Some(1)).max_length(Some(4096)).build()
}

pub(super) fn refresh_token() -> Object {
    text(1..=4000).pattern(Some("^[!-~]+$")).build()
}

/// An address that a push goes to. The schema allows hosts that are public whatever they resolve to.
pub(super) fn push_url() -> Object {
    text(1..=1024).pattern(Some(r"^https://[a-z]{1,20}\.example/[A-Za-z0-9_-]{0,100}$")).build()
}

/// 65 bytes in base64url, the first of which is 4.
pub(super) fn push_key() -> Object {
    text(87..=87).pattern(Some("^B[A-P][A-Za-z0-9_-]{84}[AEIMQUYcgkosw048]$")).build()
}

/// 16 bytes in base64url.
pub(super) fn push_auth() -> Object {
    text(22..=22).pattern(Some("^[A-Za-z0-9_-]{21}[AQgw]$")).build()
}

/// What Firebase Cloud Messaging calls an app.
pub(super) fn registration_token() -> Object {
    text(32..=1024).pattern(Some("^[A-Za-z0-9:_-]+$")).build()
}

/// A number in E.164.
pub(super) fn phone_number() -> Object {
    text(8..=16).pattern(Some(r"^\+[1-9][0-9]{6,14}$")).build()
}

pub(super) fn confirmation_code() -> Object {
    text(6..=6).pattern(Some("^[0-9]{6}$")).build()
}

/// The id of a subscription and a signature.
pub(super) fn subscription_token() -> Object {
    text(80..=80).pattern(Some(r"^[0-9a-f-]{36}\.[A-Za-z0-9_-]{43}$")).build()
}

pub(super) fn time_of_day() -> Object {
    text(5..=5).pattern(Some("^([01][0-9]|2[0-3]):[0-5][0-9]$")).build()
}

/// One that every messenger knows; all names of the database are taken.
pub(super) fn time_zone() -> Object {
    text(1..=64).pattern(Some("^UTC$")).build()
}

impl ToSchema for CreateChatRequest {
    fn name() -> Cow<'static, str> {
        "CreateChatRequest".into()
    }
}

/// What a chat needs depends on its kind.
impl PartialSchema for CreateChatRequest {
    fn schema() -> RefOr<Schema> {
        let kind = |name: &str| ObjectBuilder::new().schema_type(Type::String).enum_values(Some([name]));
        let members = |count: RangeInclusive<usize>, text: &str| -> Array {
            let id = SchemaFormat::KnownFormat(KnownFormat::Uuid);
            ArrayBuilder::new()
                .items(ObjectBuilder::new().schema_type(Type::String).format(Some(id)))
                .min_items(Some(*count.start()))
                .max_items(Some(*count.end()))
                .description(Some(text))
                .build()
        };
        let of = |name: &str| {
            ObjectBuilder::new()
                .property("kind", kind(name))
                .required("kind")
                .required("members")
                .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
        };
        let direct = of("direct")
            .title(Some("DirectChat"))
            .property("members", members(1..=1, "The other user; not the caller"));
        let others = "The others, users of this tenant. The caller is always a member";
        let titled = |name: &str, label: &str| {
            of(name)
                .title(Some(label))
                .property("title", title())
                .required("title")
                .property("history", history())
                .property("visibility", visibility())
                .property("members", members(0..=FOUNDED_MEMBERS, others))
        };
        OneOfBuilder::new()
            .item(direct)
            .item(titled("group", "GroupChat"))
            .item(titled("channel", "Channel"))
            .description(Some("A direct chat with one user, or a group or channel with a title"))
            .into()
    }
}
