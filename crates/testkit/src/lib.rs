//! Test support: files of test data.

pub mod npz;
