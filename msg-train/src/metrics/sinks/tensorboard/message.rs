//! The protobuf messages `Event`, `Summary`, `Summary.Value` and `SessionLog`, as far as scalars need them.

/// Field numbers and wire types of tensorflow/core/util/event.proto and framework/summary.proto.
mod key {
    pub const WALL_TIME: u64 = (1 << 3) | FIXED64;
    pub const STEP: u64 = (2 << 3) | VARINT;
    pub const FILE_VERSION: u64 = (3 << 3) | BYTES;
    pub const SUMMARY: u64 = (5 << 3) | BYTES;
    pub const SESSION_LOG: u64 = (7 << 3) | BYTES;
    pub const SUMMARY_VALUE: u64 = (1 << 3) | BYTES;
    pub const VALUE_TAG: u64 = (1 << 3) | BYTES;
    pub const VALUE_SIMPLE: u64 = (2 << 3) | FIXED32;
    pub const SESSION_STATUS: u64 = (1 << 3) | VARINT;

    const VARINT: u64 = 0;
    const FIXED64: u64 = 1;
    const BYTES: u64 = 2;
    const FIXED32: u64 = 5;
}

/// `SessionLog.SessionStatus.START`.
const SESSION_START: u64 = 1;

/// One event.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Event {
    /// Seconds since 1970.
    pub wall_time: f64,
    /// The step that its scalars belong to.
    pub step: u64,
    /// Tag and value.
    pub scalars: Vec<(String, f32)>,
    version: bool,
    restart: bool,
}

impl Event {
    /// The first event of every file.
    pub(super) fn version(wall_time: f64) -> Self {
        Event { wall_time, version: true, ..Event::default() }
    }

    /// Tells TensorBoard to forget everything from `step` on.
    pub(super) fn restart(wall_time: f64, step: u64) -> Self {
        Event { wall_time, step, restart: true, ..Event::default() }
    }

    /// Some scalars.
    pub(super) fn scalars(wall_time: f64, step: u64, scalars: &[(&str, f32)]) -> Self {
        let scalars = scalars.iter().map(|(tag, value)| ((*tag).to_owned(), *value)).collect();
        Event { wall_time, step, scalars, ..Event::default() }
    }

    /// The message's bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        varint(&mut out, key::WALL_TIME);
        out.extend(self.wall_time.to_le_bytes());
        if self.step > 0 {
            varint(&mut out, key::STEP);
            varint(&mut out, self.step);
        }
        if self.version {
            bytes(&mut out, key::FILE_VERSION, b"brain.Event:2");
        }
        if self.restart {
            let mut log = Vec::new();
            varint(&mut log, key::SESSION_STATUS);
            varint(&mut log, SESSION_START);
            bytes(&mut out, key::SESSION_LOG, &log);
        }
        if !self.scalars.is_empty() {
            let mut summary = Vec::new();
            for (tag, scalar) in &self.scalars {
                let mut value = Vec::new();
                bytes(&mut value, key::VALUE_TAG, tag.as_bytes());
                varint(&mut value, key::VALUE_SIMPLE);
                value.extend(scalar.to_le_bytes());
                bytes(&mut summary, key::SUMMARY_VALUE, &value);
            }
            bytes(&mut out, key::SUMMARY, &summary);
        }
        out
    }

    /// An event of ours from its bytes; none for anything else.
    pub(super) fn decode(mut rest: &[u8]) -> Option<Self> {
        let mut event = Event::default();
        while !rest.is_empty() {
            match take_varint(&mut rest)? {
                key::WALL_TIME => event.wall_time = f64::from_le_bytes(take(&mut rest)?),
                key::STEP => event.step = take_varint(&mut rest)?,
                key::FILE_VERSION => event.version = take_bytes(&mut rest)? == b"brain.Event:2",
                key::SESSION_LOG => event.restart = !take_bytes(&mut rest)?.is_empty(),
                key::SUMMARY => {
                    let mut summary = take_bytes(&mut rest)?;
                    while !summary.is_empty() {
                        let key::SUMMARY_VALUE = take_varint(&mut summary)? else { return None };
                        event.scalars.push(value(take_bytes(&mut summary)?)?);
                    }
                }
                _ => return None,
            }
        }
        Some(event)
    }
}

fn value(mut rest: &[u8]) -> Option<(String, f32)> {
    let (mut tag, mut scalar) = (String::new(), 0.0);
    while !rest.is_empty() {
        match take_varint(&mut rest)? {
            key::VALUE_TAG => tag = String::from_utf8(take_bytes(&mut rest)?.to_vec()).ok()?,
            key::VALUE_SIMPLE => scalar = f32::from_le_bytes(take(&mut rest)?),
            _ => return None,
        }
    }
    Some((tag, scalar))
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, key: u64, payload: &[u8]) {
    varint(out, key);
    varint(out, payload.len() as u64);
    out.extend(payload);
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = take(rest)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_varint(rest)?).ok()?;
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_bytes_that_tensorflow_writes() {
        // protobuf 7.36.2 of tensorboard 2.21.0: Event(wall_time=1.5, step=300, summary=Summary(value=[
        // Summary.Value(tag="a", simple_value=2.0)])).SerializeToString().hex()
        let hex: String =
            Event::scalars(1.5, 300, &[("a", 2.0)]).encode().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "09000000000000f83f10ac022a0a0a080a01611500000040");
    }

    #[test]
    fn every_event_comes_back_as_it_was_written() {
        for event in [
            Event::version(1.0),
            Event::restart(2.0, 8),
            Event::scalars(3.0, u64::from(u32::MAX) * 9, &[("loss/train", 0.25), ("x", f32::INFINITY)]),
        ] {
            assert_eq!(Event::decode(&event.encode()), Some(event));
        }
        assert_eq!(Event::decode(b"\xff\xff"), None);
    }
}
