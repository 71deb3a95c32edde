//! The batching threads against models that wait, fail and panic.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use landfall_tensor::{DType, Shape, Tensor};

use crate::fakes::{Doubler, ManualClock, PANIC, known, rows, spec, start, symbol};
use crate::{
    Batching, ErrorKind, Executable, PaddedInput, PaddedOutput, Padding, PredictError,
    Preprocessed, Reply, Request, Servable, ServingConfig, Ticket,
};

type Answer = Result<Reply, PredictError>;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Never inline: tests of the queue want requests in the queue. No trial runs either.
fn queued() -> ServingConfig {
    ServingConfig {
        batching: Batching::Required,
        inline_limit: Duration::ZERO,
        ..ServingConfig::default()
    }
}

fn submit(servable: &Servable, request: Request) -> (Ticket, mpsc::Receiver<Answer>) {
    let (sender, receiver) = mpsc::sync_channel(2);
    let ticket = servable.submit(request, move |answer| sender.send(answer).unwrap());
    (ticket, receiver)
}

fn values(answer: Answer) -> Vec<f32> {
    answer.unwrap().outputs[0].1.as_slice::<f32>().unwrap().to_vec()
}

fn wait(receiver: &mpsc::Receiver<Answer>) -> Answer {
    receiver.recv_timeout(Duration::from_secs(20)).expect("the request is answered")
}

/// Shuts the model's gate behind one running request, so that what follows is queued.
struct Held {
    model: Arc<Doubler>,
    servable: Arc<Servable>,
    clock: Arc<ManualClock>,
    first: (Ticket, mpsc::Receiver<Answer>),
}

fn hold(config: ServingConfig) -> Held {
    let model = Doubler::new();
    let clock = Arc::new(ManualClock::default());
    let servable = start(model.clone(), config, clock.clone());
    model.gate.set_shut(true);
    let first = submit(&servable, rows(&[1000.0], 1));
    while model.running.load(SeqCst) == 0 {
        std::thread::yield_now();
    }
    Held { model, servable, clock, first }
}

impl Held {
    fn open(&self) {
        self.model.gate.set_shut(false);
        assert_eq!(values(wait(&self.first.1)), [2001.0]);
    }
}

#[test]
fn waiting_requests_share_a_run_and_get_their_own_rows() {
    let held = hold(queued());
    let a = submit(&held.servable, rows(&[1.0, 2.0], 1));
    let b = submit(&held.servable, rows(&[3.0], 1));
    held.open();
    assert_eq!(values(wait(&a.1)), [3.0, 5.0]);
    assert_eq!(values(wait(&b.1)), [7.0]);
    assert_eq!(held.model.runs(), [vec![1000.0], vec![1.0, 2.0, 3.0]]);
    let statistics = held.servable.statistics(0);
    assert_eq!((statistics.inference_count, statistics.execution_count), (4, 2));
    assert_eq!(statistics.success.count, 3);
    let sizes: Vec<u64> = statistics.batch_stats.iter().map(|batch| batch.batch_size).collect();
    assert_eq!(sizes, [1, 3]);
}

#[test]
fn urgent_requests_run_first() {
    let held = hold(ServingConfig { max_batch_rows: 1, ..queued() });
    let order = [3, 0, 1, 9, 1].map(|priority| {
        let value = priority as f32 + 1.0;
        submit(&held.servable, Request { priority, ..rows(&[value], 1) })
    });
    held.open();
    order.iter().for_each(|(_, receiver)| drop(wait(receiver).unwrap()));
    // 0 names no level and 9 does not exist: both are served at the default level, 2.
    let ran: Vec<f32> = held.model.runs().into_iter().skip(1).flatten().collect();
    assert_eq!(ran, [2.0, 2.0, 1.0, 10.0, 4.0]);
}

#[test]
fn different_shapes_run_apart() {
    let held = hold(queued());
    let a = submit(&held.servable, rows(&[1.0], 2));
    let b = submit(&held.servable, rows(&[2.0], 3));
    let c = submit(&held.servable, rows(&[3.0], 2));
    held.open();
    assert_eq!(values(wait(&a.1)), [3.0; 2]);
    assert_eq!(values(wait(&b.1)), [5.0; 3]);
    assert_eq!(values(wait(&c.1)), [7.0; 2]);
    assert_eq!(held.model.runs()[1..], [vec![1.0, 3.0], vec![2.0]]);
}

