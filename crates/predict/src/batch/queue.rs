//! The bounded priority queue of one model version.

use std::collections::BTreeMap;

use super::job::Job;
use super::policy::Place;

/// Waiting requests in order of [`Place`].
#[derive(Default)]
pub(crate) struct Queue {
    jobs: BTreeMap<Place, Job>,
    rows: usize,
    next_sequence: u64,
}

impl Queue {
    /// Requests waiting.
    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Rows waiting.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Waiting requests, the next one first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Job> + Clone {
        self.jobs.values()
    }

    /// Adds a request behind all others of its level, or hands it back with what is full.
    pub(crate) fn push(
        &mut self,
        mut job: Job,
        max_requests: usize,
        max_rows: usize,
    ) -> Result<Place, Box<(Job, String)>> {
        let rows = job.waiting.rows;
        if self.jobs.len() >= max_requests {
            let reason = format!("{} requests wait, the most allowed", self.jobs.len());
            return Err(Box::new((job, reason)));
        }
        if !self.is_empty() && self.rows.saturating_add(rows) > max_rows {
            let reason =
                format!("{} rows wait, {rows} more would exceed the {max_rows} allowed", self.rows);
            return Err(Box::new((job, reason)));
        }
        job.waiting.place.sequence = self.next_sequence;
        self.next_sequence += 1;
        let place = job.waiting.place;
        self.rows = self.rows.saturating_add(rows);
        self.jobs.insert(place, job);
        Ok(place)
    }

    /// Takes one request out, if it still waits.
    pub(crate) fn remove(&mut self, place: Place) -> Option<Job> {
        let job = self.jobs.remove(&place)?;
        self.rows = self.rows.saturating_sub(job.waiting.rows);
        Some(job)
    }

    /// Takes several requests out.
    pub(crate) fn take(&mut self, places: &[Place]) -> Vec<Job> {
        places.iter().filter_map(|&place| self.remove(place)).collect()
    }
}
