//! Which versions to serve, and the next step towards that: pure functions.
//!
//! Availability before frugality: a new version is loaded before the old one is unloaded, and an
//! old one is kept for as long as nothing that should replace it is ready. The price is memory for
//! both while they overlap.

/// Which of the versions that exist should be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionPolicy {
    /// The n highest.
    Latest(usize),
    /// Every one.
    All,
    /// These, where they exist.
    Specific(Vec<u64>),
}

/// The highest version alone.
impl Default for VersionPolicy {
    fn default() -> VersionPolicy {
        VersionPolicy::Latest(1)
    }
}

/// A version that exists in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Available {
    /// Its number.
    pub version: u64,
    /// A digest of its content: a different one means that the version is to be replaced.
    pub revision: u64,
}

impl VersionPolicy {
    /// The versions to serve, of those that exist: highest first, each once.
    pub fn aspired(&self, available: &[Available]) -> Vec<Available> {
        let mut versions = available.to_vec();
        versions.sort_by_key(|available| std::cmp::Reverse(available.version));
        versions.dedup_by_key(|available| available.version);
        match self {
            VersionPolicy::Latest(n) => versions.truncate(*n),
            VersionPolicy::All => {}
            VersionPolicy::Specific(wanted) => {
                versions.retain(|available| wanted.contains(&available.version));
            }
        }
        versions
    }
}

/// Where one version stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) version: u64,
    /// The revision that is being served.
    pub(crate) serving: Option<u64>,
    /// The revision that failed to load last.
    pub(crate) failed: Option<u64>,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Load this version, in place of its older revision if there is one.
    Load(Available),
    /// Take this version out of service.
    Unload(u64),
}

/// The next step from `current` towards `aspired`; `None` if there is nothing to do. The same
/// question always gets the same answer, and a step that was taken is not asked for again.
pub(crate) fn next_action(aspired: &[Available], current: &[Standing]) -> Option<Action> {
    let standing = |version: u64| current.iter().find(|standing| standing.version == version);
    let to_load = aspired.iter().find(|wanted| {
        standing(wanted.version).is_none_or(|standing| {
            standing.serving != Some(wanted.revision) && standing.failed != Some(wanted.revision)
        })
    });
    if let Some(&wanted) = to_load {
        return Some(Action::Load(wanted));
    }
    let is_aspired = |version: u64| aspired.iter().any(|wanted| wanted.version == version);
    let serving = || current.iter().filter(|standing| standing.serving.is_some());
    let is_replaced = aspired.is_empty() || serving().any(|standing| is_aspired(standing.version));
    let to_unload = serving().map(|standing| standing.version).filter(|&v| !is_aspired(v)).min();
    to_unload.filter(|_| is_replaced).map(Action::Unload)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `version:revision` pairs.
    fn aspired(text: &str) -> Vec<Available> {
        text.split_whitespace()
            .map(|pair| {
                let (version, revision) = pair.split_once(':').unwrap();
                Available { version: version.parse().unwrap(), revision: revision.parse().unwrap() }
            })
            .collect()
    }

    /// `version:serving:failed` triples, `-` for none.
    fn current(text: &str) -> Vec<Standing> {
        text.split_whitespace()
            .map(|triple| {
                let field: Vec<&str> = triple.split(':').collect();
                Standing {
                    version: field[0].parse().unwrap(),
                    serving: field[1].parse().ok(),
                    failed: field[2].parse().ok(),
                }
            })
            .collect()
    }

    #[test]
    fn table() {
        let cases = [
            ("nothing exists", "", "", "done"),
            ("first load", "1:7", "", "load 1:7"),
            ("ready", "1:7", "1:7:-", "done"),
            ("new before old goes", "2:7", "1:7:-", "load 2:7"),
            ("old goes after", "2:7", "1:7:- 2:7:-", "unload 1"),
            ("new failed, old stays", "2:7", "1:7:- 2:-:7", "done"),
            ("a failure with another revision is tried", "2:8", "1:7:- 2:-:7", "load 2:8"),
            ("a changed revision is replaced", "1:8", "1:7:-", "load 1:8"),
            ("a failed replacement keeps the old", "1:8", "1:7:8", "done"),
            ("highest first", "3:7 2:7 1:7", "", "load 3:7"),
            ("one failed, the rest loads", "3:7 2:7", "3:-:7", "load 2:7"),
            (
                "one of the new is ready: all old go",
                "3:7 4:7",
                "1:7:- 2:7:- 3:7:- 4:-:7",
                "unload 1",
            ),
            ("back to a smaller version", "1:7", "2:7:-", "load 1:7"),
            ("nothing is wanted", "", "1:7:- 2:7:-", "unload 1"),
            ("what failed needs no unloading", "", "1:-:7", "done"),
        ];
        for (name, wanted, standing, expected) in cases {
            let found = match next_action(&aspired(wanted), &current(standing)) {
                None => "done".to_owned(),
                Some(Action::Load(a)) => format!("load {}:{}", a.version, a.revision),
                Some(Action::Unload(version)) => format!("unload {version}"),
            };
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn policies_choose_among_what_exists() {
        let available = aspired("1:7 10:7 2:7 2:7");
        let versions = |policy: VersionPolicy| {
            policy.aspired(&available).iter().map(|a| a.version).collect::<Vec<_>>()
        };
        assert_eq!(versions(VersionPolicy::Latest(1)), [10]);
        assert_eq!(versions(VersionPolicy::Latest(2)), [10, 2]);
        assert_eq!(versions(VersionPolicy::All), [10, 2, 1]);
        assert_eq!(versions(VersionPolicy::Specific(vec![1, 3])), [1]);
    }

    proptest::proptest! {
        /// Whatever fails, following the policy ends, and never gives up the last version that
        /// serves while something is wanted.
        #[test]
        fn steps_end_and_keep_the_model_available(
            wanted in proptest::collection::btree_map(0u64..6, 0u64..3, 0..5),
            start in proptest::collection::btree_map(0u64..6, 0u64..3, 0..5),
            failing in proptest::collection::btree_set(0u64..6, 0..4),
        ) {
            let aspired: Vec<Available> = wanted
                .iter()
                .map(|(&version, &revision)| Available { version, revision })
                .collect();
            let mut state: Vec<Standing> = start
                .iter()
                .map(|(&version, &revision)| Standing {
                    version,
                    serving: Some(revision),
                    failed: None,
                })
                .collect();
            let mut steps = 0;
            while let Some(action) = next_action(&aspired, &state) {
                steps += 1;
                proptest::prop_assert!(steps <= 12, "still {action:?}");
                let served = state.iter().any(|s| s.serving.is_some());
                match action {
                    Action::Load(a) => {
                        if !state.iter().any(|s| s.version == a.version) {
                            let version = a.version;
                            state.push(Standing { version, serving: None, failed: None });
                        }
                        let slot = state.iter_mut().find(|s| s.version == a.version).unwrap();
                        match failing.contains(&a.version) {
                            true => slot.failed = Some(a.revision),
                            false => slot.serving = Some(a.revision),
                        }
                    }
                    Action::Unload(version) => {
                        state.iter_mut().find(|s| s.version == version).unwrap().serving = None;
                    }
                }
                let serves = state.iter().any(|s| s.serving.is_some());
                proptest::prop_assert!(serves || !served || aspired.is_empty());
            }
        }
    }
}