#[test]
fn declared_padding_joins_lengths_of_one_rung() {
    let padding = Padding {
        inputs: vec![PaddedInput { input: "x".to_owned(), axis: 1, value: 7.0 }],
        outputs: vec![PaddedOutput { output: "y".to_owned(), axis: 1, like: "x".to_owned() }],
    };
    let held = hold(ServingConfig { padding: Some(padding), ..queued() });
    let a = submit(&held.servable, rows(&[1.0], 18));
    let b = submit(&held.servable, rows(&[2.0], 19));
    let c = submit(&held.servable, rows(&[3.0], 21));
    held.open();
    assert_eq!(values(wait(&a.1)), [3.0; 18]);
    assert_eq!(values(wait(&b.1)), [5.0; 19]);
    assert_eq!(values(wait(&c.1)), [7.0; 21]);
    assert_eq!(held.model.runs()[1..], [vec![1.0, 2.0], vec![3.0]]);
}

#[test]
fn a_large_request_of_a_fast_model_runs_alone_and_whole() {
    let held = hold(ServingConfig { max_batch_rows: 2, max_queue_rows: 3, ..queued() });
    let large = submit(&held.servable, rows(&[1.0; 5], 1));
    held.open();
    assert_eq!(values(wait(&large.1)), [3.0; 5]);
    assert_eq!(held.model.runs()[1].len(), 5);
}

#[test]
fn a_large_request_of_a_slow_model_runs_in_pieces() {
    let held = hold(ServingConfig { max_batch_rows: 2, ..queued() });
    let sent = [1.0, 2.0, 3.0, 4.0, 5.0];
    let large = submit(&held.servable, rows(&sent, 3));
    held.clock.advance_ms(100);
    held.open();
    let own: Vec<f32> = sent.iter().flat_map(|v| [2.0 * v + 1.0; 3]).collect();
    assert_eq!(values(wait(&large.1)), own);
    assert_eq!(held.model.runs()[1..], [vec![1.0], vec![2.0, 3.0], vec![4.0, 5.0]]);
}

#[test]
fn a_large_request_runs_whole_where_rows_are_not_known_to_be_independent() {
    let config = ServingConfig { max_batch_rows: 2, batching: Batching::Off, ..queued() };
    let held = hold(config);
    let large = submit(&held.servable, rows(&[1.0, 2.0, 3.0], 1));
    held.clock.advance_ms(100);
    held.open();
    assert_eq!(values(wait(&large.1)), [3.0, 5.0, 7.0]);
    assert_eq!(held.model.runs()[1..], [vec![1.0, 2.0, 3.0]]);
}

