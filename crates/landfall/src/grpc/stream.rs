//! `ModelStreamInfer`: requests and replies in one stream, replies in the order of requests.
//!
//! A bounded number of requests of one stream are in flight together, so that they can share a
//! run; further ones wait in the transport. When the server stops, requests in flight are answered
//! and the stream then ends with `UNAVAILABLE`, which clients retry elsewhere.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use landfall_protocol::inference::{
    ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::call::Call;
use super::deadline;
use super::inference::infer;
use crate::metrics::GrpcMethod;
use crate::serving::{Phase, Server};

/// Requests of one stream in flight.
const IN_FLIGHT: usize = 64;

type Answer = Result<ModelInferResponse, Status>;
type Reply = Result<ModelStreamInferResponse, Status>;

/// Answers a stream, for no longer than `limit`. With `errors_end_it`, the first error ends the
/// stream with its status; otherwise errors are messages of the stream.
pub(super) fn answer(
    server: Arc<Server>,
    call: Arc<Call>,
    requests: Streaming<ModelInferRequest>,
    limit: Option<Duration>,
    errors_end_it: bool,
) -> ReceiverStream<Reply> {
    let (replies, stream) = mpsc::channel(IN_FLIGHT);
    let (order, answers) = mpsc::channel(IN_FLIGHT);
    tokio::spawn(take_requests(server, call, requests, limit, order));
    tokio::spawn(send_replies(answers, replies, errors_end_it));
    ReceiverStream::new(stream)
}

/// What is next in a stream's order.
enum Next {
    /// The answer to a request, when it is there.
    Answer(oneshot::Receiver<Answer>),
    /// The end, which is not the client's wish.
    End(Status),
}

async fn take_requests(
    server: Arc<Server>,
    call: Arc<Call>,
    mut requests: Streaming<ModelInferRequest>,
    limit: Option<Duration>,
    order: mpsc::Sender<Next>,
) {
    let mut phase = server.health.watch();
    let mut deadline = pin!(async {
        match limit {
            Some(limit) => {
                tokio::time::sleep(limit).await;
                deadline::exceeded(limit)
            }
            None => std::future::pending().await,
        }
    });
    loop {
        let request = tokio::select! {
            request = requests.message() => request,
            status = &mut deadline => Err(status),
            _ = phase.wait_for(|phase| *phase == Phase::Stopping) => {
                Err(Status::unavailable("the server is shutting down"))
            }
        };
        let request = match request {
            Ok(Some(request)) => request,
            Ok(None) => break,
            Err(status) => {
                drop(order.send(Next::End(status)).await);
                break;
            }
        };
        let (mut sender, receiver) = oneshot::channel();
        // Before starting work: an error means that nobody reads replies any more.
        if order.send(Next::Answer(receiver)).await.is_err() {
            break;
        }
        let (server, call) = (Arc::clone(&server), Arc::clone(&call));
        tokio::spawn(async move {
            tokio::select! {
                answer = answer_one(&server, &call, request) => drop(sender.send(answer)),
                // The client closed the stream: dropping the prediction cancels it.
                () = sender.closed() => {}
            }
        });
    }
}

async fn answer_one(server: &Arc<Server>, call: &Call, request: ModelInferRequest) -> Answer {
    let (begun, id, model) = (Instant::now(), request.id.clone(), request.model_name.clone());
    let answer = infer(server, call, GrpcMethod::StreamInfer, request, None).await;
    call.end_message(&model, &id, answer.as_ref().err().map_or(Code::Ok, Status::code), begun);
    answer.map_err(|status| with_id(status, &id))
}

/// Clients of a stream tell failures apart by the id in the message.
fn with_id(status: Status, id: &str) -> Status {
    if id.is_empty() {
        return status;
    }
    Status::new(status.code(), format!("[request id: {id}] {}", status.message()))
}

async fn send_replies(
    mut order: mpsc::Receiver<Next>,
    replies: mpsc::Sender<Reply>,
    errors_end_it: bool,
) {
    while let Some(next) = order.recv().await {
        let answer = match next {
            Next::Answer(answer) => answer,
            Next::End(status) => {
                drop(replies.send(Err(status)).await);
                break;
            }
        };
        let answer = tokio::select! {
            answer = answer => answer,
            () = replies.closed() => break,
        };
        let answer = answer.unwrap_or_else(|_| Err(Status::internal("the request was lost")));
        let reply = match answer {
            Ok(response) => Ok(ModelStreamInferResponse {
                error_message: String::new(),
                infer_response: Some(response),
            }),
            Err(status) if errors_end_it => Err(status),
            Err(status) => Ok(ModelStreamInferResponse {
                error_message: status.message().to_owned(),
                infer_response: None,
            }),
        };
        let ends = reply.is_err();
        if replies.send(reply).await.is_err() || ends {
            break;
        }
    }
}
