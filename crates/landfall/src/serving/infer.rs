//! From a decoded request to a reply, for every protocol.

use std::sync::Arc;

use landfall_predict::{
    Catalog, ErrorKind, PredictError, Reply, Request, Servable, Ticket, VersionChoice,
};
use landfall_protocol::oip::{InferRequest, classify};
use tokio::sync::oneshot;

/// Which version a caller asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Choice {
    /// The server's choice.
    #[default]
    Default,
    /// This one.
    Version(u64),
    /// The one that this label points at.
    Label(String),
}

impl Choice {
    /// The choice that a version's text stands for; empty for the server's own.
    pub fn of_version(text: &str) -> Result<Choice, PredictError> {
        if text.is_empty() {
            return Ok(Choice::Default);
        }
        text.parse().map(Choice::Version).map_err(|_| {
            let message = format!("model version '{text}' is not a positive integer");
            PredictError::new(ErrorKind::InvalidArgument, message)
        })
    }

    /// Borrowed.
    pub fn as_ref(&self) -> VersionChoice<'_> {
        match self {
            Choice::Default => VersionChoice::Default,
            Choice::Version(version) => VersionChoice::Version(*version),
            Choice::Label(label) => VersionChoice::Label(label),
        }
    }
}

/// A reply, and what the caller had asked for beside the tensors.
pub struct InferOutcome {
    /// The request without its tensors.
    pub request: InferRequest,
    /// The answer.
    pub reply: Reply,
}

/// Predicts. Dropping the future takes the request out of the queue.
///
/// `servable` is what a lookup of the same model and choice gave; it is held no longer than needed.
pub async fn infer(
    catalog: &Arc<Catalog>,
    model: &str,
    choice: &Choice,
    servable: Arc<Servable>,
    mut request: InferRequest,
    key: Option<String>,
) -> Result<InferOutcome, PredictError> {
    let inner = Request {
        id: request.id.clone(),
        key,
        inputs: std::mem::take(&mut request.inputs),
        outputs: request.outputs.iter().map(|output| output.name.clone()).collect(),
        priority: request.parameters.priority,
        timeout: request.parameters.timeout,
    };
    let has_steps = servable.has_steps();
    drop(servable);
    let (sender, receiver) = oneshot::channel();
    let ticket = if has_steps {
        submit_elsewhere(catalog, model, choice, inner, sender).await?
    } else {
        submit(catalog, model, choice, inner, sender)
    };
    let reply = receiver.await;
    ticket.detach();
    let mut reply = reply.unwrap_or_else(|_| {
        Err(PredictError::new(ErrorKind::Internal, "the model gave no reply"))
    })?;
    apply_classification(&request, &mut reply)?;
    Ok(InferOutcome { request, reply })
}

type Sender = oneshot::Sender<Result<Reply, PredictError>>;

fn submit(
    catalog: &Catalog,
    model: &str,
    choice: &Choice,
    request: Request,
    sender: Sender,
) -> Ticket {
    catalog.submit(model, choice.as_ref(), request, move |result| {
        // The receiver is gone if the caller is; nobody is left to tell.
        drop(sender.send(result));
    })
}

/// Declared pre-processing can take milliseconds: not on a thread that serves sockets.
async fn submit_elsewhere(
    catalog: &Arc<Catalog>,
    model: &str,
    choice: &Choice,
    request: Request,
    sender: Sender,
) -> Result<Ticket, PredictError> {
    let (catalog, model, choice) = (Arc::clone(catalog), model.to_owned(), choice.clone());
    tokio::task::spawn_blocking(move || submit(&catalog, &model, &choice, request, sender))
        .await
        .map_err(|e| PredictError::new(ErrorKind::Internal, format!("pre-processing failed: {e}")))
}

fn apply_classification(request: &InferRequest, reply: &mut Reply) -> Result<(), PredictError> {
    for output in &request.outputs {
        let Some(count) = output.classification else { continue };
        for (name, tensor) in &mut reply.outputs {
            if *name == output.name {
                *tensor = classify(tensor, count).map_err(|problem| {
                    let message = format!("classification of output '{name}': {problem}");
                    PredictError::new(ErrorKind::InvalidArgument, message)
                })?;
            }
        }
    }
    Ok(())
}
