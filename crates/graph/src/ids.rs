//! Typed ids: a node id cannot be passed as a value id.

use std::fmt;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u32);

        impl $name {
            /// The id with that index.
            pub fn new(index: usize) -> $name {
                $name(u32::try_from(index).expect("a graph has fewer than 2^32 entities"))
            }

            /// Position in the graph's table.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    )*};
}

ids! {
    /// A value of a graph.
    ValueId, "v";
    /// A node of a graph.
    NodeId, "n";
}
