//! Files as documents, and documents as pieces of bounded size.
//!
//! A file is one document; a line of a `.jsonl` file is one. Long documents come in several pieces, cut
//! after a line's end that no space follows, where the usual tokenizers cut too: the tokens are then
//! those of the whole text. Only a text with no such place in a whole piece is cut elsewhere.

use super::{
    field::{Found, text_field},
    kind::{Piece, Pieces},
};
use crate::{
    config::InvalidUtf8,
    error::{AtPath, Error, Result},
};
use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    vec,
};

/// Largest piece, in bytes.
const PIECE: usize = 64 << 10;
/// Longest line of a `.jsonl` file, which is held as a whole: a compressed one may be a bomb.
const LONGEST_LINE: u64 = 16 << 20;

/// How documents are read.
#[derive(Clone, Debug)]
pub(super) struct ReadOptions {
    /// The field of `.jsonl` lines that holds the text.
    pub(super) field: String,
    /// What becomes of bytes that are no UTF-8.
    pub(super) invalid: InvalidUtf8,
}

/// The documents of a list of files, piece by piece. Empty documents are skipped.
pub(super) struct FileDocuments {
    files: vec::IntoIter<PathBuf>,
    options: ReadOptions,
    open: Option<Open>,
    invalid: u64,
}

/// A file that is being read.
struct Open {
    path: PathBuf,
    content: Content,
}

enum Content {
    Text(Text),
    Lines(Lines),
}

/// A file that is one document.
struct Text {
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// Bytes before the buffer.
    passed: u64,
    at_end: bool,
}

/// A file of JSON lines.
struct Lines {
    reader: BufReader<Box<dyn Read + Send>>,
    line: u64,
    /// The current document, and how much of it has been returned.
    document: String,
    given: usize,
}

impl FileDocuments {
    /// Documents of `files`, in order.
    pub(super) fn new(files: Vec<PathBuf>, options: ReadOptions) -> Self {
        FileDocuments { files: files.into_iter(), options, open: None, invalid: 0 }
    }
}

impl Pieces for FileDocuments {
    fn next_piece(&mut self) -> Result<Option<Piece>> {
        loop {
            if self.open.is_none() {
                let Some(path) = self.files.next() else { return Ok(None) };
                self.open = Some(Open { content: Content::open(&path)?, path });
            }
            let Some(open) = &mut self.open else { continue };
            let piece = match &mut open.content {
                Content::Text(text) => text.next(&open.path, &self.options, &mut self.invalid)?,
                Content::Lines(lines) => lines.next(&open.path, &self.options, &mut self.invalid)?,
            };
            match piece {
                Some(piece) => return Ok(Some(piece)),
                None => self.open = None,
            }
        }
    }

    fn invalid(&self) -> u64 {
        self.invalid
    }
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
}

/// How a file is compressed, by the ending of its name; none for one that is not.
pub(super) fn compression(path: &Path) -> Option<Compression> {
    match path.extension()?.to_str()? {
        "gz" => Some(Compression::Gzip),
        "zst" => Some(Compression::Zstd),
        _ => None,
    }
}

/// The ending that tells what a file holds: the one before that of its compression.
pub(super) fn ending(path: &Path) -> Option<String> {
    let name = if compression(path).is_some() { path.file_stem()? } else { path.file_name()? };
    Path::new(name).extension()?.to_str().map(str::to_owned)
}

impl Content {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).at(path)?;
        let reader: Box<dyn Read + Send> = match compression(path) {
            Some(Compression::Gzip) => Box::new(flate2::read::MultiGzDecoder::new(file)),
            Some(Compression::Zstd) => Box::new(zstd::Decoder::new(file).at(path)?),
            None => Box::new(file),
        };
        Ok(match ending(path).as_deref() {
            Some("jsonl") => Content::Lines(Lines {
                reader: BufReader::new(reader),
                line: 0,
                document: String::new(),
                given: 0,
            }),
            _ => Content::Text(Text { reader, buffer: Vec::new(), passed: 0, at_end: false }),
        })
    }
}

