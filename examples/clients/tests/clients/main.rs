//! Each client makes requests to a local server. Its trace has what the server saw.

mod aws;
mod bollard;
mod clickhouse;
mod fixture;
mod kube;
mod object_store;
mod otlp_grpc;
mod otlp_http;
mod qdrant;
mod redis;
mod smol;
