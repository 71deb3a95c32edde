//! Text to tokens.

use super::parser::ParseError;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `graph`, `f32`, `Conv`, `ai.onnx.ml.Scaler`, `_`.
    Word(String),
    /// `%name`, `%"any name"`, `%#12`.
    Value(String),
    /// `"text"`.
    Text(String),
    /// Digits, sign, point, exponent, `inf`: kept as written.
    Number(String),
    /// Any other single character.
    Mark(char),
    End,
}

pub(super) struct Lexer<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Lexer<'a> {
        Lexer { rest: text, line: 1 }
    }

    pub(super) fn line(&self) -> usize {
        self.line
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.bytes().filter(|&b| b == b'\n').count();
        self.rest = rest;
        taken
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !keep(c)).unwrap_or(self.rest.len());
        self.take(end)
    }

    fn quoted(&mut self) -> Result<String, ParseError> {
        let line = self.line;
        self.take(1);
        let mut text = String::new();
        loop {
            let mut chars = self.rest.chars();
            match chars.next() {
                Some('"') => {
                    self.take(1);
                    return Ok(text);
                }
                Some('\\') => {
                    match chars.next() {
                        Some('n') => text.push('\n'),
                        Some(c @ ('"' | '\\')) => text.push(c),
                        _ => return Err(ParseError::new(line, "bad escape in text")),
                    }
                    self.take(2);
                }
                Some(c) => {
                    text.push(c);
                    self.take(c.len_utf8());
                }
                None => return Err(ParseError::new(line, "text without closing quote")),
            }
        }
    }

    pub(super) fn next(&mut self) -> Result<Token, ParseError> {
        loop {
            self.take_while(char::is_whitespace);
            if !self.rest.starts_with("//") {
                break;
            }
            self.take_while(|c| c != '\n');
        }
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
        let Some(first) = self.rest.chars().next() else { return Ok(Token::End) };
        Ok(match first {
            '"' => Token::Text(self.quoted()?),
            '%' => {
                self.take(1);
                match self.rest.chars().next() {
                    Some('"') => Token::Value(self.quoted()?),
                    Some('#') => {
                        self.take(1);
                        Token::Value(format!("#{}", self.take_while(|c| c.is_ascii_digit())))
                    }
                    _ => Token::Value(self.take_while(word).to_owned()),
                }
            }
            '-' | '0'..='9' => Token::Number(
                self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'))
                    .to_owned(),
            ),
            c if c.is_ascii_alphabetic() || c == '_' => {
                Token::Word(self.take_while(word).to_owned())
            }
            c => {
                self.take(c.len_utf8());
                Token::Mark(c)
            }
        })
    }
}
