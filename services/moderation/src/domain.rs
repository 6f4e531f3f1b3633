//! Rules and what they decide. No I/O, no clock.

mod change;
mod classified;
mod judge;
pub mod links;
mod post;
mod shadow;
mod standing;
mod text;

pub(crate) use self::judge::check_terms;
pub use self::{
    change::{Audit, Change, Deletion, Verdict, changes_of, derived_id, sanction},
    classified::{Question, Scores, asks, classify},
    judge::{
        Judge, Judgement, MAX_ENFORCED_PATTERNS, MAX_ENFORCED_PROGRAM_BYTES, MAX_PATTERNS, MAX_RULES,
        MAX_WORDS, check, counts, fit_together,
    },
    post::{MAX_REMEMBERED, Post, Window},
    shadow::{MAX_SAMPLES, Shadow, Tally},
    standing::{FOR_GOOD_MS, Place, Scope, Standing, end_ms, next_change_ms, standing},
    text::Folded,
};
