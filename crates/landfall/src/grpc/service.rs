//! The calls of `inference.GRPCInferenceService`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use landfall_graph::TensorSpec;
use landfall_predict::VersionState;
use landfall_protocol::inference::grpc_inference_service_server::GrpcInferenceService;
use landfall_protocol::inference::model_metadata_response::TensorMetadata;
use landfall_protocol::inference::repository_index_response::ModelIndex;
use landfall_protocol::inference::*;
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::call::Call;
use super::inference::{Counted, infer};
use super::status::of_prediction;
use super::{deadline, stream};
use crate::metrics::GrpcMethod;
use crate::serving::{
    Choice, EXTENSIONS, RepositoryControl, SERVER_NAME, SERVER_VERSION, Server, config_message,
    metadata_shape, statistics_messages,
};

/// With this metadata, the first error of a stream ends it.
const STREAM_ERRORS: &str = "triton_grpc_error";
/// What the version router decides by.
const ROUTING_KEY: &str = "x-landfall-key";

pub(super) struct Inference(Arc<Server>);

impl Inference {
    pub(super) fn new(server: Arc<Server>) -> Inference {
        Inference(server)
    }

    fn reply<T>(&self, begun: Instant, result: Result<T, Status>) -> Result<Response<T>, Status> {
        let code = result.as_ref().err().map_or(Code::Ok, Status::code);
        drop(Counted { metrics: &self.0.metrics, method: GrpcMethod::Other, code, begun });
        result.map(plain)
    }

    fn metadata(&self, name: String, version: &str) -> Result<ModelMetadataResponse, Status> {
        let choice = Choice::of_version(version).map_err(of_prediction)?;
        let servable = self.0.catalog.lookup(&name, choice.as_ref()).map_err(of_prediction)?;
        let versions = self.0.catalog.ready_versions(&name);
        let tensor = |spec: &TensorSpec| TensorMetadata {
            name: spec.name.clone(),
            datatype: spec.dtype.protocol_name().to_owned(),
            shape: metadata_shape(spec),
        };
        let signature = servable.signature();
        Ok(ModelMetadataResponse {
            name,
            versions: versions.iter().map(u64::to_string).collect(),
            platform: servable.platform().to_owned(),
            inputs: signature.inputs.iter().map(tensor).collect(),
            outputs: signature.outputs.iter().map(tensor).collect(),
        })
    }

    fn model_ready(&self, name: &str, version: &str) -> Result<ModelReadyResponse, Status> {
        let choice = Choice::of_version(version).map_err(of_prediction)?;
        let found = self.0.catalog.lookup(name, choice.as_ref()).is_ok();
        Ok(ModelReadyResponse { ready: found && self.0.health.is_ready() })
    }

    fn statistics(&self, name: &str, version: &str) -> Result<ModelStatisticsResponse, Status> {
        let choice = Choice::of_version(version).map_err(of_prediction)?;
        if !name.is_empty() {
            self.0.catalog.lookup(name, choice.as_ref()).map_err(of_prediction)?;
        }
        let mut servables = self.0.catalog.servables();
        servables.retain(|servable| {
            (name.is_empty() || **servable.name() == *name)
                && (choice == Choice::Default || choice == Choice::Version(servable.version()))
        });
        let model_stats = statistics_messages(servables.iter().map(|servable| &**servable));
        Ok(ModelStatisticsResponse { model_stats })
    }

    fn index(&self, ready: bool) -> RepositoryIndexResponse {
        let statuses = self.0.catalog.index().into_iter();
        let entries = statuses.filter(|s| !ready || s.state == VersionState::Ready);
        let models = entries.map(|status| ModelIndex {
            name: status.model,
            version: status.version.map_or(String::new(), |version| version.to_string()),
            state: status.state.name().to_owned(),
            reason: status.reason,
        });
        RepositoryIndexResponse { models: models.collect() }
    }

    fn check_control(&self) -> Result<(), Status> {
        if self.0.repository_control == RepositoryControl::Public {
            return Ok(());
        }
        Err(Status::permission_denied(
            "loading and unloading models over gRPC needs --allow-repository-control; \
             the admin listener takes such requests over HTTP",
        ))
    }

    async fn load(&self, request: RepositoryModelLoadRequest) -> Result<(), Status> {
        self.check_control()?;
        if let Some(name) = request.parameters.keys().next() {
            return Err(Status::invalid_argument(format!(
                "parameter '{name}' is not supported: put the model and its model.yaml into the \
                 repository folder, then load it"
            )));
        }
        let server = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || server.load(&request.model_name))
            .await
            .map_err(|e| Status::internal(e.to_string()))?
            .map_err(of_prediction)
    }

    fn unload(&self, name: String) -> Result<(), Status> {
        self.check_control()?;
        // Waits for requests in flight, which the caller does not.
        let repository = Arc::clone(&self.0.repository);
        tokio::task::spawn_blocking(move || repository.unload(&name));
        Ok(())
    }
}

/// Most clients accept gzip without wishing for it, and setting up a compressor costs more than a
/// short reply.
fn plain<T>(message: T) -> Response<T> {
    let mut response = Response::new(message);
    response.disable_compression();
    response
}

/// Whether the client compresses what it sends, and so wishes for compressed replies.
fn compresses<T>(request: &Request<T>) -> bool {
    request.metadata().get("grpc-encoding").is_some_and(|coding| coding != "identity")
}

fn unsupported(what: &str) -> Status {
    Status::unimplemented(format!("{what} is not supported by this server"))
}

const SYSTEM_MEMORY: &str = "system shared memory";
const CUDA_MEMORY: &str = "CUDA shared memory";

