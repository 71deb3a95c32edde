//! A thread pool for static partitions: low latency, no allocation per run.
//!
//! Each worker watches a slot of its own. A run publishes a pointer to a job on the caller's stack
//! in the slots it needs, works on its own share, takes back the shares that no worker has begun by
//! then, and returns when the others have reported. So a worker whose core is busy with something
//! else, or that sleeps too long, costs no more than its help.
//! Workers spin briefly between runs (consecutive kernels of one inference are microseconds apart),
//! then park.

use std::any::Any;
use std::cell::Cell;
use std::hint::spin_loop;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};

/// About 20 to 100 µs, by the processor's pause length.
const SPINS: usize = 1500;

type Task = dyn Fn(usize) + Sync;

struct Job {
    task: *const Task,
    parts: usize,
    threads: usize,
    unfinished: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    caller: Thread,
}

#[repr(align(128))]
struct Slot {
    job: AtomicPtr<Job>,
    parked: AtomicBool,
    stop: AtomicBool,
}

/// Threads that run the parts of one call at a time; the caller is the first of them.
pub struct Pool {
    team: Arc<Team>,
    /// At most one more than the team has workers.
    threads: usize,
}

/// Workers, shared by the pool and its smaller views.
struct Team {
    slots: Arc<[Slot]>,
    workers: Vec<JoinHandle<()>>,
    turn: Mutex<()>,
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

impl Pool {
    /// A pool of `threads` threads (at least one) counting the caller: `threads - 1` are started.
    /// Fails when the system refuses a thread.
    pub fn new(threads: usize) -> io::Result<Pool> {
        let extra = threads.max(1) - 1;
        let slot = |_| Slot {
            job: AtomicPtr::new(ptr::null_mut()),
            parked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        };
        let slots: Arc<[Slot]> = (0..extra).map(slot).collect();
        let mut team = Team { slots, workers: Vec::with_capacity(extra), turn: Mutex::new(()) };
        for index in 0..extra {
            let slots = Arc::clone(&team.slots);
            let builder = thread::Builder::new().name(format!("landfall-compute-{}", index + 1));
            team.workers.push(builder.spawn(move || work(&slots[index], index + 1))?);
        }
        Ok(Pool { team: Arc::new(team), threads: extra + 1 })
    }

    fn single() -> Pool {
        let team = Team { slots: Arc::new([]), workers: Vec::new(), turn: Mutex::new(()) };
        Pool { team: Arc::new(team), threads: 1 }
    }

    /// The same threads, of which a run uses at most `threads` (at least the caller).
    pub fn limited(&self, threads: usize) -> Pool {
        Pool { team: Arc::clone(&self.team), threads: threads.clamp(1, self.threads) }
    }

    /// The pool that runs everything on the calling thread.
    pub fn inline() -> &'static Pool {
        static INLINE: LazyLock<Pool> = LazyLock::new(Pool::single);
        &INLINE
    }

    /// Number of threads, the caller included.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `task(part)` once for each part in `0..parts` and returns when all have finished.
    ///
    /// Thread `t` runs parts `t`, `t + threads`, and so on, or the caller if that thread has not
    /// begun once the caller's own parts are done. One part, one thread, or a call from
    /// inside a task runs inline. Callers on several threads take turns. A panic in any part is
    /// raised again here after all threads have stopped working on the call.
    pub fn run(&self, parts: usize, task: &(dyn Fn(usize) + Sync)) {
        let threads = self.threads().min(parts);
        if threads <= 1 || INSIDE.get() {
            (0..parts).for_each(task);
            return;
        }
        let turn = self.team.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: only the lifetime is erased. The job does not outlive this call: every worker
        // that receives it is waited for below, whatever panics.
        let task =
            unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Task>(task) };
        let mut job = Job {
            task,
            parts,
            threads,
            unfinished: AtomicUsize::new(threads - 1),
            panic: Mutex::new(None),
            caller: thread::current(),
        };
        let shared: *mut Job = &raw mut job;
        for (slot, worker) in self.team.slots.iter().zip(&self.team.workers).take(threads - 1) {
            slot.job.store(shared, Ordering::SeqCst);
            if slot.parked.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
        // SAFETY: the job lives on this stack frame and is only shared from here on.
        let job = unsafe { &*shared };
        job.work(0);
        for (index, slot) in self.team.slots.iter().take(threads - 1).enumerate() {
            // Whoever takes the pointer out of the slot does the share.
            if !slot.job.swap(ptr::null_mut(), Ordering::AcqRel).is_null() {
                job.work(index + 1);
                job.unfinished.fetch_sub(1, Ordering::AcqRel);
            }
        }
        job.wait();
        drop(turn);
        let panic = job.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

impl Job {
    fn work(&self, thread: usize) {
        INSIDE.set(true);
        let result = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: the caller of `run` keeps the task alive until every thread has reported.
            let task = unsafe { &*self.task };
            (thread..self.parts).step_by(self.threads).for_each(task);
        }));
        INSIDE.set(false);
        if let Err(payload) = result {
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
        }
    }

    fn wait(&self) {
        for _ in 0..SPINS {
            if self.unfinished.load(Ordering::Acquire) == 0 {
                return;
            }
            spin_loop();
        }
        while self.unfinished.load(Ordering::Acquire) != 0 {
            thread::park();
        }
    }
}

