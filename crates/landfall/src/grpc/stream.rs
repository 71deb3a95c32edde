//! `ModelStreamInfer`: requests and replies in one stream, replies in the order of requests.
//!
//! A bounded number of requests of one stream are in flight together, so that they can share a
//! run; further ones wait in the transport.

use std::sync::Arc;

use landfall_protocol::inference::{
    ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::inference::infer;
use crate::metrics::GrpcMethod;
use crate::serving::Server;

/// Requests of one stream in flight.
const IN_FLIGHT: usize = 64;

type Answer = Result<ModelInferResponse, Status>;
type Reply = Result<ModelStreamInferResponse, Status>;

/// Answers a stream. With `errors_end_it`, the first error ends the stream with its status;
/// otherwise errors are messages of the stream.
pub(super) fn answer(
    server: Arc<Server>,
    requests: Streaming<ModelInferRequest>,
    errors_end_it: bool,
) -> ReceiverStream<Reply> {
    let (replies, stream) = mpsc::channel(IN_FLIGHT);
    let (order, answers) = mpsc::channel(IN_FLIGHT);
    tokio::spawn(take_requests(server, requests, order));
    tokio::spawn(send_replies(answers, replies, errors_end_it));
    ReceiverStream::new(stream)
}

async fn take_requests(
    server: Arc<Server>,
    mut requests: Streaming<ModelInferRequest>,
    order: mpsc::Sender<oneshot::Receiver<Answer>>,
) {
    loop {
        let request = match requests.message().await {
            Ok(Some(request)) => request,
            Ok(None) => break,
            Err(status) => {
                let (sender, receiver) = oneshot::channel();
                drop(sender.send(Err(status)));
                drop(order.send(receiver).await);
                break;
            }
        };
        let (mut sender, receiver) = oneshot::channel();
        // Before starting work: an error means that nobody reads replies any more.
        if order.send(receiver).await.is_err() {
            break;
        }
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let id = request.id.clone();
            tokio::select! {
                answer = infer(&server, GrpcMethod::StreamInfer, request, None) => {
                    let answer = answer.map_err(|status| with_id(status, &id));
                    drop(sender.send(answer));
                }
                // The client closed the stream: dropping the prediction cancels it.
                () = sender.closed() => {}
            }
        });
    }
}

/// Clients of a stream tell failures apart by the id in the message.
fn with_id(status: Status, id: &str) -> Status {
    if id.is_empty() {
        return status;
    }
    Status::new(status.code(), format!("[request id: {id}] {}", status.message()))
}

async fn send_replies(
    mut answers: mpsc::Receiver<oneshot::Receiver<Answer>>,
    replies: mpsc::Sender<Reply>,
    errors_end_it: bool,
) {
    while let Some(answer) = answers.recv().await {
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
