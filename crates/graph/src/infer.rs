//! Shape and datatype inference.
