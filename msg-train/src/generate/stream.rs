//! Token ids to text as they come.
//!
//! A token may hold a part of a character, and what a token becomes may depend on the one before it (the
//! space between words). So text is given out once it ends with a whole character, and each piece is decoded
//! together with the one before it. The idea is that of text-generation-inference.

use crate::{data::Tokenizer, error::Result};

/// Stands for bytes that are no character, or not yet one.
const REPLACEMENT: char = '\u{fffd}';

/// Text that is still being written.
#[derive(Clone, Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    /// From here on ids are decoded.
    from: usize,
    /// Up to here their text is given out.
    given: usize,
}

impl<'a> TextStream<'a> {
    /// A text that continues `before`, which has been printed.
    pub fn after(tokenizer: &'a Tokenizer, before: &[u32]) -> Self {
        TextStream { tokenizer, ids: before.to_vec(), from: 0, given: before.len() }
    }

    /// What a token adds; nothing where it ends within a character.
    ///
    /// # Errors
    /// Where the tokenizer refuses the id.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let text = self.pending()?;
        if text.ends_with(REPLACEMENT) {
            return Ok(String::new());
        }
        Ok(self.give(text))
    }

    /// What was held back. Bytes that never became a character are replaced.
    ///
    /// # Errors
    /// Where the tokenizer refuses the ids.
    pub fn finish(&mut self) -> Result<String> {
        let text = self.pending()?;
        Ok(self.give(text))
    }

    fn give(&mut self, text: String) -> String {
        if !text.is_empty() {
            (self.from, self.given) = (self.given, self.ids.len());
        }
        text
    }

    /// The text of the ids that are not given out yet.
    fn pending(&self) -> Result<String> {
        let before = self.tokenizer.decode(&self.ids[self.from..self.given])?;
        let whole = self.tokenizer.decode(&self.ids[self.from..])?;
        // A decoder that tidies up may change what stands before, which is given out already.
        let same = before.chars().zip(whole.chars()).take_while(|(a, b)| a == b);
        let same: usize = same.map(|(letter, _)| letter.len_utf8()).sum();
        Ok(whole[same..].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::SpecialTokens, data::testing::prepared};

    #[test]
    fn characters_come_whole_and_broken_ones_at_the_end_only() {
        let folder = tempfile::tempdir().unwrap();
        let data = prepared(folder.path(), SpecialTokens::EndOfText, 2, 0.0);
        let tokenizer = data.tokenizer();
        let pieces = |before: &str, bytes: &[u8]| {
            let mut stream = TextStream::after(tokenizer, &tokenizer.encode(before).unwrap());
            let mut pieces: Vec<String> =
                bytes.iter().map(|&byte| stream.push(u32::from(byte)).unwrap()).collect();
            pieces.push(stream.finish().unwrap());
            pieces
        };
        assert_eq!(pieces("é", "aü".as_bytes()), ["a", "", "ü", ""]);
        assert_eq!(pieces("", "🌱!".as_bytes()), ["", "", "", "🌱", "!", ""]);
        assert_eq!(pieces("x", &[0xf0, 0x9f, b'y']), ["", "", "\u{fffd}y", ""]);
        assert_eq!(pieces("x", &[b'y', 0xc3]), ["y", "", "\u{fffd}"]);
        // The bytes of a replacement character that is in the text itself wait for the next letter.
        assert_eq!(pieces("", "\u{fffd}z".as_bytes()), ["", "", "", "\u{fffd}z", ""]);
        let noise: Vec<u8> = (0..600u32).map(|at| (at * at * 7 + at / 5) as u8).collect();
        let ids: Vec<u32> = noise.iter().map(|&byte| u32::from(byte)).collect();
        assert_eq!(pieces("", &noise).concat(), tokenizer.decode(&ids).unwrap());
    }
}