impl Text {
    fn next(&mut self, path: &Path, options: &ReadOptions, invalid: &mut u64) -> Result<Option<Piece>> {
        // One byte more than a piece tells whether the document ends with it.
        let missing = (PIECE + 1).saturating_sub(self.buffer.len());
        if !self.at_end {
            let read = self.reader.by_ref().take(missing as u64).read_to_end(&mut self.buffer).at(path)?;
            self.at_end = read < missing;
        }
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let last = self.buffer.len() <= PIECE;
        let length = if last { self.buffer.len() } else { cut(&self.buffer, PIECE) };
        let rest = self.buffer.split_off(length);
        let bytes = std::mem::replace(&mut self.buffer, rest);
        let text = decode(bytes, path, self.passed, options.invalid, invalid)?;
        self.passed += length as u64;
        Ok(Some(Piece { text, last }))
    }
}

impl Lines {
    fn next(&mut self, path: &Path, options: &ReadOptions, invalid: &mut u64) -> Result<Option<Piece>> {
        while self.given == self.document.len() {
            let mut bytes = Vec::new();
            if self.reader.by_ref().take(LONGEST_LINE + 1).read_until(b'\n', &mut bytes).at(path)? == 0 {
                return Ok(None);
            }
            self.line += 1;
            if bytes.len() as u64 > LONGEST_LINE {
                let message = format!("line {}: expected at most {LONGEST_LINE} bytes, got more", self.line);
                return Err(Error::Data { path: path.to_owned(), message });
            }
            if !bytes.trim_ascii().is_empty() {
                let line = decode(bytes, path, 0, options.invalid, invalid)?;
                (self.document, self.given) = (self.text(&line, path, &options.field)?, 0);
            }
        }
        let rest = &self.document[self.given..];
        let last = rest.len() <= PIECE;
        let length = if last { rest.len() } else { cut(rest.as_bytes(), PIECE) };
        self.given += length;
        Ok(Some(Piece { text: rest[..length].to_owned(), last }))
    }

    /// The text of a line.
    fn text(&self, line: &str, path: &Path, field: &str) -> Result<String> {
        let refused = |got: String| Error::Data {
            path: path.to_owned(),
            message: format!("line {}: expected a JSON object with text in {field:?}, got {got}", self.line),
        };
        match text_field(line, field) {
            Ok(Found::Text(text)) => Ok(text),
            Ok(Found::NoText) => Err(refused("a value that is no text".into())),
            Ok(Found::Nothing) => Err(refused("an object without it".into())),
            Ok(Found::NoObject) => Err(refused("another value".into())),
            Err(error) => Err(refused(format!("no JSON ({error})"))),
        }
    }
}

/// Where to cut `bytes`, which are longer than `limit`: after a line's end that no space follows, else
/// before a space that follows no space, else between two characters.
fn cut(bytes: &[u8], limit: usize) -> usize {
    let is_word = |byte: u8| byte.is_ascii() && !byte.is_ascii_whitespace();
    let line = (1..=limit).rev().find(|&at| bytes[at - 1] == b'\n' && is_word(bytes[at]));
    let space = || (1..=limit).rev().find(|&at| bytes[at] == b' ' && is_word(bytes[at - 1]));
    // A byte of the form 10xxxxxx continues a character, which has four bytes at most.
    let character = || (limit.saturating_sub(3)..=limit).rev().find(|&at| bytes[at] & 0xC0 != 0x80);
    line.or_else(space).or_else(character).unwrap_or(limit)
}

