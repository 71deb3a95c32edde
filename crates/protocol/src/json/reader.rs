//! A cursor over JSON text.

use std::borrow::Cow;

use crate::DecodeError;

/// The deepest nesting accepted, in arrays and objects.
pub const MAX_DEPTH: usize = 64;

type Result<T> = std::result::Result<T, DecodeError>;

/// A cursor over JSON text that has been checked to be UTF-8.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// A cursor at the start of some text.
    pub fn new(bytes: &'a [u8]) -> Result<Reader<'a>> {
        let text = std::str::from_utf8(bytes).map_err(|e| DecodeError::Json {
            offset: e.valid_up_to(),
            problem: "not UTF-8".to_owned(),
        })?;
        Ok(Reader { text, at: 0 })
    }

    /// Bytes consumed so far.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Moves to an offset that [`Reader::offset`] returned earlier.
    pub fn seek(&mut self, offset: usize) {
        self.at = offset.min(self.text.len());
    }

    /// Bytes left.
    pub fn remaining(&self) -> usize {
        self.text.len() - self.at
    }

    /// An error at the cursor.
    pub fn error(&self, problem: impl Into<String>) -> DecodeError {
        DecodeError::Json { offset: self.at, problem: problem.into() }
    }

    /// The next byte that is not white space, without consuming it.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    fn unexpected(&mut self, expected: &str) -> DecodeError {
        match self.peek() {
            Some(_) => {
                let found = self.text[self.at..].chars().next().unwrap_or(' ');
                self.error(format!("expected {expected}, found '{found}'"))
            }
            None => self.error(format!("expected {expected}, found the end")),
        }
    }

    /// Consumes `byte` if it is next.
    #[inline]
    pub fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Consumes `byte`, which must be next.
    pub fn expect(&mut self, byte: u8, what: &str) -> Result<()> {
        if self.take(byte) { Ok(()) } else { Err(self.unexpected(what)) }
    }

    /// After an element: `true` if a comma announces another, `false` if `close` ends the list.
    #[inline]
    pub fn more(&mut self, close: u8) -> Result<bool> {
        if self.take(b',') {
            return Ok(true);
        }
        if self.take(close) {
            return Ok(false);
        }
        Err(self.unexpected(if close == b']' { "',' or ']'" } else { "',' or '}'" }))
    }

    /// Calls `field` for every key of an object; `field` must consume the value. A key that occurs
    /// twice is an error.
    pub fn object(
        &mut self,
        mut field: impl FnMut(&mut Reader<'a>, &str) -> Result<()>,
    ) -> Result<()> {
        self.expect(b'{', "an object")?;
        let mut seen: Vec<Cow<'a, str>> = Vec::new();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let key = self.string()?;
            if seen.contains(&key) {
                return Err(self.error(format!("key '{key}' occurs twice")));
            }
            if seen.len() == 4096 {
                return Err(self.error("an object of more than 4096 keys"));
            }
            self.expect(b':', "':'")?;
            field(self, &key)?;
            seen.push(key);
            if !self.more(b'}')? {
                return Ok(());
            }
        }
    }

    /// Calls `element` before every element of an array; `element` must consume it.
    pub fn array(&mut self, mut element: impl FnMut(&mut Reader<'a>) -> Result<()>) -> Result<()> {
        self.expect(b'[', "an array")?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            element(self)?;
            if !self.more(b']')? {
                return Ok(());
            }
        }
    }

    /// A string, borrowed unless it has escapes.
    pub fn string(&mut self) -> Result<Cow<'a, str>> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a string"));
        }
        let start = self.at + 1;
        let bytes = self.text.as_bytes();
        let mut end = start;
        let mut escaped = false;
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    end += 2;
                }
                Some(0..=31) => {
                    self.at = end;
                    return Err(self.error("control character in a string"));
                }
                Some(_) => end += 1,
                None => return Err(self.error("unterminated string")),
            }
        }
        let value = if escaped {
            let quoted = &self.text[self.at..=end];
            let owned: String = serde_json::from_str(quoted)
                .map_err(|e| self.error(format!("invalid string: {e}")))?;
            Cow::Owned(owned)
        } else {
            Cow::Borrowed(&self.text[start..end])
        };
        self.at = end + 1;
        Ok(value)
    }

    /// The text of a number, checked against JSON's grammar.
    #[inline]
    pub fn number(&mut self) -> Result<&'a str> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => {}
            _ => return Err(self.unexpected("a number")),
        }
        let bytes = &self.text.as_bytes()[self.at..];
        let Some(len) = number_length(bytes) else {
            return Err(self.error("malformed number"));
        };
        let text = &self.text[self.at..self.at + len];
        self.at += len;
        Ok(text)
    }

    /// `true` or `false`.
    pub fn boolean(&mut self) -> Result<bool> {
        if self.word("true") {
            Ok(true)
        } else if self.word("false") {
            Ok(false)
        } else {
            Err(self.unexpected("true or false"))
        }
    }

    /// Consumes a bare word if it is next.
    pub fn word(&mut self, word: &str) -> bool {
        self.peek();
        let found = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// A non-negative integer.
    pub fn unsigned(&mut self) -> Result<u64> {
        let offset = self.at;
        let text = self.number()?;
        text.parse().map_err(|_| DecodeError::Json {
            offset,
            problem: format!("expected a non-negative integer, found {text}"),
        })
    }

    /// Skips one value of any kind.
    pub fn skip(&mut self) -> Result<()> {
        self.skip_nested(0)
    }

    fn skip_nested(&mut self, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(self.error(format!("nested deeper than {MAX_DEPTH}")));
        }
        match self.peek() {
            Some(b'{') => self.object(|r, _| r.skip_nested(depth + 1)),
            Some(b'[') => self.array(|r| r.skip_nested(depth + 1)),
            Some(b'"') => self.string().map(drop),
            Some(b't' | b'f') => self.boolean().map(drop),
            Some(b'n') if self.word("null") => Ok(()),
            Some(b'N' | b'I') if self.word("NaN") || self.word("Infinity") => Ok(()),
            Some(b'-') if self.word("-Infinity") => Ok(()),
            _ => self.number().map(drop),
        }
    }

    /// The end of the text; anything but white space is an error.
    pub fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("the end")),
        }
    }
}

