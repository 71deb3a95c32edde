//! Which requests to run now: a pure function of the queue and the time.
//!
//! The head of the queue (highest priority, then oldest) is never passed over by requests of its
//! own shape: a batch takes requests in order until the next one does not fit. Requests of
//! different shapes form separate batches; a full or ripe batch may run before the batch of the
//! head, which is still waiting for company of its own.

/// Batches that are considered side by side while they wait for company.
const MAX_GROUPS: usize = 16;

/// Place in the queue: priority level, then order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// 1 is served first.
    pub(crate) priority: u32,
    /// Unique and ascending.
    pub(crate) sequence: u64,
}

/// What the policy knows of a waiting request.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) place: Place,
    /// Rows it adds to a batch.
    pub(crate) rows: usize,
    /// Extents that must be equal within a batch; `None` for a request that must run alone.
    pub(crate) bucket: Option<Box<[usize]>>,
    pub(crate) enqueued_ns: u64,
    /// When it is given up; `u64::MAX` for never.
    pub(crate) deadline_ns: u64,
}

/// Limits of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchPolicy {
    pub(crate) max_rows: usize,
    pub(crate) max_delay_ns: u64,
}

/// The one thing to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// These waited too long.
    Expire(Vec<Place>),
    /// Run these as one batch.
    Run(Vec<Place>),
    /// Nothing before this time (`u64::MAX`: before something arrives or ends).
    Wait { until_ns: u64 },
}

impl BatchPolicy {
    /// When a request no longer waits for company: after the delay, or when half of its own time
    /// is gone, whichever is first.
    pub(crate) fn ripe_ns(&self, waiting: &Waiting) -> u64 {
        if waiting.bucket.is_none() || waiting.rows >= self.max_rows {
            return waiting.enqueued_ns;
        }
        let patience = waiting.deadline_ns.saturating_sub(waiting.enqueued_ns) / 2;
        waiting.enqueued_ns.saturating_add(self.max_delay_ns.min(patience))
    }

    /// Decides over `queue`, which is in order of [`Place`].
    pub(crate) fn decide<'a>(
        &self,
        queue: impl Iterator<Item = &'a Waiting> + Clone,
        instance_is_idle: bool,
        now_ns: u64,
    ) -> Decision {
        let mut deadline_ns = u64::MAX;
        let mut expired = Vec::new();
        for waiting in queue.clone() {
            deadline_ns = deadline_ns.min(waiting.deadline_ns);
            if waiting.deadline_ns <= now_ns {
                expired.push(waiting.place);
            }
        }
        if !expired.is_empty() {
            return Decision::Expire(expired);
        }
        if !instance_is_idle {
            return Decision::Wait { until_ns: deadline_ns };
        }
        let groups = self.groups(queue, now_ns);
        let ripe_ns = groups.iter().map(|group| group.ripe_ns).min().unwrap_or(u64::MAX);
        match groups.into_iter().find(|group| group.full || group.ripe_ns <= now_ns) {
            Some(group) => Decision::Run(group.places),
            None => Decision::Wait { until_ns: ripe_ns.min(deadline_ns) },
        }
    }

    fn groups<'a>(&self, queue: impl Iterator<Item = &'a Waiting>, now_ns: u64) -> Vec<Group<'a>> {
        let mut groups: Vec<Group<'a>> = Vec::new();
        for waiting in queue {
            let mate = groups.iter().position(|group| {
                group.bucket.is_some() && group.bucket == waiting.bucket.as_deref()
            });
            match mate {
                Some(index) => groups[index].add(waiting, self),
                None if groups.len() < MAX_GROUPS => groups.push(Group::new(waiting, self)),
                None => {}
            }
            let head = &groups[0];
            let head_is_closed = head.full || head.bucket.is_none();
            if head_is_closed {
                break;
            }
            // A ripe head runs whatever the other groups hold, so only its mates matter.
            if head.ripe_ns <= now_ns {
                groups.truncate(1);
            }
        }
        groups
    }
}

struct Group<'a> {
    bucket: Option<&'a [usize]>,
    places: Vec<Place>,
    rows: usize,
    ripe_ns: u64,
    /// Nothing more fits, or the next in order did not.
    full: bool,
}

