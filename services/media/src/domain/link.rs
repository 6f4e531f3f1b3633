//! Links to files: short-lived, signed, and bound to a user.

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use contracts::{FileId, UserId};
use uuid::Uuid;

/// The form of a link, so that another one may come.
const FORM: u8 = 1;
const PAYLOAD_BYTES: usize = 1 + 1 + 16 + 16 + 8;
const SIGNATURE_BYTES: usize = 32;

/// What is fetched of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Content,
    Thumbnail,
}

/// What a link says. It opens nothing by itself: whether the user may read the file is checked at each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub file_id: FileId,
    pub variant: Variant,
    pub user_id: UserId,
    pub expires_at: DateTime<Utc>,
}

/// What signs links.
#[derive(Clone)]
pub struct LinkKey(hmac::Key);

impl LinkKey {
    pub fn new(key: hmac::Key) -> Self {
        Self(key)
    }

    /// Returns the token of a link.
    pub fn token(&self, link: &Link) -> String {
        let mut bytes = Vec::with_capacity(PAYLOAD_BYTES + SIGNATURE_BYTES);
        bytes.extend([FORM, variant_byte(link.variant)]);
        bytes.extend(link.file_id.0.as_bytes());
        bytes.extend(link.user_id.0.as_bytes());
        bytes.extend(link.expires_at.timestamp().to_be_bytes());
        let signature = hmac::sign(&self.0, &bytes);
        bytes.extend(signature.as_ref());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token; `None` for one that is not ours, and for one that has expired.
    pub fn read(&self, token: &str, now: DateTime<Utc>) -> Option<Link> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
        let (payload, signature) = bytes.split_at_checked(PAYLOAD_BYTES)?;
        // It compares in constant time.
        hmac::verify(&self.0, payload, signature).ok()?;
        let (form, rest) = payload.split_first()?;
        let (variant, rest) = rest.split_first()?;
        let (file, rest) = rest.split_first_chunk()?;
        let (user, rest) = rest.split_first_chunk()?;
        let expires_at = DateTime::from_timestamp(i64::from_be_bytes(rest.try_into().ok()?), 0)?;
        let link = Link {
            file_id: FileId(Uuid::from_bytes(*file)),
            variant: [Variant::Content, Variant::Thumbnail]
                .into_iter()
                .find(|of| variant_byte(*of) == *variant)?,
            user_id: UserId(Uuid::from_bytes(*user)),
            expires_at,
        };
        (*form == FORM && now < expires_at).then_some(link)
    }
}

const fn variant_byte(variant: Variant) -> u8 {
    match variant {
        Variant::Content => 0,
        Variant::Thumbnail => 1,
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn key(text: &str) -> LinkKey {
        LinkKey::new(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()))
    }

    fn link() -> Link {
        Link {
            file_id: FileId(Uuid::from_u128(1)),
            variant: Variant::Thumbnail,
            user_id: UserId(Uuid::from_u128(2)),
            expires_at: DateTime::UNIX_EPOCH + TimeDelta::seconds(100),
        }
    }

    #[test]
    fn a_link_is_good_until_it_expires() {
        let token = key("a").token(&link());
        let read = |seconds| key("a").read(&token, DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds));
        assert_eq!(read(99), Some(link()));
        assert_eq!(read(100), None);
    }

    #[test]
    fn a_link_that_is_changed_in_any_bit_is_none() {
        let token = key("a").token(&link());
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(&token).expect("base64");
        for at in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[at / 8] ^= 1 << (at % 8);
            let changed = BASE64_URL_SAFE_NO_PAD.encode(changed);
            assert_eq!(key("a").read(&changed, DateTime::UNIX_EPOCH), None, "bit {at}");
        }
        for other in ["", "x", &token[1..], &token[..token.len() - 1], &format!("{token}A")] {
            assert_eq!(key("a").read(other, DateTime::UNIX_EPOCH), None, "{other}");
        }
        assert_eq!(key("b").read(&token, DateTime::UNIX_EPOCH), None, "the key of another tenant");
    }
}