#[test]
fn too_many_rows_are_refused_if_a_limit_is_set() {
    let config = ServingConfig { max_request_rows: Some(2), ..queued() };
    let servable = start(Doubler::new(), config, Arc::new(ManualClock::default()));
    let error = servable.predict_blocking(rows(&[1.0; 3], 1)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(error.message.contains("3 rows, the most allowed is 2"), "{error}");
}

#[test]
fn outputs_too_large_for_a_reply_are_refused() {
    let config = ServingConfig { max_reply_bytes: 16, ..queued() };
    let servable = start(Doubler::new(), config, Arc::new(ManualClock::default()));
    assert_eq!(values(servable.predict_blocking(rows(&[1.0; 4], 1))), [3.0; 4]);
    let error = servable.predict_blocking(rows(&[1.0; 5], 1)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(
        error.message.contains("20 bytes or more, the most allowed is 16 (max_reply_bytes)"),
        "{error}"
    );
}

#[test]
fn pieces_end_where_the_reply_would_be_too_large() {
    let config = ServingConfig { max_batch_rows: 2, max_reply_bytes: 16, ..queued() };
    let held = hold(config);
    let large = submit(&held.servable, rows(&[1.0; 100], 1));
    held.clock.advance_ms(100);
    held.open();
    let error = wait(&large.1).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert_eq!(held.model.runs().len(), 4, "the first request and three pieces");
}

#[test]
fn a_full_queue_refuses_with_its_reason() {
    let held = hold(ServingConfig { max_queue_requests: 2, max_queue_rows: 3, ..queued() });
    let a = submit(&held.servable, rows(&[1.0, 1.0], 1));
    let error = wait(&submit(&held.servable, rows(&[1.0, 1.0], 1)).1).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("2 more would exceed the 3 allowed"), "{error}");
    let b = submit(&held.servable, rows(&[1.0], 1));
    let error = wait(&submit(&held.servable, rows(&[1.0], 1)).1).unwrap_err();
    assert!(error.message.contains("2 requests wait, the most allowed"), "{error}");
    let statistics = held.servable.statistics(0);
    assert_eq!((statistics.queued_requests, statistics.queued_rows), (2, 3));
    assert_eq!(statistics.refused_queue_full, 2);
    held.open();
    assert!(wait(&a.1).is_ok() && wait(&b.1).is_ok());
}

#[test]
fn a_timeout_is_reported_while_the_model_is_busy() {
    let held = hold(queued());
    let timeout = Some(ms(5));
    let late = submit(&held.servable, Request { timeout, ..rows(&[1.0], 1) });
    held.clock.advance_ms(6);
    let error = wait(&late.1).unwrap_err();
    assert_eq!(error.kind, ErrorKind::DeadlineExceeded);
    assert!(error.message.contains("its limit is 5.0ms"), "{error}");
    held.open();
    assert_eq!(held.model.runs().len(), 1, "the model never sees it");
    assert_eq!(held.servable.statistics(0).expired, 1);
}

#[test]
fn cancelled_work_is_removed_before_it_runs() {
    let held = hold(queued());
    let dropped = submit(&held.servable, rows(&[1.0], 1));
    let kept = submit(&held.servable, rows(&[2.0], 1));
    let detached = submit(&held.servable, rows(&[3.0], 1));
    drop(dropped.0);
    detached.0.detach();
    assert_eq!(wait(&dropped.1).unwrap_err().kind, ErrorKind::Cancelled);
    held.open();
    assert_eq!(values(wait(&kept.1)), [5.0]);
    assert_eq!(values(wait(&detached.1)), [7.0]);
    assert!(!kept.0.cancel(), "it has already run");
    assert_eq!(held.model.runs()[1..], [vec![2.0, 3.0]]);
    assert_eq!(held.servable.statistics(0).cancelled, 1);
}

#[test]
fn a_poisonous_request_fails_alone() {
    for (poison, reason) in [(-1.0, "node 'sqrt': -1 is negative"), (PANIC, "told to panic")] {
        let held = hold(queued());
        let a = submit(&held.servable, rows(&[1.0], 1));
        let bad = submit(&held.servable, rows(&[poison], 1));
        let b = submit(&held.servable, rows(&[2.0], 1));
        held.open();
        assert_eq!(values(wait(&a.1)), [3.0]);
        assert_eq!(values(wait(&b.1)), [5.0]);
        let error = wait(&bad.1).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Internal);
        assert!(error.message.starts_with("model 'm' version 1: "), "{error}");
        assert!(error.message.contains(reason), "{error}");
        // The last reply comes before the end of its run.
        while held.servable.statistics(0).running > 0 {
            std::thread::yield_now();
        }
        let statistics = held.servable.statistics(0);
        assert_eq!((statistics.success.count, statistics.fail.count), (3, 1));
        // What succeeded: the run that was waited for, and one for each good request.
        assert_eq!((statistics.inference_count, statistics.execution_count), (3, 3));
        let sizes: Vec<_> =
            statistics.batch_stats.iter().map(|b| (b.batch_size, b.compute_infer.count)).collect();
        assert_eq!(sizes, [(1, 3)]);
        assert_eq!((statistics.queued_requests, statistics.running), (0, 0));
    }
}

#[test]
fn a_batch_waits_for_company_no_longer_than_the_delay() {
    let model = Doubler::new();
    let clock = Arc::new(ManualClock::default());
    let config = ServingConfig { max_delay: ms(20), max_batch_rows: 3, ..queued() };
    let servable = start(model.clone(), config, clock.clone());
    let a = submit(&servable, rows(&[1.0], 1));
    std::thread::sleep(ms(40));
    assert!(a.1.try_recv().is_err(), "the clock stands still");
    clock.advance_ms(19);
    let b = submit(&servable, rows(&[2.0], 1));
    clock.advance_ms(1);
    assert_eq!(values(wait(&a.1)), [3.0]);
    assert_eq!(values(wait(&b.1)), [5.0]);
    let full = [0; 3].map(|_| submit(&servable, rows(&[4.0], 1)));
    full.iter().for_each(|(_, receiver)| drop(wait(receiver).unwrap()));
    assert_eq!(model.runs(), [vec![1.0, 2.0], vec![4.0; 3]]);
    drop(servable);
}

#[test]
fn draining_answers_what_was_admitted_and_refuses_the_rest() {
    let held = hold(queued());
    let waiting = submit(&held.servable, rows(&[1.0], 1));
    held.servable.close();
    let error = wait(&submit(&held.servable, rows(&[2.0], 1)).1).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    let error = held.servable.predict_blocking(rows(&[2.0], 1)).unwrap_err();
    assert!(error.message.ends_with("the server is shutting down"), "{error}");
    assert!(!held.servable.drain(ms(20)), "two requests are in flight");
    held.open();
    assert!(held.servable.drain(Duration::from_secs(20)));
    assert_eq!(values(wait(&waiting.1)), [3.0]);
}

