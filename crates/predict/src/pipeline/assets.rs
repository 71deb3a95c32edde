//! Files that steps name: label lists and category mappings.

use std::collections::{BTreeMap, HashMap};

use landfall_package::steps::StepError;

/// Gives a file's bytes by its name.
pub(super) type Loader<'a> = &'a dyn Fn(&str) -> Result<Vec<u8>, String>;

/// Loads a file for the step at `place`.
pub(super) fn load(asset: Loader<'_>, name: &str, place: &str) -> Result<Vec<u8>, StepError> {
    asset(name).map_err(|message| error(place, format!("asset '{name}': {message}")))
}

/// A label a line, or with a name that ends in `.json` an array of them.
pub(super) fn labels(asset: Loader<'_>, name: &str, place: &str) -> Result<Vec<String>, StepError> {
    let bytes = load(asset, name, place)?;
    let fail = |e: String| error(place, format!("asset '{name}': {e}"));
    if name.ends_with(".json") {
        return serde_json::from_slice(&bytes)
            .map_err(|e| fail(format!("not a list of text: {e}")));
    }
    let text = String::from_utf8(bytes).map_err(|e| fail(format!("not UTF-8 text: {e}")))?;
    Ok(text.lines().map(|line| line.trim_end().to_owned()).collect())
}

/// A JSON object from text to integer.
pub(super) fn mapping(
    asset: Loader<'_>,
    name: &str,
    place: &str,
) -> Result<HashMap<String, i64>, StepError> {
    let bytes = load(asset, name, place)?;
    let map: BTreeMap<String, i64> = serde_json::from_slice(&bytes).map_err(|e| {
        error(place, format!("asset '{name}': not an object from text to integer: {e}"))
    })?;
    Ok(map.into_iter().collect())
}

/// An error of the step at `place`.
pub(super) fn error(place: &str, message: impl Into<String>) -> StepError {
    StepError { place: place.to_owned(), message: message.into() }
}
