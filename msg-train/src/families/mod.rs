//! Model families and what they are trained for.
//!
//! A family is a file here that implements [`family::Family`], and one word in the list of [`registry`].

pub mod any;
mod bert;
pub mod family;
mod gpt;
pub mod held_out;
pub mod objective;
pub mod registry;

use serde_json::{Map, Value};

/// The keys of a value that is a table.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(keys) => keys,
        _ => Map::new(),
    }
}
