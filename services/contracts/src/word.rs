//! How a closed set of words, such as the roles, is read.

/// Reads a type from a text and from nothing else, where its derived form, made with `#[serde(remote = "Self")]`, reads a word
/// from `{"word": null}` too. No schema describes that.
macro_rules! word {
    ($type:ty) => {
        impl ::serde::Serialize for $type {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                <$type>::serialize(self, serializer)
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $type {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = ::std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                <$type>::deserialize(::serde::de::value::StrDeserializer::new(&text))
            }
        }
    };
}

pub(crate) use word;