/// Bytes as text; `passed` bytes of the file came before.
fn decode(
    bytes: Vec<u8>,
    path: &Path,
    passed: u64,
    on_invalid: InvalidUtf8,
    invalid: &mut u64,
) -> Result<String> {
    let error = match String::from_utf8(bytes) {
        Ok(text) => return Ok(text),
        Err(error) => error,
    };
    if on_invalid == InvalidUtf8::Refuse {
        let at = passed + error.utf8_error().valid_up_to() as u64;
        return Err(Error::Data {
            path: path.to_owned(),
            message: format!("expected UTF-8, got an invalid sequence at byte {at}"),
        });
    }
    let mut text = String::with_capacity(error.as_bytes().len());
    for chunk in error.as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            *invalid += 1;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::write;
    use std::io::Write;

    fn options(invalid: InvalidUtf8) -> ReadOptions {
        ReadOptions { field: "text".into(), invalid }
    }

    fn all(path: &Path, invalid: InvalidUtf8) -> Result<(Vec<Piece>, u64)> {
        let mut documents = FileDocuments::new(vec![path.to_owned()], options(invalid));
        let mut pieces = Vec::new();
        while let Some(piece) = documents.next_piece()? {
            pieces.push(piece);
        }
        Ok((pieces, documents.invalid()))
    }

    fn joined(pieces: &[Piece]) -> String {
        pieces.iter().map(|piece| piece.text.as_str()).collect()
    }

    #[test]
    fn long_documents_come_in_pieces_that_join_to_the_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long.txt");
        let lines: String = (0..30_000).map(|line| format!("line {line}: é 漢\n  indented\n")).collect();
        for text in
            [lines, "é".repeat(PIECE), "word ".repeat(PIECE), "x".repeat(PIECE), "y".repeat(PIECE + 1)]
        {
            write(&path, text.as_bytes());
            let (pieces, invalid) = all(&path, InvalidUtf8::Refuse).unwrap();
            assert_eq!((joined(&pieces) == text, invalid), (true, 0));
            assert!(pieces.iter().all(|piece| !piece.text.is_empty() && piece.text.len() <= PIECE));
            assert!(pieces.iter().rev().skip(1).all(|piece| !piece.last) && pieces[pieces.len() - 1].last);
        }
    }

    #[test]
    fn compressed_files_hold_the_same_documents() {
        let folder = tempfile::tempdir().unwrap();
        let lines = "{\"text\": \"one\", \"n\": 1}\n\n{\"text\": \"\"}\n{\"text\": \"two\\nlines\"}";
        let (plain, gz, zst) = ("a.jsonl", "a.jsonl.gz", "a.jsonl.zst");
        write(&folder.path().join(plain), lines.as_bytes());
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(lines.as_bytes()).unwrap();
        write(&folder.path().join(gz), &encoder.finish().unwrap());
        write(&folder.path().join(zst), &zstd::encode_all(lines.as_bytes(), 1).unwrap());
        let expected = ["one", "two\nlines"].map(|text| Piece { text: text.into(), last: true });
        for name in [plain, gz, zst] {
            assert_eq!(all(&folder.path().join(name), InvalidUtf8::Refuse).unwrap().0, expected, "{name}");
        }
    }

    #[test]
    fn invalid_utf8_is_replaced_and_counted_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad.txt");
        write(&path, b"ab\xFF\xFEcd \xE6\xBC");
        let (pieces, invalid) = all(&path, InvalidUtf8::Replace).unwrap();
        assert_eq!((joined(&pieces).as_str(), invalid), ("ab\u{FFFD}\u{FFFD}cd \u{FFFD}", 3));
        let error = all(&path, InvalidUtf8::Refuse).unwrap_err().to_string();
        assert_eq!(error, format!("{}: expected UTF-8, got an invalid sequence at byte 2", path.display()));
    }

    #[test]
    fn lines_without_text_are_refused_by_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        for (line, got) in [
            ("{\"other\": 1}", "an object without it"),
            ("{\"text\": 1}", "a value that is no text"),
            ("[]", "another value"),
            ("{", "no JSON (EOF while parsing an object at line 1 column 1)"),
        ] {
            write(&path, format!("{{\"text\": \"fine\"}}\n{line}").as_bytes());
            let error = all(&path, InvalidUtf8::Replace).unwrap_err().to_string();
            let message = format!("line 2: expected a JSON object with text in \"text\", got {got}");
            assert_eq!(error, format!("{}: {message}", path.display()));
        }
    }

    #[test]
    fn a_cut_archive_and_none_at_all_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt.gz");
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"some text that is long enough").unwrap();
        let bytes = encoder.finish().unwrap();
        write(&path, &bytes[..bytes.len() - 6]);
        let read = || all(&path, InvalidUtf8::Replace).unwrap_err().to_string();
        let shown = path.display().to_string();
        assert_eq!(read(), format!("{shown}: unexpected end of file"));
        write(&path, b"no archive at all");
        assert_eq!(read(), format!("{shown}: invalid gzip header"));
    }
}
