//! One field of a JSON line: everything else is skipped without being kept, however long it is.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, fmt};

/// What a line has under a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Text(String),
    /// Another value.
    NoText,
    /// Nothing.
    Nothing,
    /// The line is no object.
    NoObject,
}

/// Looks a field up in a line of JSON.
///
/// # Errors
/// Where the line is no JSON.
pub(super) fn text_field(line: &str, field: &str) -> serde_json::Result<Found> {
    let mut json = serde_json::Deserializer::from_str(line);
    let found = Line(field).deserialize(&mut json)?;
    json.end().map(|()| found)
}

/// The visits of values that are not text.
macro_rules! no_text {
    ($other:expr) => {
        fn visit_bool<E>(self, _: bool) -> Result<Found, E> {
            Ok($other)
        }
        fn visit_i64<E>(self, _: i64) -> Result<Found, E> {
            Ok($other)
        }
        fn visit_u64<E>(self, _: u64) -> Result<Found, E> {
            Ok($other)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Found, E> {
            Ok($other)
        }
        fn visit_unit<E>(self) -> Result<Found, E> {
            Ok($other)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Found, A::Error> {
            while values.next_element::<IgnoredAny>()?.is_some() {}
            Ok($other)
        }
    };
}

/// A whole line.
struct Line<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Line<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Found, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Line<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Found, A::Error> {
        let mut found = Found::Nothing;
        while let Some(name) = fields.next_key::<Cow<'_, str>>()? {
            if name == self.0 {
                found = fields.next_value_seed(Field)?;
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_str<E>(self, _: &str) -> Result<Found, E> {
        Ok(Found::NoObject)
    }

    no_text!(Found::NoObject);
}

/// The value of the field.
struct Field;

impl<'de> DeserializeSeed<'de> for Field {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Found, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Field {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<Found, E> {
        Ok(Found::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Found, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Found::NoText)
    }

    no_text!(Found::NoText);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_among_anything_and_the_last_one_counts() {
        let found = |line: &str| text_field(line, "a\n").ok();
        let text = |text: &str| Some(Found::Text(text.to_owned()));
        assert_eq!(found(r#"{"b": [1, {"a\n": 2}], "a\n": "x\ty", "c": null}"#), text("x\ty"));
        assert_eq!(found(r#"{"a\n": "x", "a\n": "y"} "#), text("y"));
        for value in ["1", "-1", "1.5", "null", "true", "[1, [2]]", "{\"x\": 1}"] {
            assert_eq!(found(&format!("{{\"a\\n\": {value}}}")), Some(Found::NoText), "{value}");
        }
        for line in ["1", "-1", "1.5", "null", "true", "[{}]", "\"a\""] {
            assert_eq!(found(line), Some(Found::NoObject), "{line}");
        }
        assert_eq!(found("{\"b\": 1}"), Some(Found::Nothing));
        for line in ["", "{", "{} {}", "{\"a\": }"] {
            assert_eq!(found(line), None, "{line}");
        }
    }
}
