//! What can be wrong with a request's bytes.

/// A request that cannot be understood; always the caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Text that is not JSON, or has another kind of value in some place than is expected there.
    #[error("malformed JSON at byte {offset}: {problem}")]
    Json {
        /// Where in the JSON text.
        offset: usize,
        /// What was expected and found there.
        problem: String,
    },
    /// One input is wrong.
    #[error("input '{input}': {problem}")]
    Input {
        /// The input's name.
        input: String,
        /// What was expected and found.
        problem: String,
    },
    /// The request as a whole is wrong.
    #[error("{0}")]
    Request(String),
}

impl DecodeError {
    pub(crate) fn input(input: &str, problem: impl ToString) -> DecodeError {
        DecodeError::Input { input: input.to_owned(), problem: problem.to_string() }
    }

    pub(crate) fn request(problem: impl Into<String>) -> DecodeError {
        DecodeError::Request(problem.into())
    }
}
