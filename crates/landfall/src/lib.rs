//! The composition root: command line, configuration, sockets, HTTP, gRPC, wall clock.
//!
//! * [`commands`]: one file per command.
//! * [`config`]: what users declare, in files and flags.
//! * [`engine`], [`declared`], [`loading`]: from a model file to a compiled model with its steps.
//! * [`repository`]: the model folder, watched, and what of it is served.
//! * [`serving`]: the running server, free of any protocol.
//! * [`http`], [`grpc`], [`admin`]: its three listeners.
//! * [`metrics`], [`logs`]: what operators see.
//!
//! Architecture invariant: no algorithms here; models run behind `landfall_predict::Executable`.

// They panic when nobody reads any more; see `commands::output`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod admin;
pub mod clock;
pub mod commands;
pub mod config;
pub mod declared;
pub mod engine;
pub mod files;
pub mod grpc;
pub mod http;
pub mod loading;
pub mod logs;
pub mod machine;
pub mod metrics;
pub mod npz;
pub mod repository;
pub mod sample;
pub mod serving;
