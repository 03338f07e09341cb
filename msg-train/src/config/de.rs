//! From TOML values to the configuration's structs, with errors that know where they are.
//!
//! serde's derive already holds the list of every table's keys; this deserializer keeps that list, the
//! path and the value as facts where the one of the `toml` crate makes a sentence of them. So the structs
//! stay the only place that names a key.

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor, value::StringDeserializer,
};
use std::fmt::{self, Display};
use toml::Value;

use super::suggest::any_of;

/// What is wrong, and where.
#[derive(Debug)]
pub(super) struct Fault {
    /// Keys from the inside out; entries of a list by their number from 1.
    path: Vec<String>,
    /// What is wrong there.
    pub(super) kind: Kind,
}

/// What is wrong.
#[derive(Debug)]
pub(super) enum Kind {
    /// A key that the table does not have; those that it has.
    Unknown { key: String, valid: &'static [&'static str] },
    /// A key that the table must have.
    Missing { key: &'static str },
    /// A value of another type or range; the second is the value.
    Value { expected: String, got: String },
}

impl Fault {
    /// The keys from the outside in.
    pub(super) fn path(&self) -> String {
        self.path.iter().rev().cloned().collect::<Vec<_>>().join(".")
    }

    fn of(kind: Kind) -> Self {
        Fault { path: Vec::new(), kind }
    }

    fn within(mut self, key: impl Into<String>) -> Self {
        self.path.push(key.into());
        self
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.path(), self.kind)
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: Display>(message: T) -> Self {
        Fault::of(Kind::Value { expected: "a usable value".into(), got: message.to_string() })
    }

    fn invalid_type(got: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = in_words(&expected.to_string());
        Fault::of(Kind::Value { expected, got: value_in_words(got) })
    }

    fn invalid_value(got: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(got, expected)
    }

    fn unknown_variant(variant: &str, valid: &'static [&'static str]) -> Self {
        Fault::of(Kind::Value { expected: any_of(valid), got: format!("{variant:?}") })
    }

    fn unknown_field(field: &str, valid: &'static [&'static str]) -> Self {
        Fault::of(Kind::Unknown { key: field.escape_debug().to_string(), valid })
    }

    fn missing_field(key: &'static str) -> Self {
        Fault::of(Kind::Missing { key })
    }
}

/// serde's name of a Rust type in words of TOML.
fn in_words(expected: &str) -> String {
    match expected {
        "u32" | "u64" | "usize" => "a whole number of at least 0".into(),
        "f32" | "f64" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list".into(),
        "path string" => "a path in quotes".into(),
        "a string" => "text in quotes".into(),
        "variant identifier" => "a name in quotes".into(),
        _ if expected.starts_with("struct ") => "a table".into(),
        other => other.to_owned(),
    }
}

fn value_in_words(got: Unexpected<'_>) -> String {
    match got {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Unsigned(value) => value.to_string(),
        Unexpected::Float(value) => format!("{value:?}"),
        Unexpected::Str(value) => format!("{value:?}"),
        Unexpected::Seq => "a list".into(),
        Unexpected::Map => "a table".into(),
        other => other.to_string(),
    }
}

/// Reads a value.
pub(super) fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Fault> {
    T::deserialize(At(value))
}

struct At(Value);

impl At {
    fn unexpected(&self) -> Unexpected<'_> {
        match &self.0 {
            Value::String(value) => Unexpected::Str(value),
            Value::Integer(value) => Unexpected::Signed(*value),
            Value::Float(value) => Unexpected::Float(*value),
            Value::Boolean(value) => Unexpected::Bool(*value),
            Value::Datetime(_) => Unexpected::Other("a date"),
            Value::Array(_) => Unexpected::Seq,
            Value::Table(_) => Unexpected::Map,
        }
    }
}

impl<'de> Deserializer<'de> for At {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Value::String(value) => visitor.visit_string(value),
            Value::Integer(value) => visitor.visit_i64(value),
            Value::Float(value) => visitor.visit_f64(value),
            Value::Boolean(value) => visitor.visit_bool(value),
            Value::Datetime(_) => Err(Fault::invalid_type(self.unexpected(), &visitor)),
            Value::Array(values) => visitor.visit_seq(Entries { values: values.into_iter(), number: 0 }),
            Value::Table(table) => visitor.visit_map(Keys { entries: table.into_iter(), value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        // A struct could be read off a list, too; a table of a configuration cannot.
        match &self.0 {
            Value::Table(_) => self.deserialize_any(visitor),
            _ => Err(Fault::invalid_type(self.unexpected(), &"a table")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.0 {
            Value::String(name) => visitor.visit_enum(Name(name)),
            // A table names its variant by `kind`; without one it is the first.
            Value::Table(mut table) if !variants.is_empty() => {
                let kind = table.remove("kind").unwrap_or_else(|| variants[0].into());
                visitor.visit_enum(Tagged { kind, content: Content { table, variants } })
            }
            _ => Err(Fault::invalid_type(self.unexpected(), &any_of(variants).as_str())),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Entries {
    values: std::vec::IntoIter<Value>,
    number: usize,
}

impl<'de> SeqAccess<'de> for Entries {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(value) = self.values.next() else { return Ok(None) };
        self.number += 1;
        seed.deserialize(At(value)).map(Some).map_err(|fault| fault.within(self.number.to_string()))
    }
}

struct Keys {
    entries: toml::map::IntoIter<String, Value>,
    value: Option<(String, Value)>,
}

impl<'de> MapAccess<'de> for Keys {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some((key.clone(), value));
        let key: StringDeserializer<Fault> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (key, value) = self.value.take().ok_or_else(|| Fault::custom("a value without its key"))?;
        seed.deserialize(At(value)).map_err(|fault| fault.within(key))
    }
}

/// A table whose `kind` is the name of a variant; the other keys are its content.
struct Tagged {
    kind: Value,
    content: Content,
}

struct Content {
    table: toml::Table,
    variants: &'static [&'static str],
}

impl<'de> EnumAccess<'de> for Tagged {
    type Error = Fault;
    type Variant = Content;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Content), Fault> {
        let variant = seed.deserialize(At(self.kind)).map_err(|fault| fault.within("kind"))?;
        Ok((variant, self.content))
    }
}

impl<'de> VariantAccess<'de> for Content {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Err(Fault::invalid_type(Unexpected::Map, &any_of(self.variants).as_str()))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(At(Value::Table(self.table)))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Fault> {
        Err(Fault::invalid_type(Unexpected::Map, &"a list"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        At(Value::Table(self.table)).deserialize_any(visitor)
    }
}

/// The name of a variant without content.
struct Name(String);

impl<'de> EnumAccess<'de> for Name {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let name: StringDeserializer<Fault> = self.0.clone().into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Name {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Fault> {
        Err(Fault::invalid_type(Unexpected::Str(&self.0), &"a table"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Fault> {
        Err(Fault::invalid_type(Unexpected::Str(&self.0), &"a list"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Fault> {
        Err(Fault::invalid_type(Unexpected::Str(&self.0), &"a table"))
    }
}
