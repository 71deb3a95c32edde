//! The protobuf wire format: fields of a message, read in place.
//!
//! Chosen over generated code because weights must stay slices of the mapped file (models exceed
//! 2 GB), and because every bound lives here: nesting depth, number of messages, and that no
//! length is believed before the bytes behind it are seen.
//! Source: Protocol Buffers documentation, "Encoding".

use std::cell::Cell;
use std::ops::Range;

use crate::error::Malformed;

/// Messages nested deeper than this are refused; a sub-graph takes three levels.
const MAX_DEPTH: usize = 128;

/// Messages in one model. Two bytes can be a message, so memory is bounded by their number.
const MAX_MESSAGES: usize = 1 << 21;

/// The bytes that all messages of one model lie in.
pub(crate) struct Source<'a> {
    bytes: &'a [u8],
    messages_left: Cell<usize>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Source<'a> {
        Source { bytes, messages_left: Cell::new(MAX_MESSAGES) }
    }

    /// The outermost message.
    pub(crate) fn root(&'a self) -> Message<'a> {
        Message { source: self, range: 0..self.bytes.len(), depth: 0 }
    }
}

/// The fields not yet read of one message.
#[derive(Clone)]
pub(crate) struct Message<'a> {
    source: &'a Source<'a>,
    range: Range<usize>,
    depth: usize,
}

/// One field: its number and its undecoded payload.
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    payload: Payload,
    message: Message<'a>,
}

enum Payload {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(Range<usize>),
}

impl<'a> Message<'a> {
    /// Where the message lies in the file.
    pub(crate) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The bytes not yet read.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        &self.source.bytes[self.range.clone()]
    }

    /// The next field, or none at the message's end.
    pub(crate) fn next_field(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        if self.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|&n| n > 0 && n < 1 << 29);
        let Some(number) = number else {
            return Err(self.error(format!("field number {} is out of range", key >> 3)));
        };
        let payload = match key & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Fixed64(self.fixed()?),
            2 => Payload::Bytes(self.span(number)?),
            5 => Payload::Fixed32(self.fixed()?),
            other => {
                return Err(self.error(format!("field {number} has wire type {other}")));
            }
        };
        Ok(Some(Field { number, payload, message: self.clone() }))
    }

    /// Takes the next field's key if it is this one's, of a number below 16. Lists of numbers are
    /// mostly written as one field for each, so this is what makes reading them fast.
    pub(crate) fn accept(&mut self, number: u32, wire_type: u32) -> bool {
        let key = number << 3 | wire_type;
        let found = key < 0x80 && self.bytes().first().is_some_and(|&byte| u32::from(byte) == key);
        self.range.start += usize::from(found);
        found
    }

    /// The next length, and where the bytes of that length behind it lie.
    fn span(&mut self, number: u32) -> Result<Range<usize>, Malformed> {
        let length = self.varint()?;
        let left = self.range.len();
        let Some(length) = usize::try_from(length).ok().filter(|&n| n <= left) else {
            return Err(self.error(format!("field {number} needs {length} bytes of {left}")));
        };
        let start = self.range.start;
        self.range.start += length;
        Ok(start..self.range.start)
    }

    /// The next length and the text behind it.
    pub(crate) fn text(&mut self, number: u32) -> Result<&'a str, Malformed> {
        let span = self.span(number)?;
        self.text_at(span)
    }

    fn text_at(&self, span: Range<usize>) -> Result<&'a str, Malformed> {
        std::str::from_utf8(&self.source.bytes[span])
            .map_err(|error| self.error(format!("text is not UTF-8 ({error}), ending")))
    }

    /// The next base-128 varint.
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        if let Some(&byte) = self.bytes().first().filter(|&&byte| byte < 0x80) {
            self.range.start += 1;
            return Ok(u64::from(byte));
        }
        let mut value = 0u64;
        for (i, &byte) in self.bytes().iter().take(10).enumerate() {
            if i == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.range.start += i + 1;
                return Ok(value);
            }
        }
        let truncated = self.range.len() < 10;
        Err(self.error(if truncated { "a varint is cut short" } else { "a varint is too long" }))
    }

    /// The next `N` bytes.
    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some(&bytes) = self.bytes().first_chunk::<N>() else {
            return Err(self.error(format!("a {N}-byte number is cut short")));
        };
        self.range.start += N;
        Ok(bytes)
    }

    fn error(&self, problem: impl Into<String>) -> Malformed {
        Malformed::new(format!("{} at byte {}", problem.into(), self.range.start))
    }
}

