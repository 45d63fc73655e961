//! Does real software work in a container: compilers, databases, package managers, servers?
//!
//! One store holds the 1.2 GB image for all of them.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::sync::OnceLock;

use common::{Bryo, has_id_range};

/// The store with Debian, gcc, git, Python, numpy, scipy, sqlite, nginx and curl; and the image's name.
fn software() -> &'static (Bryo, String) {
    static STORE: OnceLock<(Bryo, String)> = OnceLock::new();
    STORE.get_or_init(|| Bryo::shared_by_all("software"))
}

/// Runs a script in a fresh container of it.
#[track_caller]
fn sh(script: &str) -> String {
    let (bryo, image) = software();
    bryo.sh(image, script)
}

/// The same with the directory of .deb files, which is also an apt repository, at /debs.
#[track_caller]
fn sh_with_debs(script: &str) -> String {
    let (bryo, image) = software();
    let volume = format!("{}:/debs:ro", common::images().join("debs").display());
    bryo.ok(["run", "--rm", "-v", &volume, image, "sh", "-ec", script])
}

#[test]
fn numpy_and_scipy_compute() {
    let script =
        "python3 -c 'import numpy, scipy.linalg; print(int(round(scipy.linalg.det(numpy.eye(3) * 2))))'";
    assert_eq!(sh(script), "8\n");
}

#[test]
fn gcc_compiles_links_and_its_programs_run() {
    let script = r##"
        cd /tmp
        printf '#include <stdio.h>\nint main(void) { puts("from C"); return 0; }\n' > a.c
        printf '#include <iostream>\nint main() { std::cout << "from C++" << std::endl; }\n' > b.cpp
        printf 'all: a b\na: a.c\n\tgcc -O2 -o $@ $<\nb: b.cpp\n\tg++ -O2 -o $@ $<\n' > Makefile
        make -s -j2 && ./a && ./b && make -q"##;
    assert_eq!(sh(script), "from C\nfrom C++\n");
}

#[test]
fn git_commits_clones_and_finds_no_damage() {
    let script = r#"
        export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a
        git init -q /origin && cd /origin && cp -r /usr/share/doc . && git add -A && git commit -qm one
        mv doc moved && git add -A && git commit -qm two
        git clone -q --no-local /origin /clone && cd /clone && git fsck --full --strict
        git status --porcelain; git log --format=%s; diff -r --no-dereference /origin/moved /clone/moved"#;
    assert_eq!(sh(script), "two\none\n");
}

#[test]
fn sqlite_keeps_its_integrity() {
    for journal in ["delete", "wal"] {
        let script = format!(
            "cd /var/lib; sqlite3 a.db 'pragma journal_mode={journal}; create table t(n integer primary key, s);
             with recursive c(n) as (select 1 union all select n+1 from c where n < 20000) insert into t select n, hex(n) from c;'
            for i in 1 2 3 4 5; do sqlite3 a.db \"update t set s = $i where n % 5 = $i; delete from t where n = $i\"; done
            sqlite3 a.db 'pragma integrity_check; select count(*) from t; vacuum; pragma integrity_check'"
        );
        assert_eq!(sh(&script), format!("{journal}\nok\n19995\nok\n"));
    }
}

#[test]
fn dpkg_installs_and_removes_a_package() {
    let script = "dpkg -i /debs/hello_*.deb > /dev/null; hello; dpkg -V hello; dpkg -r hello > /dev/null; test ! -e /usr/bin/hello";
    assert_eq!(sh_with_debs(script), "Hello, world!\n");
}

#[test]
fn apt_get_updates_and_installs() {
    // apt fetches as its own user, which exists only with an id range.
    let sandbox = if has_id_range() {
        ""
    } else {
        "-o APT::Sandbox::User=root"
    };
    let script = format!(
        "echo 'deb [trusted=yes] file:///debs ./' > /etc/apt/sources.list
         export DEBIAN_FRONTEND=noninteractive
         apt-get {sandbox} -qq update && apt-get {sandbox} -qq install jq hello > /dev/null 2> /tmp/err || {{ cat /tmp/err >&2; exit 1; }}
         echo '{{\"a\": [1, 2]}}' | jq -c .a; hello; dpkg --audit"
    );
    assert_eq!(sh_with_debs(&script), "[1,2]\nHello, world!\n");
}

#[test]
fn pip_installs_a_wheel() {
    let script = r#"
        cd /tmp && python3 - <<'PY'
import zipfile
info = "tiny-1.0.dist-info/"
with zipfile.ZipFile("tiny-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("tiny.py", "print('tiny speaks')\n")
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(info + "RECORD", "tiny.py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n")
PY
        python3 -m venv /venv && /venv/bin/pip -q --disable-pip-version-check install --no-index ./tiny-1.0-py3-none-any.whl
        /venv/bin/python -c 'import tiny'"#;
    assert_eq!(sh(script), "tiny speaks\n");
}

#[test]
fn nginx_serves_a_page() {
    // Its workers become www-data, which exists only with an id range.
    let user = if has_id_range() { "www-data" } else { "root" };
    let script = format!(
        "echo 'a page' > /srv/index.html
         printf 'user {user};\nevents {{}}\nhttp {{ server {{ listen unix:/run/web.sock; root /srv; }} }}\n' > /etc/nginx/nginx.conf
         nginx; curl -sS --unix-socket /run/web.sock http://localhost/; ps -o user= -C nginx | sort -u | tr '\\n' ' '; nginx -s quit"
    );
    let users = if has_id_range() { "root www-data " } else { "root " };
    assert_eq!(sh(&script), format!("a page\n{users}"));
}
