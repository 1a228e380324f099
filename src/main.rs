//! The `token-orchestrator` binary. The library contains everything else.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use token_orchestrator::cli;

/// Keys, index nodes and requests are many small allocations, and often one thread frees what another
/// allocated. mimalloc is made for that. Version 2 keeps the least memory; see `allocator.md` in
/// `loadtest/results/`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The variable that sets how long mimalloc keeps freed memory, in milliseconds.
const PURGE_DELAY: &str = "MIMALLOC_PURGE_DELAY";

fn main() -> ExitCode {
    match cli::parse() {
        Ok(command) => {
            if command.is_server() {
                restart_with_purge();
            }
            command.run()
        }
        Err(status) => status,
    }
}

/// Makes mimalloc return freed memory to the system at once, unless the environment says otherwise.
///
/// By default mimalloc waits a while, and then for the next large allocation: the tables that a growing
/// pool leaves behind stayed resident, 30 bytes a key. mimalloc reads its options before `main` begins,
/// so the program executes itself again in the same process. If that fails, it continues unchanged.
fn restart_with_purge() {
    if env::var_os(PURGE_DELAY).is_none()
        && let Ok(program) = env::current_exe()
    {
        let mut arguments = env::args_os();
        let mut command = Command::new(program);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        // Returns only if it failed.
        let _ = command.args(arguments).env(PURGE_DELAY, "0").exec();
    }
}
