//! The running server, over real sockets, with fake models; and the program itself, as a process.

mod client;
mod fake;
mod harness;
mod process;

mod admin;
mod cancellation;
mod compression;
mod connections;
mod files;
mod grpc;
mod hostile;
mod isolation;
mod limits;
mod logs;
mod metrics;
mod observed;
mod open_inference;
mod repository;
mod shutdown;
mod soak;
mod startup;
mod steps;
mod streams;
mod tensorflow;
mod unread;
