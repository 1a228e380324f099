//! The `token-orchestrator` binary; see the library for everything.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use token_orchestrator::cli;

/// Keys, index nodes and requests are many small allocations, freed by other threads than those
/// that made them: mimalloc is made for that. Version 2 keeps the least memory: see `allocator.md`
/// in `loadtest/results/`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long mimalloc keeps memory that was freed, in milliseconds.
const PURGE_DELAY: &str = "MIMALLOC_PURGE_DELAY";

fn main() -> ExitCode {
    match cli::parse() {
        Ok(command) => {
            if command.is_server() {
                purge_at_once();
            }
            command.run()
        }
        Err(status) => status,
    }
}

/// Lets mimalloc give freed memory back at once, unless the environment says otherwise.
///
/// By default it waits a while and then for the next allocation of some size: the tables that a
/// growing pool leaves behind stayed resident, 30 bytes a key. It reads its options before `main`
/// begins, so this program starts anew in the same process. If that fails it goes on as it is.
fn purge_at_once() {
    if env::var_os(PURGE_DELAY).is_none()
        && let Ok(program) = env::current_exe()
    {
        let mut arguments = env::args_os();
        let mut command = Command::new(program);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        // Only returns if it failed.
        let _ = command.args(arguments).env(PURGE_DELAY, "0").exec();
    }
}
