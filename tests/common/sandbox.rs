//! The tool in a sandbox of the test's making: what an ordinary user can take away from a process before it starts.

use std::process::{Command, Stdio};

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
