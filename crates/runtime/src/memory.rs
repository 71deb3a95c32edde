//! The static memory plan: offsets in one arena for values with known lifetimes.
//!
//! Greedy by size: the largest value first, each at the lowest offset that no value alive at the
//! same time occupies. Source: Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
//! Inference", section 5.2.

use std::ops::Range;

use landfall_tensor::ALIGNMENT;

/// One value to place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Size in bytes.
    pub bytes: usize,
    /// The step that writes it.
    pub first: usize,
    /// The last step that reads it.
    pub last: usize,
}

/// Where every value lies, and how good that is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryPlan {
    /// The range of every request, in their order.
    pub ranges: Vec<Range<usize>>,
    /// Size of the arena in bytes.
    pub arena_bytes: usize,
    /// The most bytes alive at any step: no plan can be smaller.
    pub lower_bound_bytes: usize,
}

/// Places every request.
pub fn plan(requests: &[Request]) -> MemoryPlan {
    let padded = |bytes: usize| bytes.next_multiple_of(ALIGNMENT);
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(requests[i].bytes), i));
    let mut ranges = vec![0..0; requests.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut arena_bytes = 0;
    for i in order {
        let request = requests[i];
        let mut start = 0;
        // `placed` is kept in order of offset, so the first gap is the lowest.
        for &other in &placed {
            let alive =
                requests[other].first <= request.last && request.first <= requests[other].last;
            if !alive {
                continue;
            }
            if start + request.bytes <= ranges[other].start {
                break;
            }
            start = start.max(padded(ranges[other].end));
        }
        ranges[i] = start..start + request.bytes;
        arena_bytes = arena_bytes.max(padded(start + request.bytes));
        let at = placed.partition_point(|&other| ranges[other].start <= start);
        placed.insert(at, i);
    }
    MemoryPlan { ranges, arena_bytes, lower_bound_bytes: lower_bound(requests) }
}

/// The most bytes alive at any step.
pub fn lower_bound(requests: &[Request]) -> usize {
    let steps = requests.iter().map(|request| request.last + 1).max().unwrap_or(0);
    let mut change = vec![0isize; steps + 1];
    for request in requests {
        change[request.first] += request.bytes as isize;
        change[request.last + 1] -= request.bytes as isize;
    }
    let mut alive = 0;
    let most = change.iter().map(|delta| {
        alive += delta;
        alive
    });
    most.max().map_or(0, |bytes| bytes.max(0) as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_that_do_not_meet_share_memory() {
        let request = |bytes, first, last| Request { bytes, first, last };
        let plan = plan(&[request(64, 0, 1), request(64, 1, 2), request(64, 2, 3)]);
        assert_eq!(plan.ranges, [0..64, 64..128, 0..64]);
        assert_eq!((plan.arena_bytes, plan.lower_bound_bytes), (128, 128));
    }

    proptest! {
        #[test]
        fn values_alive_together_never_overlap(
            raw in prop::collection::vec((0usize..5000, 0usize..40, 0usize..10), 0..60)
        ) {
            let requests: Vec<Request> = raw
                .into_iter()
                .map(|(bytes, first, length)| Request { bytes, first, last: first + length })
                .collect();
            let plan = plan(&requests);
            prop_assert!(plan.arena_bytes >= plan.lower_bound_bytes);
            for (i, a) in requests.iter().enumerate() {
                prop_assert!(plan.ranges[i].end <= plan.arena_bytes);
                prop_assert_eq!(plan.ranges[i].len(), a.bytes);
                prop_assert_eq!(plan.ranges[i].start % ALIGNMENT, 0);
                for (j, b) in requests.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last;
                    let (x, y) = (&plan.ranges[i], &plan.ranges[j]);
                    let overlap = !x.is_empty() && !y.is_empty()
                        && x.start < y.end && y.start < x.end;
                    prop_assert!(!(together && overlap));
                }
            }
        }
    }
}
