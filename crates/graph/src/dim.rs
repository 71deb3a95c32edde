//! Symbolic extents.

use std::fmt;
use std::sync::Arc;

/// The extent of one axis while shapes are not all known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Known.
    Known(usize),
    /// Not known yet, but equal wherever the same name stands.
    Symbol(Arc<str>),
    /// Not known, and not known to equal any other.
    Unknown,
}

/// What names that inference gives begin with; authors' names do not.
const GIVEN: char = '#';

impl Dim {
    /// A symbol that inference gives an extent it knows nothing else of, so that equal ones are
    /// known to be equal. Such names stay inside a graph: its signature and text do not show them.
    pub(crate) fn given(number: usize) -> Dim {
        Dim::Symbol(format!("{GIVEN}{number}").into())
    }

    /// The number of a symbol that inference gave.
    pub(crate) fn given_number(&self) -> Option<usize> {
        match self {
            Dim::Symbol(name) => name.strip_prefix(GIVEN)?.parse().ok(),
            _ => None,
        }
    }

    /// The smaller of an extent and one of that name: what slicing up to it leaves.
    pub(crate) fn at_most(extent: usize, name: &str) -> Dim {
        if extent == 0 {
            return Dim::Known(0);
        }
        Dim::Symbol(format!("{GIVEN}{extent}≥{name}").into())
    }

    /// Whether this is the smaller of some extent and `other`.
    pub(crate) fn is_at_most(&self, other: &Dim) -> bool {
        let (Dim::Symbol(name), Dim::Symbol(other)) = (self, other) else { return false };
        let limit = name.strip_prefix(GIVEN).and_then(|name| name.strip_suffix(&**other));
        let limit = limit.and_then(|rest| rest.strip_suffix('≥'));
        limit.is_some_and(|limit| limit.parse::<usize>().is_ok())
    }

    /// Whether inference, not the model's author, gave the symbol.
    pub fn is_given(&self) -> bool {
        matches!(self, Dim::Symbol(name) if name.starts_with(GIVEN))
    }

    /// The extent, if known.
    pub fn known(&self) -> Option<usize> {
        match self {
            Dim::Known(n) => Some(*n),
            _ => None,
        }
    }

    /// Whether two extents are certainly equal.
    pub fn same(&self, other: &Dim) -> bool {
        !matches!(self, Dim::Unknown) && self == other
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        Dim::Known(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Known(n) => write!(f, "{n}"),
            Dim::Symbol(name) if !self.is_given() => f.write_str(name),
            Dim::Symbol(_) | Dim::Unknown => f.write_str("?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_of_inference_are_told_from_those_of_authors() {
        let author = Dim::Symbol("rows".into());
        assert!(!author.is_given() && author.given_number().is_none());
        let given = Dim::given(12);
        assert_eq!((given.is_given(), given.given_number()), (true, Some(12)));
        assert_eq!((given.to_string().as_str(), author.to_string().as_str()), ("?", "rows"));
    }

    #[test]
    fn the_smaller_extent_remembers_what_it_was_compared_with() {
        let (rows, other) = (Dim::Symbol("rows".into()), Dim::Symbol("ows".into()));
        let slice = Dim::at_most(512, "rows");
        assert!(slice.is_given() && slice.given_number().is_none());
        assert!(slice.is_at_most(&rows) && !slice.is_at_most(&other));
        assert!(!rows.is_at_most(&rows) && !Dim::given(3).is_at_most(&rows));
        assert_eq!(Dim::at_most(0, "rows"), Dim::Known(0));
        let nested = Dim::at_most(16, &format!("{GIVEN}512≥rows"));
        assert!(nested.is_at_most(&slice) && !nested.is_at_most(&rows));
    }
}
