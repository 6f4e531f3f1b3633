//! Who is connected, and who may see it. Rules only: no I/O, no clock.

mod board;
mod samples;
mod visibility;

pub use self::{
    board::{Applied, Board, Changes, GatewayId, Shown},
    samples::{Samples, sampled, sampler},
    visibility::{VisibleTo, may_see},
};