impl<'a> Group<'a> {
    fn new(waiting: &'a Waiting, policy: &BatchPolicy) -> Group<'a> {
        Group {
            bucket: waiting.bucket.as_deref(),
            places: vec![waiting.place],
            rows: waiting.rows,
            ripe_ns: policy.ripe_ns(waiting),
            full: waiting.rows >= policy.max_rows,
        }
    }

    fn add(&mut self, waiting: &Waiting, policy: &BatchPolicy) {
        if self.full || self.rows.saturating_add(waiting.rows) > policy.max_rows {
            self.full = true;
            return;
        }
        self.places.push(waiting.place);
        self.rows += waiting.rows;
        self.ripe_ns = self.ripe_ns.min(policy.ripe_ns(waiting));
        self.full = self.rows == policy.max_rows;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `priority sequence rows bucket enqueued deadline`; bucket `.` runs alone, deadline `-` is
    /// never. One request per `;`, in queue order.
    fn queue(text: &str) -> Vec<Waiting> {
        text.split(';')
            .filter(|line| !line.trim().is_empty())
            .map(|line| {
                let field: Vec<&str> = line.split_whitespace().collect();
                Waiting {
                    place: Place {
                        priority: field[0].parse().unwrap(),
                        sequence: field[1].parse().unwrap(),
                    },
                    rows: field[2].parse().unwrap(),
                    bucket: field[3].parse().ok().map(|extent: usize| Box::from([extent])),
                    enqueued_ns: field[4].parse().unwrap(),
                    deadline_ns: field[5].parse().unwrap_or(u64::MAX),
                }
            })
            .collect()
    }

    fn decide(delay: u64, text: &str, idle: bool, now_ns: u64) -> String {
        let policy = BatchPolicy { max_rows: 8, max_delay_ns: delay };
        let queue = queue(text);
        let sequences = |places: Vec<Place>| {
            places.iter().map(|place| place.sequence.to_string()).collect::<Vec<_>>().join(" ")
        };
        match policy.decide(queue.iter(), idle, now_ns) {
            Decision::Expire(places) => format!("expire {}", sequences(places)),
            Decision::Run(places) => format!("run {}", sequences(places)),
            Decision::Wait { until_ns: u64::MAX } => "wait".to_owned(),
            Decision::Wait { until_ns } => format!("wait {until_ns}"),
        }
    }

    /// What is shown, delay, queue, whether an instance is idle, time, decision.
    const CASES: &[(&str, u64, &str, bool, u64, &str)] = &[
        ("nothing waits", 0, "", true, 5, "wait"),
        ("no delay runs what there is", 0, "2 1 1 7 0 -; 2 2 3 7 1 -", true, 1, "run 1 2"),
        ("no idle instance", 0, "2 1 1 7 0 -", false, 1, "wait"),
        ("no idle instance, but a deadline", 0, "2 1 1 7 0 90", false, 1, "wait 90"),
        ("the delay counts from the oldest", 10, "2 1 1 7 3 -; 2 2 1 7 9 -", true, 12, "wait 13"),
        ("the delay is over", 10, "2 1 1 7 3 -; 2 2 1 7 9 -", true, 13, "run 1 2"),
        ("a full batch does not wait", 10, "2 1 5 7 0 -; 2 2 3 7 0 -", true, 0, "run 1 2"),
        (
            "what does not fit ends the batch",
            10,
            "2 1 5 7 0 -; 2 2 4 7 0 -; 2 3 1 7 0 -",
            true,
            0,
            "run 1",
        ),
        ("larger than the largest runs alone", 10, "2 1 20 7 0 -; 2 2 1 7 0 -", true, 0, "run 1"),
        (
            "a larger one ends the batch before it",
            10,
            "2 1 1 7 0 -; 2 2 20 7 0 -",
            true,
            0,
            "run 1",
        ),
        ("shapes do not mix", 0, "2 1 1 7 0 -; 2 2 1 9 0 -; 2 3 1 7 0 -", true, 0, "run 1 3"),
        ("a full batch overtakes a waiting one", 10, "2 1 1 7 0 -; 2 2 8 9 0 -", true, 1, "run 2"),
        ("a ripe batch overtakes a waiting one", 10, "1 9 1 7 8 -; 2 2 1 9 0 -", true, 11, "run 2"),
        ("what runs alone does not wait", 10, "2 1 1 . 0 -; 2 2 1 7 0 -", true, 0, "run 1"),
        ("two that run alone do not join", 0, "2 1 1 . 0 -; 2 2 1 . 0 -", true, 0, "run 1"),
        ("urgent first", 0, "1 4 8 7 9 -; 2 1 1 7 0 -", true, 9, "run 4"),
        ("levels share a batch", 0, "1 4 1 7 9 -; 2 1 1 7 0 -", true, 9, "run 4 1"),
        ("expiry comes first", 0, "2 1 1 7 0 5; 2 2 1 7 0 -; 2 3 1 7 0 4", true, 5, "expire 1 3"),
        ("expiry needs no instance", 0, "2 1 1 7 0 5", false, 6, "expire 1"),
        ("at most half the time is spent waiting", 100, "2 1 1 7 0 40", true, 1, "wait 20"),
        ("half the time is gone", 100, "2 1 1 7 0 40", true, 20, "run 1"),
    ];

    #[test]
    fn table() {
        for (name, delay, queue, idle, now_ns, expected) in CASES {
            assert_eq!(decide(*delay, queue, *idle, *now_ns), *expected, "{name}");
        }
    }
}
