//! What a source of text is: documents in a fixed order, piece by piece.

use crate::error::Result;
use std::path::Path;

/// A source of text. Prepared data is known by a hash of all its text, so it has no identity besides.
pub(in crate::data) trait Source: Sync {
    /// The documents from the first one on; the same at each call.
    ///
    /// # Errors
    /// Where they cannot be opened.
    fn documents(&self) -> Result<Box<dyn Pieces>>;

    /// About how many bytes of text there are, for progress and for the sample that a tokenizer learns from.
    fn estimate(&self) -> u64;

    /// Where the text begins, for errors about the text as a whole.
    fn place(&self) -> &Path;
}

/// A part of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::data) struct Piece {
    /// The text; never empty.
    pub text: String,
    /// Whether the document ends here.
    pub last: bool,
}

/// Documents, piece by piece. Empty documents are skipped.
pub(in crate::data) trait Pieces: Send {
    /// The next piece; `None` after the last.
    ///
    /// # Errors
    /// Where text cannot be read, is no UTF-8 and that is refused, or a line has no text.
    fn next_piece(&mut self) -> Result<Option<Piece>>;

    /// Invalid UTF-8 sequences replaced so far, each by one U+FFFD.
    fn invalid(&self) -> u64;

    /// Pieces of about `bytes` of text together; none after the last.
    ///
    /// # Errors
    /// As [`Pieces::next_piece`].
    fn batch(&mut self, bytes: usize) -> Result<Vec<Piece>> {
        let (mut pieces, mut size) = (Vec::new(), 0);
        while size < bytes
            && let Some(piece) = self.next_piece()?
        {
            size += piece.text.len();
            pieces.push(piece);
        }
        Ok(pieces)
    }
}
