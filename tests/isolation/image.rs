//! CVE-2019-14271, CVE-2022-1227: what looks into a container neither loads nor starts anything of it.

use std::fs;
use std::process::Command;

use super::common::{Bryo, Done};

/// A library that notes that it was loaded, at a path that means something inside and outside.
fn library(bryo: &Bryo) -> (std::path::PathBuf, std::path::PathBuf) {
    let (source, library) = (bryo.scratch("evil.c"), bryo.scratch("evil.so"));
    let trace = bryo.scratch("trace");
    fs::create_dir(&trace).unwrap();
    let text = format!(
        "#include <fcntl.h>\n#include <unistd.h>\n\
         __attribute__((constructor)) static void loaded(void) {{ close(open(\"{}/loaded\", O_CREAT | O_WRONLY, 0666)); }}\n",
        trace.display()
    );
    fs::write(&source, text).unwrap();
    let mut cc = Command::new("cc");
    let done = Done::of(cc.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source));
    assert!(done.status.success(), "{done}");
    (library, trace)
}

#[test]
fn nothing_of_the_image_is_loaded_or_started_outside() {
    let (bryo, image) = Bryo::with_image("debian:12");
    let (evil, trace) = library(&bryo);
    bryo.ok(["run", "-d", "--name", "one", &image, "sleep", "1000"]);
    let (evil, inside) = (evil.display().to_string(), trace.display().to_string());
    bryo.ok(["cp", &evil, "one:/evil.so"]);
    // It works: whoever loads it inside leaves a trace there.
    let load = format!("mkdir -p {inside}; LD_PRELOAD=/evil.so /bin/true; ls {inside}; rm -r {inside}");
    assert_eq!(bryo.ok(["exec", "one", "sh", "-c", &load]), "loaded\n");
    let hostile = "printf '#!/bin/busybox\\n' > /script
        for library in /lib/x86_64-linux-gnu/libnss_*.so.2 /lib/x86_64-linux-gnu/libnss_files.so.2 /lib/x86_64-linux-gnu/libnss_dns.so.2; do
            cp /evil.so $library
        done
        printf 'passwd: files evil\\ngroup: files evil\\n' > /etc/nsswitch.conf; cp /evil.so /lib/x86_64-linux-gnu/libnss_evil.so.2
        mkdir -p /usr/lib/x86_64-linux-gnu/gconv; printf '#!/bin/sh\\ntouch /started\\n' > /hostile; chmod 755 /hostile
        for program in tar ps gzip id getent newuidmap fusermount3; do cp --remove-destination /hostile /usr/bin/$program; done
        echo /evil.so > /etc/ld.so.preload";
    bryo.ok(["exec", "one", "sh", "-ec", hostile]);
    let out = bryo.scratch("out").display().to_string();
    bryo.ok(["cp", "-a", "one:/etc", &out]);
    bryo.ok(["cp", &format!("{out}/passwd"), "one:/tmp/passwd"]);
    let tar = bryo.scratch("in.tar");
    let mut pack = Command::new("tar");
    let done = Done::of(pack.arg("-cf").arg(&tar).args(["-C", &out, "passwd"]));
    assert!(done.status.success(), "{done}");
    let done = Done::of(
        bryo.command(["cp", "-", "one:/tmp"])
            .stdin(fs::File::open(&tar).unwrap()),
    );
    assert!(done.status.success(), "{done}");
    for words in [
        &["export", "-o", &format!("{out}.tar"), "one"][..],
        &["diff", "one"],
        &["top", "one"],
        &["logs", "one"],
        &["commit", "one", "made"],
        &["stop", "-t", "0", "one"],
        &["cp", "one:/etc/passwd", &out],
        &["start", "one"],
    ] {
        bryo.ok(words);
    }
    assert_eq!(fs::read_dir(&trace).unwrap().count(), 0);
    let done = bryo.run(["cp", "one:/started", &out]);
    assert!(
        !done.status.success(),
        "a program of the image was started: {done}"
    );
}
