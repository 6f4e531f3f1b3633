//! How a closed set of words, such as the roles, is read, a part of a body that is an object, and whole numbers.

/// Writes a type as its form derived with `#[serde(remote = "Self")]` does.
macro_rules! written_as_derived {
    ($type:ty) => {
        impl ::serde::Serialize for $type {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                <$type>::serialize(self, serializer)
            }
        }
    };
}

/// Reads a type from a text and from nothing else, where its derived form, made with `#[serde(remote = "Self")]`, reads a word
/// from `{"word": null}` too. No schema describes that.
macro_rules! word {
    ($type:ty) => {
        $crate::word::written_as_derived!($type);

        impl<'de> ::serde::Deserialize<'de> for $type {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = ::std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                <$type>::deserialize(::serde::de::value::StrDeserializer::new(&text))
            }
        }
    };
}

/// Reads a part of a body from an object only, made with `#[serde(remote = "Self")]`: its derived form reads an array too, and the
/// order of its fields would become part of the API.
macro_rules! object {
    ($type:ty) => {
        $crate::word::written_as_derived!($type);

        impl<'de> ::serde::Deserialize<'de> for $type {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct ObjectVisitor;

                impl<'de> ::serde::de::Visitor<'de> for ObjectVisitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: ::serde::de::MapAccess<'de>>(self, map: A) -> Result<$type, A::Error> {
                        <$type>::deserialize(::serde::de::value::MapAccessDeserializer::new(map))
                    }
                }

                deserializer.deserialize_map(ObjectVisitor)
            }
        }
    };
}

pub(crate) use {object, word, written_as_derived};

/// Reads a whole number however JSON writes it: `7`, and `7.0`, which JSON Schema calls an integer too.
pub(crate) fn whole<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: TryFrom<i64>,
    D: serde::Deserializer<'de>,
{
    struct WholeVisitor<T>(std::marker::PhantomData<T>);

    impl<T: TryFrom<i64>> serde::de::Visitor<'_> for WholeVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a whole number within the limits")
        }

        fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
            T::try_from(number).map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(number), &self))
        }

        fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
            let unsigned = serde::de::Unexpected::Unsigned(number);
            self.visit_i64(
                i64::try_from(number).map_err(|_| E::invalid_value(unsigned, &"a smaller number"))?,
            )
        }

        #[expect(clippy::cast_possible_truncation, reason = "a whole number of this size is exact")]
        fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<T, E> {
            /// Up to here every whole number is a double.
            const EXACT: f64 = 9_007_199_254_740_992.0;
            if number.fract() == 0.0 && number.abs() <= EXACT {
                return self.visit_i64(number as i64);
            }
            Err(E::invalid_value(serde::de::Unexpected::Float(number), &self))
        }
    }

    deserializer.deserialize_any(WholeVisitor(std::marker::PhantomData))
}

/// Reads a whole number like [`whole`], or null.
pub(crate) fn whole_or_null<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: TryFrom<i64>,
    D: serde::Deserializer<'de>,
{
    struct OptionVisitor<T>(std::marker::PhantomData<T>);

    impl<'de, T: TryFrom<i64>> serde::de::Visitor<'de> for OptionVisitor<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a whole number or null")
        }

        fn visit_unit<E: serde::de::Error>(self) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_none<E: serde::de::Error>(self) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_some<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Option<T>, D::Error> {
            whole(deserializer).map(Some)
        }
    }

    deserializer.deserialize_option(OptionVisitor(std::marker::PhantomData))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Numbers {
        #[serde(deserialize_with = "super::whole")]
        version: i64,
        #[serde(default, deserialize_with = "super::whole_or_null")]
        seconds: Option<u32>,
    }

    #[test]
    fn a_whole_number_is_read_however_it_is_written() {
        let read = |version: serde_json::Value, seconds: serde_json::Value| {
            let numbers = json!({"version": version, "seconds": seconds});
            serde_json::from_value::<Numbers>(numbers)
                .map(|Numbers { version, seconds }| (version, seconds))
                .ok()
        };
        assert_eq!(read(json!(7), json!(8)), Some((7, Some(8))));
        assert_eq!(read(json!(7.0), json!(8.0)), Some((7, Some(8))));
        assert_eq!(read(json!(-7.0), json!(null)), Some((-7, None)));
        assert_eq!(read(json!(i64::MAX), json!(u32::MAX)), Some((i64::MAX, Some(u32::MAX))));
        for bad in
            [json!(7.5), json!(1e300), json!(u64::MAX), json!("7"), json!(null), json!([7]), json!(true)]
        {
            assert_eq!(read(bad.clone(), json!(1)), None, "{bad}");
        }
        for bad in [json!(-1), json!(4_294_967_296_u64), json!(0.5), json!("8"), json!({})] {
            assert_eq!(read(json!(1), bad.clone()), None, "{bad}");
        }
    }
}
