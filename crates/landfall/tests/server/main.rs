//! The running server, over real sockets, with fake models.

mod client;
mod fake;
mod harness;

mod admin;
mod cancellation;
mod compression;
mod grpc;
mod limits;
mod observed;
mod open_inference;
mod repository;
mod shutdown;
mod tensorflow;
