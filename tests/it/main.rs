//! The crate from outside: the contract of stores, the API over real sockets, the binary, and
//! rules about the source.

mod access;
mod api;
mod audit;
mod audit_files;
mod batches;
mod certificates;
mod cli;
mod client;
mod commands;
mod connections;
mod contract;
mod events;
mod failures;
mod fakes;
mod features;
mod hosts;
mod hot;
mod late;
mod leases;
mod leaving;
mod openapi;
mod operators;
mod paths;
mod peers;
mod pool_tokens;
mod records;
mod runs;
mod service;
mod sessions;
mod source;
mod tls;
mod trust;
mod vanishing;
mod words;
