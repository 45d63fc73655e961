//! What do calls fail with? The same for both users, so the kernel is the reference.

use std::fs;

use super::common::Bryo;

/// Calls as they are, by number; prints the error of each.
const CALLS: &str = r#"
use POSIX (); use Fcntl;
my %n = $ENV{M} eq "x86_64" ? (fchown => 93, fchownat => 260, mknodat => 259, open => 257) : (fchown => 55, fchownat => 54, mknodat => 33, open => 56);
sub say_ { my ($what, $result) = @_; my $name = $result == 0 ? "ok" : (grep { exists $!{$_} && $!{$_} } qw(EPERM ENOENT EBADF EACCES EFAULT EEXIST ENOTDIR EINVAL EROFS ENAMETOOLONG ELOOP))[0] // 0+$!; print "$what $name\n"; }
sub at { my ($what, $dir, $path, $flags) = @_; $! = 0; say_($what, syscall($n{fchownat}, $dir, $path, 33, 44, $flags)); }
my ($CWD, $NOFOLLOW, $EMPTY) = (-100, 0x100, 0x1000);
mkdir "/w"; chdir "/w"; mkdir "d"; open F, ">d/f"; open G, ">plain"; symlink "loop", "loop"; symlink "/nothing", "dangling"; symlink "/w/d", "dir"; symlink "d/f", "link";
at("missing", $CWD, "/nothing", 0);
at("missing below", $CWD, "d/nothing", 0);
at("below a file", $CWD, "plain/x", 0);
at("loop", $CWD, "loop", 0);
at("loop itself", $CWD, "loop", $NOFOLLOW);
at("dangling", $CWD, "dangling", 0);
at("dangling itself", $CWD, "dangling", $NOFOLLOW);
at("through a link", $CWD, "dir/f", $NOFOLLOW);
at("a link", $CWD, "link", 0);
at("a link with a slash", $CWD, "dir/", $NOFOLLOW);
at("a file with a slash", $CWD, "plain/", 0);
at("up and down", $CWD, "../../../w/d/../plain", 0);
at("empty", $CWD, "", 0);
at("empty, allowed", $CWD, "", $EMPTY);
at("an open file", fileno(F), "", $EMPTY);
at("below an open file", fileno(F), "x", 0);
at("no descriptor", 77, "x", 0);
at("a negative one", -7, "x", 0);
at("no descriptor needed", 77, "/w/plain", 0);
at("unknown flags", $CWD, "plain", 0x40000);
at("too long a name", $CWD, "x" x 256, 0);
at("too long a path", $CWD, "./" x 2048, 0);
at("the longest path", $CWD, ("./" x 2044) . "plain", 0);
$! = 0; say_("no memory", syscall($n{fchownat}, $CWD, 8, 33, 44, 0));
$! = 0; say_("fchown", syscall($n{fchown}, fileno(G), 33, 44));
$! = 0; say_("fchown of nothing", syscall($n{fchown}, 77, 33, 44));
my $plain = "plain"; my $o = syscall($n{open}, $CWD, $plain, 010000000, 0);
$! = 0; say_("fchown of a path", syscall($n{fchown}, $o, 33, 44));
open R, "<plain"; unlink "plain"; $! = 0; say_("fchown of what is gone", syscall($n{fchown}, fileno(R), 33, 44));
"#;

const ERRORS: &str = "missing ENOENT
missing below ENOENT
below a file ENOTDIR
loop ELOOP
loop itself ok
dangling ENOENT
dangling itself ok
through a link ok
a link ok
a link with a slash ok
a file with a slash ENOTDIR
up and down ok
empty ENOENT
empty, allowed ok
an open file ok
below an open file ENOTDIR
no descriptor EBADF
a negative one EBADF
no descriptor needed ok
unknown flags EINVAL
too long a name ENAMETOOLONG
too long a path ENAMETOOLONG
the longest path ok
no memory EFAULT
fchown ok
fchown of nothing EBADF
fchown of a path EBADF
fchown of what is gone ok
";

#[test]
fn errors_are_the_kernels() {
    let (bryo, image) = Bryo::with_image("debian:12");
    let script = bryo.scratch("calls.pl");
    fs::write(&script, CALLS).unwrap();
    let volume = format!("{}:/calls.pl:ro", script.display());
    let machine = format!("M={}", std::env::consts::ARCH);
    let perl = ["-e", &machine, "-v", &volume];
    let run = |flags: &[&str], command: &[&str]| {
        let words = [&["run", "--rm"], &perl[..], flags, &[&*image], command].concat();
        bryo.run(words)
    };
    let done = run(&[], &["perl", "/calls.pl"]);
    assert_eq!(done.stdout, ERRORS, "{done}");
    // Without the capability it is EPERM, wherever the file is found.
    let done = run(&["--cap-drop", "CHOWN"], &["perl", "/calls.pl"]);
    assert_eq!(done.stdout, ERRORS.replace(" ok", " EPERM"), "{done}");
    let chown = ["chown", "33", "/etc/passwd"];
    let done = run(&["--read-only"], &chown);
    assert!(done.stderr.contains("Read-only file system"), "{done}");
    // Who may not look into a directory finds nothing to change there.
    let hidden = "mkdir -m 0 /h; touch /h/x; setpriv --bounding-set -dac_override,-dac_read_search sh -c 'chown 5 /h/x'";
    let done = run(&[], &["sh", "-c", hidden]);
    assert!(done.stderr.contains("Permission denied"), "{done}");
}