impl<'a> Field<'a> {
    pub(crate) fn int(&self) -> Result<i64, Malformed> {
        match self.payload {
            Payload::Varint(value) => Ok(value as i64),
            _ => Err(self.mismatch("an integer")),
        }
    }

    pub(crate) fn float(&self) -> Result<f32, Malformed> {
        match self.payload {
            Payload::Fixed32(bytes) => Ok(f32::from_le_bytes(bytes)),
            _ => Err(self.mismatch("a 32-bit float")),
        }
    }

    pub(crate) fn double(&self) -> Result<f64, Malformed> {
        match self.payload {
            Payload::Fixed64(bytes) => Ok(f64::from_le_bytes(bytes)),
            _ => Err(self.mismatch("a 64-bit float")),
        }
    }

    /// Where a length-delimited payload lies in the file.
    pub(crate) fn span(&self) -> Result<Range<usize>, Malformed> {
        match &self.payload {
            Payload::Bytes(range) => Ok(range.clone()),
            _ => Err(self.mismatch("bytes")),
        }
    }

    pub(crate) fn text(&self) -> Result<&'a str, Malformed> {
        self.message.text_at(self.span()?)
    }

    /// The payload as numbers packed one after another; `None` if it is a single number.
    pub(crate) fn packed(&self) -> Option<Message<'a>> {
        match &self.payload {
            Payload::Bytes(range) => Some(Message { range: range.clone(), ..self.message.clone() }),
            _ => None,
        }
    }

    /// The payload as a message one level further in.
    pub(crate) fn message(&self) -> Result<Message<'a>, Malformed> {
        let range = self.span()?;
        let depth = self.message.depth + 1;
        if depth > MAX_DEPTH {
            return Err(self.message.error(format!("messages nest more than {MAX_DEPTH} deep")));
        }
        let left = &self.message.source.messages_left;
        let Some(rest) = left.get().checked_sub(1) else {
            return Err(self.message.error(format!("there are more than {MAX_MESSAGES} messages")));
        };
        left.set(rest);
        Ok(Message { source: self.message.source, range, depth })
    }

    fn mismatch(&self, expected: &str) -> Malformed {
        let found = match self.payload {
            Payload::Varint(_) => "a varint",
            Payload::Fixed64(_) => "8 bytes",
            Payload::Fixed32(_) => "4 bytes",
            Payload::Bytes(_) => "a length-delimited field",
        };
        self.message.error(format!("expected {expected}, found {found}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(bytes: &[u8]) -> Result<(u32, i64), String> {
        let source = Source::new(bytes);
        let field = source.root().next_field().map_err(|e| e.to_string())?.unwrap();
        Ok((field.number, field.int().map_err(|e| e.to_string())?))
    }

    #[test]
    fn varints_are_bounded() {
        assert_eq!(first(&[0x08, 0x96, 0x01]), Ok((1, 150)));
        let minus_one = [0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        assert_eq!(first(&minus_one), Ok((1, -1)));
        assert!(first(&[0x08, 0x96]).unwrap_err().contains("cut short"));
        let long = [0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2];
        assert!(first(&long).unwrap_err().contains("too long"));
    }

    #[test]
    fn lengths_and_wire_types_are_checked() {
        assert!(first(&[0x0a, 5, 1]).unwrap_err().contains("needs 5 bytes of 1"));
        assert!(first(&[0x0b]).unwrap_err().contains("wire type 3"));
        assert!(first(&[0x00, 0]).unwrap_err().contains("field number 0"));
        assert!(first(&[0x0a, 0]).unwrap_err().contains("expected an integer"));
    }
}
