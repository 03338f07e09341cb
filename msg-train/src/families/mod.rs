//! The families that can be trained. A new one is a file here and an arm where runs are opened.

mod bert;
pub mod family;
mod gpt;

use msg_core::random::{Key, bits_at};
use serde_json::{Map, Value};

/// The keys of a value that is a table.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(keys) => keys,
        _ => Map::new(),
    }
}

/// `count` numbers below `limit`, a pure function of seed and name.
fn draw(seed: u64, name: &str, count: usize, limit: usize) -> Vec<u32> {
    let key = Key::new(seed, name, 0);
    let one = |at| ((u64::from(bits_at(key, [0, 0, 0, at])) * limit as u64) >> 32) as u32;
    (0..count as u32).map(one).collect()
}
