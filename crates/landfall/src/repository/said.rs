//! Saying a problem once, not at every look that finds it again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What a problem is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// The model, or the repository.
    Whole,
    /// A label of the model.
    Label(String),
    /// An entry of the folder.
    Entry(String),
}

/// Problems by topic.
pub(super) type Problems = BTreeMap<Topic, String>;

/// What was said last, of each model.
#[derive(Debug, Default)]
pub(super) struct Said(Mutex<BTreeMap<String, Problems>>);

impl Said {
    /// Takes a model's present problems in place of its former ones; gives back those that are
    /// new or have changed.
    pub(super) fn news(&self, model: &str, now: Problems) -> Problems {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match now.is_empty() {
            true => said.remove(model),
            false => said.insert(model.to_owned(), now.clone()),
        };
        let before = before.unwrap_or_default();
        now.into_iter().filter(|(topic, text)| before.get(topic) != Some(text)).collect()
    }

    /// What was said last of a model.
    pub(super) fn last(&self, model: &str) -> Problems {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.get(model).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_is_news() {
        let said = Said::default();
        let problems = |text: &str| Problems::from([(Topic::Whole, text.to_owned())]);
        assert_eq!(said.news("m", problems("x")), problems("x"));
        assert_eq!(said.news("m", problems("x")), Problems::new());
        assert_eq!(said.news("other", problems("x")), problems("x"));
        assert_eq!(said.news("m", problems("y")), problems("y"));
        assert_eq!(said.last("m"), problems("y"));
        assert_eq!(said.news("m", Problems::new()), Problems::new());
        assert_eq!(said.news("m", problems("y")), problems("y"), "it was gone meanwhile");
    }
}
