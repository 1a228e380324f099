//! x
pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
pub mod http;
pub mod key;
pub mod store;
pub mod time;
