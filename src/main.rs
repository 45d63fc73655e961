//! Which role has this process? It starts as the tool; supervisor, server and init are forked from it.

use std::process::ExitCode;

fn main() -> ExitCode {
    bryo::cli::main()
}
