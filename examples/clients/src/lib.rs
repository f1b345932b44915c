//! Clients of other crates, traced.
//!
//! Each module is a file to copy into a program of yours. It has what goes between nettrace and one client, and says
//! what the trace then has. The tests (`tests/clients/`) run each client against a local server and compare the trace
//! with what the server saw. The guide `docs/clients.md` has an overview.

#![forbid(unsafe_code)]

pub mod aws;
pub mod bollard;
pub mod clickhouse;
pub mod kube;
pub mod object_store;
pub mod otlp_grpc;
pub mod otlp_http;
pub mod qdrant;
pub mod redis;
pub mod smol;
