//! The tool, or the whole test, in a sandbox of the test's making: what an ordinary user can take away from a process
//! before it starts, and the namespaces that one can make.

use std::path::Path;
use std::process::{Command, Stdio};

use super::Done;

/// `wrapper` with the tool's words behind its own, in the tool's environment.
pub fn within(wrapper: &[&str], tool: &Command) -> Command {
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(tool.get_program());
    command.args(tool.get_args()).stdin(Stdio::null());
    for (name, value) in tool.get_envs() {
        command.env(name, value.expect("a variable that is set"));
    }
    command
}

/// The tool, watched by strace(1), and the lines that it writes of these calls, `trace=…`, of all the tool's processes.
pub fn watched(calls: &str, tool: &Command, log: &Path) -> (Done, String) {
    let strace = ["strace", "-f", "-e", calls, "-e", "signal=none", "-o"];
    let strace = [&strace[..], &[log.to_str().expect("a name of ours")]].concat();
    let done = Done::of(&mut within(&strace, tool));
    (done, std::fs::read_to_string(log).expect("the log"))
}

/// A program of Python that forbids something to itself, then becomes what its arguments name.
pub fn sandbox(forbid: &str) -> String {
    format!(
        "import ctypes, os, struct, sys\n\
         libc = ctypes.CDLL(None, use_errno=True)\n\
         def call(*words):\n\
         \x20   result = libc.syscall(*words)\n\
         \x20   assert result >= 0, os.strerror(ctypes.get_errno())\n\
         \x20   return result\n\
         assert libc.prctl(38, 1, 0, 0, 0) == 0 # no_new_privs\n\
         {forbid}\n\
         os.execvp(sys.argv[1], sys.argv[1:])"
    )
}

/// The same by a seccomp filter, whose instructions (`struct sock_filter`) are tuples of Python.
pub fn filtered(instructions: &str) -> String {
    sandbox(&format!(
        "filter = b''.join(struct.pack('HBBI', *line) for line in [{instructions}])\n\
         lines = ctypes.create_string_buffer(filter)\n\
         program = ctypes.create_string_buffer(\n\
         \x20   struct.pack('HxxxxxxQ', len(filter) // 8, ctypes.addressof(lines)))\n\
         call(317, 1, 0, program)"
    ))
}

/// Says that this process is in its namespaces already.
const INSIDE: &str = "BRYO_TEST_INSIDE";

/// Runs `body` as root of new user, network and mount namespaces: by running the test once more, so `test` is its name.
#[track_caller]
pub fn in_own_namespaces(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let mut again = Command::new("unshare");
    again
        .args(["--user", "--map-root-user", "--net", "--mount"])
        .arg(std::env::current_exe().expect("this test's file"))
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1");
    for name in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ] {
        again.env_remove(name).env_remove(name.to_ascii_lowercase());
    }
    let done = Done::of(&mut again);
    assert!(done.status.success(), "{done}");
    assert!(
        done.stdout.contains("1 passed"),
        "no test is called {test}: {done}"
    );
}