fn work(slot: &Slot, thread: usize) {
    while let Some(job) = next_job(slot) {
        // SAFETY: the caller keeps the job alive until `unfinished` reaches zero, which this
        // thread's decrement below is part of; nothing of the job is touched after it.
        let job = unsafe { &*job };
        job.work(thread);
        let caller = job.caller.clone();
        if job.unfinished.fetch_sub(1, Ordering::AcqRel) == 1 {
            caller.unpark();
        }
    }
}

/// The next job, or `None` when the pool is being dropped.
fn next_job(slot: &Slot) -> Option<*mut Job> {
    loop {
        for _ in 0..SPINS {
            if !slot.job.load(Ordering::Relaxed).is_null() {
                let job = slot.job.swap(ptr::null_mut(), Ordering::AcqRel);
                if !job.is_null() {
                    return Some(job);
                }
            }
            spin_loop();
        }
        slot.parked.store(true, Ordering::SeqCst);
        if slot.stop.load(Ordering::SeqCst) {
            return None;
        }
        if slot.job.load(Ordering::SeqCst).is_null() {
            thread::park();
        }
        slot.parked.store(false, Ordering::SeqCst);
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        for (slot, worker) in self.slots.iter().zip(&self.workers) {
            slot.stop.store(true, Ordering::SeqCst);
            worker.thread().unpark();
        }
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_runs_exactly_once() {
        let pool = Pool::new(3).unwrap();
        for parts in [0, 1, 2, 3, 7, 100] {
            let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
            pool.run(parts, &|part| {
                counts[part].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{parts} parts");
        }
    }

    #[test]
    fn runs_after_parking_and_from_several_callers() {
        let pool = Pool::new(2).unwrap();
        let total = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for round in 0..40 {
                        pool.run(4, &|_| {
                            total.fetch_add(1, Ordering::Relaxed);
                        });
                        if round % 20 == 0 {
                            thread::sleep(std::time::Duration::from_millis(5));
                        }
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 3 * 40 * 4);
    }

    #[test]
    fn shares_are_done_once_whoever_is_faster() {
        let pool = Pool::new(4).unwrap();
        for round in 0..3000 {
            let counts = [const { AtomicUsize::new(0) }; 9];
            pool.run(counts.len(), &|part| {
                counts[part].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "round {round}");
        }
    }

    #[test]
    fn a_limited_pool_keeps_to_its_threads() {
        let pool = Pool::new(4).unwrap();
        for threads in [0, 1, 2, 3, 9] {
            let limited = pool.limited(threads);
            assert_eq!(limited.threads(), threads.clamp(1, 4));
            let seen = Mutex::new(std::collections::HashSet::new());
            let parts = AtomicUsize::new(0);
            limited.run(12, &|_| {
                seen.lock().unwrap().insert(thread::current().id());
                parts.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(parts.into_inner(), 12);
            assert!(seen.into_inner().unwrap().len() <= limited.threads());
        }
    }

    #[test]
    fn nested_runs_are_inline() {
        let pool = Pool::new(2).unwrap();
        let total = AtomicUsize::new(0);
        pool.run(2, &|_| {
            pool.run(5, &|_| {
                total.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(total.into_inner(), 10);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        let pool = Pool::new(2).unwrap();
        for bad in [0, 1] {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(2, &|part| assert!(part != bad, "part {part} fails"));
            }));
            assert!(result.is_err());
        }
        let done = AtomicUsize::new(0);
        pool.run(2, &|_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 2);
    }
}