#[test]
fn letting_go_of_a_servable_answers_what_waits_and_frees_the_model() {
    let Held { model, servable, first, clock: _ } = hold(queued());
    let waiting = submit(&servable, rows(&[1.0], 1));
    let departure = servable.departure();
    drop(servable);
    assert!(!departure.wait(ms(20)));
    model.gate.set_shut(false);
    assert_eq!(values(wait(&waiting.1)), [3.0]);
    assert_eq!(values(wait(&first.1)), [2001.0]);
    assert!(departure.wait(Duration::from_secs(20)));
    assert_eq!(Arc::strong_count(&model), 1);
}

#[test]
fn instances_bound_the_runs_at_one_time() {
    let model = Doubler::new();
    let config = ServingConfig { instances: 2, batching: Batching::Off, ..queued() };
    let servable = start(model.clone(), config, Arc::new(ManualClock::default()));
    model.gate.set_shut(true);
    let all = [0; 6].map(|_| submit(&servable, rows(&[1.0], 1)));
    while model.running.load(SeqCst) < 2 {
        std::thread::yield_now();
    }
    std::thread::sleep(ms(20));
    model.gate.set_shut(false);
    all.iter().for_each(|(_, receiver)| assert_eq!(values(wait(receiver)), [3.0]));
    assert_eq!(model.most_running.load(SeqCst), 2);
}

#[test]
fn cheap_models_run_on_the_submitting_thread() {
    let model = Doubler::new();
    let servable = start(model.clone(), ServingConfig::default(), Arc::new(ManualClock::default()));
    drop(servable.predict_blocking(rows(&[1.0], 1)).unwrap());
    let answered_on = Arc::new(Mutex::new(None));
    let seen = answered_on.clone();
    let ticket = servable.submit(rows(&[1.0], 1), move |_| {
        *seen.lock().unwrap() = Some(std::thread::current().id());
    });
    assert_eq!(*answered_on.lock().unwrap(), Some(std::thread::current().id()));
    assert!(!ticket.cancel());
}

/// Claims a batch axis but gives one output row whatever comes in.
struct Mean(landfall_graph::Signature);

impl Executable for Mean {
    fn signature(&self) -> &landfall_graph::Signature {
        &self.0
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
        let x = inputs[0].as_slice::<f32>().map_err(|error| error.to_string())?;
        let mean = x.iter().sum::<f32>() / x.len() as f32;
        Tensor::from_slice(Shape::from([1]), &[mean])
            .map(|tensor| vec![tensor])
            .map_err(|error| error.to_string())
    }
}

#[test]
fn a_model_that_mixes_rows_is_found_out() {
    let signature = landfall_graph::Signature {
        inputs: vec![spec("x", DType::F32, &[symbol(""), known(1)])],
        outputs: vec![spec("y", DType::F32, &[symbol("")])],
    };
    let clock = Arc::new(ManualClock::default());
    let config = ServingConfig { max_delay: ms(5), max_batch_rows: 2, ..queued() };
    let servable = start(Arc::new(Mean(signature.clone())), config, clock);
    assert!(servable.is_batching());
    let pair = [1.0, 3.0].map(|value| submit(&servable, rows(&[value], 1)));
    let answers = pair.map(|(_, receiver)| values(wait(&receiver)));
    assert_eq!(answers, [[1.0], [3.0]]);
    assert!(!servable.is_batching());
    let clock = Arc::new(ManualClock::default());
    let servable = start(Arc::new(Mean(signature)), ServingConfig::default(), clock);
    let reason = "rows run together give another 'y' than rows run alone";
    assert_eq!(servable.why_not_batching(), Some(reason));
}

#[test]
fn configurations_that_cannot_work_are_refused() {
    let refuse = |config: ServingConfig| {
        let clock = Arc::new(ManualClock::default());
        let model = crate::fakes::loaded(Doubler::with_signature(&[known(1), known(1)]), config);
        Servable::start("m", 1, model, clock, None).err().unwrap_or_default()
    };
    let required = queued();
    assert!(refuse(required).contains("fixed extent 1"));
    assert!(
        refuse(ServingConfig { instances: 0, ..ServingConfig::default() })
            .starts_with("instances is 0")
    );
    let level = ServingConfig { default_priority: 9, ..ServingConfig::default() };
    assert!(refuse(level).contains("default_priority is 9, expected 1 to 3"));
    let warm_up = ServingConfig { warm_up: vec![rows(&[-1.0], 1)], ..ServingConfig::default() };
    assert!(refuse(warm_up).starts_with("warm-up request 1 failed: model 'm' version 1"));
}

