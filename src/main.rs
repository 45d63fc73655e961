//! Which role has this process? It starts as the tool, from which supervisor, first server and init are forked; or, by its
//! name, as a server that follows one that died.

use std::process::ExitCode;

fn main() -> ExitCode {
    bryo::cli::main()
}
