//! The `token-orchestrator` binary; see the library for everything.

use std::process::ExitCode;

/// Keys, index nodes and requests are many small allocations, freed by other threads than those
/// that made them: mimalloc is made for that. Without huge pages, because a table that is half
/// full would be resident as a whole.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    token_orchestrator::cli::main()
}