/// Callers send `text`, the model reads its lengths; outputs are halved. `!` is refused.
struct Lengths(landfall_graph::Signature);

impl Lengths {
    fn steps() -> Arc<Lengths> {
        let axis = [symbol("batch"), known(1)];
        Arc::new(Lengths(landfall_graph::Signature {
            inputs: vec![spec("text", DType::String, &axis)],
            outputs: vec![spec("half", DType::F32, &axis)],
        }))
    }
}

impl crate::Steps for Lengths {
    fn signature(&self) -> &landfall_graph::Signature {
        &self.0
    }

    fn preprocess(&self, inputs: &[Tensor]) -> Result<Preprocessed, PredictError> {
        let text = inputs[0].strings().unwrap();
        assert!(text[0] != "?", "no such word");
        if text[0] == "!" {
            return Err(PredictError::new(ErrorKind::InvalidArgument, "row 0 is '!'"));
        }
        let lengths: Vec<f32> = text.iter().map(|text| text.len() as f32).collect();
        let inputs = vec![Tensor::from_slice(inputs[0].shape().clone(), &lengths).unwrap()];
        Ok(Preprocessed { inputs, tokens: Some(lengths.len()) })
    }

    fn postprocess(
        &self,
        model_inputs: &[Tensor],
        outputs: Vec<Tensor>,
    ) -> Result<Vec<Tensor>, PredictError> {
        assert_eq!(model_inputs[0].shape(), outputs[0].shape());
        let halves: Vec<f32> =
            outputs[0].as_slice::<f32>().unwrap().iter().map(|y| y / 2.0).collect();
        Ok(vec![Tensor::from_slice(outputs[0].shape().clone(), &halves).unwrap()])
    }
}

#[test]
fn declared_steps_run_on_each_callers_own_rows() {
    let model = Doubler::new();
    let mut loaded = crate::fakes::loaded(model.clone(), queued());
    loaded.steps = Some(Lengths::steps());
    let clock = Arc::new(ManualClock::default());
    let servable = Servable::start("m", 1, loaded, clock, None).unwrap();
    let text = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let tensor = Tensor::from_strings(Shape::from([words.len(), 1]), words).unwrap();
        Request { inputs: vec![("text".to_owned(), tensor)], ..Request::default() }
    };
    model.gate.set_shut(true);
    let first = submit(&servable, text(&["a"]));
    while model.running.load(SeqCst) == 0 {
        std::thread::yield_now();
    }
    let a = submit(&servable, text(&["ab", "abc"]));
    let b = submit(&servable, text(&["abcd"]));
    let bad = wait(&submit(&servable, text(&["!"])).1).unwrap_err();
    assert_eq!(bad.kind, ErrorKind::InvalidArgument);
    assert_eq!(bad.message, "model 'm' version 1: row 0 is '!'");
    let broken = wait(&submit(&servable, text(&["?"])).1).unwrap_err();
    assert_eq!(broken.message, "model 'm' version 1: pre-processing panicked: no such word");
    model.gate.set_shut(false);
    assert_eq!(values(wait(&first.1)), [1.5]);
    let reply = wait(&a.1);
    assert_eq!(reply.as_ref().unwrap().tokens, Some(2), "those of its own rows");
    assert_eq!(values(reply), [2.5, 3.5]);
    assert_eq!(values(wait(&b.1)), [4.5]);
    assert_eq!(model.runs(), [vec![1.0], vec![2.0, 3.0, 4.0]]);
}

#[test]
fn a_compiled_graph_is_served() {
    let text = "graph \"g\" { input %x: f32[N,2] %y = Relu(%x) output %y }";
    let graph = landfall_graph::text::parse(text, &[]).unwrap();
    let model = landfall_runtime::Model::compile(graph, &landfall_runtime::Options::default());
    let clock = Arc::new(ManualClock::default());
    let servable = start(Arc::new(model.unwrap()), ServingConfig::default(), clock);
    assert!(servable.is_batching());
    assert_eq!(values(servable.predict_blocking(rows(&[-1.0, 2.0], 2))), [0.0, 0.0, 2.0, 2.0]);
    let error = servable.predict_blocking(rows(&[1.0], 3)).unwrap_err();
    assert_eq!(error.message, "model 'm' version 1: input 'x' has shape [1,3], expected [N,2]");
}
