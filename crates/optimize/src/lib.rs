//! Output-preserving graph passes.
