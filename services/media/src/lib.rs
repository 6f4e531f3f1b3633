//! The media service: the files of a tenant's users, from the upload to the end of the last message that has them.

pub mod pictures;
pub mod preview;
pub mod scan;
pub mod sniff;
pub mod video;