#[tonic::async_trait]
impl GrpcInferenceService for Inference {
    async fn server_live(
        &self,
        _request: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        self.reply(Instant::now(), Ok(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _request: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        self.reply(Instant::now(), Ok(ServerReadyResponse { ready: self.0.health.is_ready() }))
    }

    async fn model_ready(
        &self,
        request: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        Call::of(&request, &self.0).note_model(&request.get_ref().name);
        let (begun, request) = (Instant::now(), request.into_inner());
        self.reply(begun, self.model_ready(&request.name, &request.version))
    }

    async fn server_metadata(
        &self,
        _request: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        let metadata = ServerMetadataResponse {
            name: SERVER_NAME.to_owned(),
            version: SERVER_VERSION.to_owned(),
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
        };
        self.reply(Instant::now(), Ok(metadata))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        Call::of(&request, &self.0).note_model(&request.get_ref().name);
        let (begun, request) = (Instant::now(), request.into_inner());
        self.reply(begun, self.metadata(request.name, &request.version))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let compressed = compresses(&request);
        let key = request
            .metadata()
            .get(ROUTING_KEY)
            .and_then(|key| key.to_str().ok())
            .map(str::to_owned);
        let call = Call::of(&request, &self.0);
        call.note_model(&request.get_ref().model_name);
        let reply = infer(&self.0, &call, GrpcMethod::Infer, request.into_inner(), key).await?;
        Ok(if compressed { Response::new(reply) } else { plain(reply) })
    }

    type ModelStreamInferStream =
        Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send + 'static>>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let errors_end_it =
            request.metadata().get(STREAM_ERRORS).is_some_and(|value| value == "true");
        let compressed = compresses(&request);
        let limit = deadline::of_metadata(request.metadata());
        let (server, call) = (Arc::clone(&self.0), Call::of(&request, &self.0));
        let replies = stream::answer(server, call, request.into_inner(), limit, errors_end_it);
        let replies = Box::pin(replies) as Self::ModelStreamInferStream;
        Ok(if compressed { Response::new(replies) } else { plain(replies) })
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Result<Response<ModelConfigResponse>, Status> {
        Call::of(&request, &self.0).note_model(&request.get_ref().name);
        let (begun, request) = (Instant::now(), request.into_inner());
        let config = Choice::of_version(&request.version)
            .and_then(|choice| self.0.catalog.lookup(&request.name, choice.as_ref()))
            .map(|servable| ModelConfigResponse {
                config: Some(config_message(&self.0.catalog, &servable)),
            })
            .map_err(of_prediction);
        self.reply(begun, config)
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        Call::of(&request, &self.0).note_model(&request.get_ref().name);
        let (begun, request) = (Instant::now(), request.into_inner());
        self.reply(begun, self.statistics(&request.name, &request.version))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Result<Response<RepositoryIndexResponse>, Status> {
        let begun = Instant::now();
        self.reply(begun, Ok(self.index(request.into_inner().ready)))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        let (begun, call) = (Instant::now(), Call::of(&request, &self.0));
        call.note_model(&request.get_ref().model_name);
        let done = self.load(request.into_inner()).await;
        let done = done.inspect_err(|status| call.note_fault(status));
        self.reply(begun, done.map(|()| RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        let begun = Instant::now();
        Call::of(&request, &self.0).note_model(&request.get_ref().model_name);
        let done = self.unload(request.into_inner().model_name);
        self.reply(begun, done.map(|()| RepositoryModelUnloadResponse {}))
    }

    async fn system_shared_memory_status(
        &self,
        _request: Request<SystemSharedMemoryStatusRequest>,
    ) -> Result<Response<SystemSharedMemoryStatusResponse>, Status> {
        self.reply(Instant::now(), Err(unsupported(SYSTEM_MEMORY)))
    }

    async fn system_shared_memory_register(
        &self,
        _request: Request<SystemSharedMemoryRegisterRequest>,
    ) -> Result<Response<SystemSharedMemoryRegisterResponse>, Status> {
        self.reply(Instant::now(), Err(unsupported(SYSTEM_MEMORY)))
    }

    async fn system_shared_memory_unregister(
        &self,
        _request: Request<SystemSharedMemoryUnregisterRequest>,
    ) -> Result<Response<SystemSharedMemoryUnregisterResponse>, Status> {
        self.reply(Instant::now(), Err(unsupported(SYSTEM_MEMORY)))
    }

    async fn cuda_shared_memory_status(
        &self,
        _request: Request<CudaSharedMemoryStatusRequest>,
    ) -> Result<Response<CudaSharedMemoryStatusResponse>, Status> {
        self.reply(Instant::now(), Err(unsupported(CUDA_MEMORY)))
    }

    async fn cuda_shared_memory_register(
        &self,
        _request: Request<CudaSharedMemoryRegisterRequest>,
    ) -> Result<Response<CudaSharedMemoryRegisterResponse>, Status> {
        self.reply(Instant::now(), Err(unsupported(CUDA_MEMORY)))
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _request: Request<CudaSharedMemoryUnregisterRequest>,
    ) -> Result<Response<CudaSharedMemoryUnregisterResponse>, Status> {
        self.reply(Instant::now(), Err(unsupported(CUDA_MEMORY)))
    }

    async fn trace_setting(
        &self,
        _request: Request<TraceSettingRequest>,
    ) -> Result<Response<TraceSettingResponse>, Status> {
        self.reply(Instant::now(), Err(unsupported("changing trace settings")))
    }

    async fn log_settings(
        &self,
        _request: Request<LogSettingsRequest>,
    ) -> Result<Response<LogSettingsResponse>, Status> {
        self.reply(Instant::now(), Err(unsupported("changing log settings")))
    }
}
