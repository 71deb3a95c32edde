//! The header of a `.npy` array: a Python dictionary in text.

/// Bytes that a header may have; the longest that NumPy writes for plain types is far shorter.
pub(super) const MAX_HEADER_BYTES: usize = 64 << 10;

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// The type, such as `<f4`.
    pub(super) descr: String,
    /// Whether the first axis is the innermost in memory.
    pub(super) fortran_order: bool,
    /// Extent of every axis.
    pub(super) shape: Vec<usize>,
}

/// Reads a header's dictionary.
pub(super) fn parse(text: &str) -> Result<Header, String> {
    let mut cursor = Cursor { rest: text.trim() };
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    cursor.expect('{')?;
    while !cursor.take('}') {
        let key = cursor.string()?;
        cursor.expect(':')?;
        match key {
            "descr" => descr = Some(cursor.descr()?),
            "fortran_order" => fortran_order = Some(cursor.boolean()?),
            "shape" => shape = Some(cursor.tuple()?),
            other => return Err(format!("its header has an unknown key '{other}'")),
        }
        if !cursor.take(',') {
            cursor.expect('}')?;
            break;
        }
    }
    if !cursor.rest.is_empty() {
        return Err(format!("its header goes on after the end: {:?}", cursor.shown()));
    }
    let missing = |key: &str| format!("its header lacks '{key}'");
    Ok(Header {
        descr: descr.ok_or_else(|| missing("descr"))?,
        fortran_order: fortran_order.ok_or_else(|| missing("fortran_order"))?,
        shape: shape.ok_or_else(|| missing("shape"))?,
    })
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, wanted: char) -> bool {
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.take(wanted) {
            return Ok(());
        }
        Err(format!("its header should have '{wanted}' before {:?}", self.shown()))
    }

    fn string(&mut self) -> Result<&'a str, String> {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let text = quote.and_then(|quote| self.rest[1..].split_once(quote));
        let Some((text, rest)) = text else {
            return Err(format!("its header should have a string at {:?}", self.shown()));
        };
        self.rest = rest.trim_start();
        Ok(text)
    }

    fn descr(&mut self) -> Result<String, String> {
        if self.rest.starts_with('[') {
            return Err("arrays of records are not supported: save each field as an array".into());
        }
        self.string().map(str::to_owned)
    }

    fn boolean(&mut self) -> Result<bool, String> {
        for (text, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(text) {
                self.rest = rest.trim_start();
                return Ok(value);
            }
        }
        Err(format!("its header should have True or False at {:?}", self.shown()))
    }

    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        self.expect('(')?;
        let mut extents = Vec::new();
        while !self.take(')') {
            let digits =
                self.rest.len() - self.rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, rest) = self.rest.split_at(digits);
            let extent = number.parse();
            extents.push(
                extent
                    .map_err(|_| format!("its shape should have a size at {:?}", self.shown()))?,
            );
            // Files of Python 2 write long integers as `3L`.
            self.rest = rest.strip_prefix('L').unwrap_or(rest).trim_start();
            if extents.len() > landfall_tensor::MAX_RANK {
                return Err(format!("more than {} axes", landfall_tensor::MAX_RANK));
            }
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(extents)
    }

    fn shown(&self) -> String {
        self.rest.chars().take(20).collect()
    }
}
