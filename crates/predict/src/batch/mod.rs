//! Dynamic batching: rows of many requests in one run of the model.
//!
//! [`policy`] decides, without threads or clocks; [`queue`] holds what waits, within its bounds;
//! [`rows`] joins inputs and splits outputs; [`core`] and `run` apply the decisions on threads.

pub(crate) mod core;
pub(crate) mod job;
pub(crate) mod layout;
pub(crate) mod policy;
pub(crate) mod probe;
#[cfg(test)]
mod property;
pub(crate) mod queue;
pub(crate) mod rows;
mod run;
#[cfg(test)]
mod tests;