/// Length of the JSON number at the start of `bytes` (RFC 8259 section 6), `None` if there is none.
fn number_length(bytes: &[u8]) -> Option<usize> {
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let start = usize::from(bytes.first() == Some(&b'-'));
    let mut at = digits(start);
    if at == start || (bytes[start] == b'0' && at > start + 1) {
        return None;
    }
    if bytes.get(at) == Some(&b'.') {
        let end = digits(at + 1);
        if end == at + 1 {
            return None;
        }
        at = end;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let end = digits(at + 1 + sign);
        if end == at + 1 + sign {
            return None;
        }
        at = end;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_grammar() {
        for good in ["0", "-0", "10", "1.5", "-1e9", "1E+2", "0.1e-7"] {
            assert_eq!(number_length(good.as_bytes()), Some(good.len()), "{good}");
        }
        for bad in ["", "-", "01", "1.", ".5", "+1", "1e", "1e+"] {
            assert_eq!(number_length(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn strings_are_unescaped_and_checked() {
        let mut reader = Reader::new(br#""a\u00e9\n" "\ud800" "#).unwrap();
        assert_eq!(reader.string().unwrap(), "a\u{e9}\n");
        assert!(reader.string().is_err());
        assert!(Reader::new(b"\"ab").unwrap().string().is_err());
        assert!(Reader::new(b"\"ab\\").unwrap().string().is_err());
        assert!(Reader::new(b"\"a\nb\"").unwrap().string().is_err());
    }

    #[test]
    fn skipping_is_bounded_and_repeated_keys_are_refused() {
        let deep = "[".repeat(100_000);
        assert!(Reader::new(deep.as_bytes()).unwrap().skip().is_err());
        let error = Reader::new(br#"{"a":1,"a":2}"#).unwrap().skip().unwrap_err();
        assert_eq!(error.to_string(), "malformed JSON at byte 10: key 'a' occurs twice");
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_serde_json_on_what_is_json(text in r#"[\[\]{},:"a0-9.eE+\- tfn]{0,12}"#) {
            let mut reader = Reader::new(text.as_bytes()).unwrap();
            let ours = reader.skip().and_then(|()| reader.end()).is_ok();
            let theirs = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            // Repeated keys are JSON, but refused here.
            proptest::prop_assert!(ours == theirs || text.matches('"').count() >= 4, "{}", text);
        }
    }
}
