//! The property that batching must never break: every caller gets exactly its own rows back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;
use std::time::Duration;

use proptest::prelude::*;

use crate::fakes::{Doubler, PANIC, rows, start};
use crate::{
    Clock, ErrorKind, PaddedInput, PaddedOutput, Padding, PredictError, Reply, Request, Servable,
    ServingConfig,
};

/// Every look moves it on by a step.
struct RestlessClock {
    now_ns: AtomicU64,
    step_ns: u64,
}

impl Clock for RestlessClock {
    fn now_ns(&self) -> u64 {
        self.now_ns.fetch_add(self.step_ns, SeqCst)
    }
}

#[derive(Debug, Clone, Copy)]
struct Ask {
    rows: usize,
    width: usize,
    priority: u32,
    fault: u8,
    cancel: bool,
    blocking: bool,
    timeout: bool,
}

fn ask() -> impl Strategy<Value = Ask> {
    let flags = (0u8..12, prop::bool::weighted(0.2), any::<bool>(), prop::bool::weighted(0.1));
    (1usize..6, 1usize..4, 0u32..4, flags).prop_map(
        |(rows, width, priority, (fault, cancel, blocking, timeout))| Ask {
            rows,
            width,
            priority,
            fault,
            cancel,
            blocking,
            timeout,
        },
    )
}

fn config() -> impl Strategy<Value = ServingConfig> {
    let padding = Padding {
        inputs: vec![PaddedInput { input: "x".to_owned(), axis: 1, value: 0.0 }],
        outputs: vec![PaddedOutput { output: "y".to_owned(), axis: 1, like: "x".to_owned() }],
    };
    let limits = (1usize..9, 1usize..4, 0u64..2, 4usize..40);
    (limits, any::<bool>(), any::<bool>()).prop_map(
        move |((max_batch_rows, instances, delay_ms, max_queue_requests), inline, pad)| {
            ServingConfig {
                max_batch_rows,
                instances,
                max_delay: Duration::from_millis(delay_ms),
                max_queue_requests,
                inline_limit: if inline { Duration::from_millis(1) } else { Duration::ZERO },
                padding: pad.then(|| padding.clone()),
                ..ServingConfig::default()
            }
        },
    )
}

/// Elements that no other request has: 8 rows for each of 64 requests of a thread.
fn elements(thread: usize, index: usize, ask: &Ask) -> Vec<f32> {
    let first = ((thread * 64 + index) * 8 + 1) as f32;
    let mut values: Vec<f32> = (0..ask.rows).map(|row| first + row as f32).collect();
    match ask.fault {
        0 => values[ask.rows - 1] = -first,
        1 => values[0] = PANIC,
        _ => {}
    }
    values
}

fn judge(ask: &Ask, sent: &[f32], answer: Result<Reply, PredictError>) -> Result<(), String> {
    match answer {
        Ok(reply) => {
            let found = reply.outputs[0].1.as_slice::<f32>().map_err(|e| e.to_string())?;
            let own = sent.iter().flat_map(|v| vec![2.0 * v + 1.0; ask.width]);
            let own: Vec<f32> = own.collect();
            if ask.fault <= 1 || found != own {
                return Err(format!("{ask:?}: sent {sent:?}, got {found:?}"));
            }
            Ok(())
        }
        Err(error) => match error.kind {
            ErrorKind::Internal if ask.fault <= 1 => Ok(()),
            ErrorKind::Cancelled if ask.cancel => Ok(()),
            ErrorKind::DeadlineExceeded if ask.timeout => Ok(()),
            ErrorKind::Unavailable if error.message.contains("queue is full") => Ok(()),
            _ => Err(format!("{ask:?}: {error}")),
        },
    }
}

fn call(servable: &Servable, thread: usize, asks: &[Ask]) -> Result<(), String> {
    let mut pending = Vec::new();
    for (index, ask) in asks.iter().enumerate() {
        let sent = elements(thread, index, ask);
        let request = Request {
            priority: ask.priority,
            timeout: ask.timeout.then_some(Duration::from_micros(50)),
            ..rows(&sent, ask.width)
        };
        if ask.blocking {
            judge(ask, &sent, servable.predict_blocking(request))?;
            continue;
        }
        let (sender, receiver) = mpsc::sync_channel(2);
        let ticket = servable.submit(request, move |answer| drop(sender.send(answer)));
        match ask.cancel {
            true => drop(ticket),
            false => ticket.detach(),
        }
        pending.push((ask, sent, receiver));
    }
    for (ask, sent, receiver) in pending {
        let answer = receiver
            .recv_timeout(Duration::from_secs(30))
            .map_err(|error| format!("{ask:?} was never answered: {error}"))?;
        judge(ask, &sent, answer)?;
        if receiver.try_recv().is_ok() {
            return Err(format!("{ask:?} was answered twice"));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_caller_gets_exactly_its_own_rows_back(
        config in config(),
        // A model so slow that requests of several rows run in pieces, or a fast one.
        step_ns in prop::sample::select(vec![10_000u64, 200_000_000]),
        threads in prop::collection::vec(prop::collection::vec(ask(), 1..24), 4),
    ) {
        let clock = RestlessClock { now_ns: AtomicU64::new(0), step_ns };
        let servable = start(Doubler::new(), config, Arc::new(clock));
        let results: Vec<Result<(), String>> = std::thread::scope(|scope| {
            let calls: Vec<_> = threads
                .iter()
                .enumerate()
                .map(|(thread, asks)| {
                    let servable = &servable;
                    scope.spawn(move || call(servable, thread, asks))
                })
                .collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        for result in results {
            prop_assert!(result.is_ok(), "{}", result.unwrap_err());
        }
        let asked: usize = threads.iter().map(Vec::len).sum();
        let statistics = servable.statistics(0);
        prop_assert_eq!(statistics.success.count + statistics.fail.count, asked as u64);
        prop_assert_eq!((statistics.queued_requests, statistics.queued_rows), (0, 0));
        servable.close();
        prop_assert!(servable.drain(Duration::from_secs(30)));
    }
}
