"""The work with files that the benches set beside the kernel's overlayfs: one table, read on both sides of the mount.

Each row runs in a tree of its own over the image `bench` (scripts/images.sh), in bash, as the container's root.
`setup` is not timed, `command` is; `check` prints what must be the same in all trees afterwards.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    command: str
    setup: str = ""
    check: str = "true"
    cold: bool = False  # caches are dropped between setup and command
    reads: bool = False  # runs six times, which gives a cold, a second and a warm time; prints what must be the same


def listing(*paths):
    """Names, kinds, modes, owners, targets, and the checksums of files, but for what tools date or number themselves."""
    where, but = " ".join(paths), "! -path '*/.git/*' ! -name '*.pyc' ! -name '*.log'"
    return (
        f"find {where} {but} -printf '%p %y %m %U %G %l\\n' | LC_ALL=C sort; "
        f"find {where} {but} -type f -print0 | LC_ALL=C sort -z | xargs -0r cksum"
    )


def warm(path):
    return f"tar -cf - {path} | cat > /dev/null"


FILES = "mkdir /srv/new; cd /srv/new; for i in {1..5000}; do echo $i > $i; done"
# 5,000 files in 50 directories, as a source tree has them.
SOURCES = "mkdir -p /srv/new/{1..50}; cd /srv/new; for i in {1..50}; do for j in {1..100}; do echo $i $j > $i/$j; done; done"
GIT = "git config --global user.name a; git config --global user.email a"
MAKE = r"""mkdir /srv/build; cd /srv/build
    for i in {1..200}; do printf '#include <stdio.h>\n#include <stdlib.h>\nint f%d(int x) { return printf("%%d", x); }\n' $i > $i.c; done
    printf 'all: %s\n' "$(echo {1..200}.o)" > Makefile; cat /usr/include/*.h > /dev/null; gcc -c 1.c -o warm.o; rm warm.o"""
APT = r"""echo 'deb [trusted=yes] file:/srv/debs ./' > /etc/apt/sources.list
    rm -rf /etc/apt/sources.list.d; apt-get -o APT::Sandbox::User=root update"""
POSTGRES = """export PATH=$PATH:/usr/lib/postgresql/15/bin; pg() { setpriv --reuid postgres --regid postgres --init-groups "$@"; }
    install -d -o postgres -m 700 /srv/pg; cd /"""
SERVE = "pg pg_ctl -s -w -D /srv/pg -l /srv/pg/server.log -o '-k /srv/pg -h \"\"'"
SQLITE = """import sqlite3
db = sqlite3.connect("/srv/db")
db.execute("create table t (n integer, s text)")
for n in range(1000):
    db.execute("insert into t values (?, ?)", (n, "x" * 100))
    db.commit()
"""
APPEND = 'import os; f = os.open("/srv/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)\nfor n in range(20000): os.write(f, b"x" * 99 + b"\\n")'
FIO = "cd /srv && fio --name=f --filename=/srv/fio --size=128M --bs=4k --randseed=1 --output=/dev/null"
# Written plainly: what fio lays out itself may be holes.
FIO_FILE = "yes abcdefg | head -c 128M > /srv/fio; sync /srv/fio"
SUM = "cksum /srv/fio"

ROWS = [
    Row("find", "find / -xdev | wc -l", reads=True),
    Row("find with stat", r"find / -xdev -printf '%s %T@ %p\n' | wc -l", reads=True),
    Row("tar of /usr", "tar -C /usr -cf - . | wc -c", reads=True),
    Row("grep -r", "grep -rc define /usr/include /usr/lib/python3.11 | wc -l", reads=True),
    Row("import numpy, scipy", "python3 -c 'import numpy, scipy.linalg, scipy.optimize; print(1)'", reads=True),
    Row(
        "git status",
        "git -C /srv/repo -c core.trustctime=false -c core.checkStat=minimal status --porcelain | wc -l",
        reads=True,
    ),
    Row("create 5,000 files", FILES, check=listing("/srv/new")),
    Row("unlink 5,000 files", "cd /srv/new; rm -f *", FILES, listing("/srv/new")),
    Row("untar 7,500 files", "mkdir /srv/new; tar -C /srv/new -xf /srv/files.tar", warm("/srv/files.tar"), listing("/srv/new")),
    Row("cp -a /usr/lib/python3", "cp -a /usr/lib/python3 /srv/new", warm("/usr/lib/python3"), listing("/srv/new")),
    # Where directories cannot be redirected, as in a user namespace, the kernel's overlayfs copies.
    Row("mv a lower directory", "mv /usr/lib/python3 /srv/new", warm("/usr/lib/python3"), listing("/srv/new")),
    Row("chmod -R a lower tree", "chmod -R g+w /srv/repo", warm("/srv/repo"), listing("/srv/repo")),
    Row("chown -R a lower tree", "chown -R 7:7 /srv/repo", warm("/srv/repo"), listing("/srv/repo")),
    Row("hard-link farm of a lower tree", "cp -al /srv/repo /srv/new", warm("/srv/repo"), listing("/srv/new")),
    Row("hard-link farm of 5,000 new files", "cp -al /srv/new /srv/farm", SOURCES, listing("/srv/farm")),
    Row(
        "git init, add, commit of 5,000 files",
        "cd /srv/new; git init -q; git add -A; GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000' git commit -qm all",
        f"{GIT}; {SOURCES}",
        "git -C /srv/new rev-parse HEAD; git -C /srv/new fsck; git -C /srv/new status --porcelain",
    ),
    Row(
        "git clone",
        "git clone -q file:///srv/repo /srv/new",
        f"git config --global safe.directory '*'; {warm('/srv/repo/.git')}",
        listing("/srv/new") + "; git -C /srv/new rev-parse HEAD",
    ),
    Row("gcc of 200 files, make -j2", "make -s -C /srv/build -j2", MAKE, listing("/srv/build")),
    Row(
        "apt-get install 20 packages",
        "DEBIAN_FRONTEND=noninteractive apt-get -qy -o APT::Sandbox::User=root install --no-install-recommends $(cat /srv/debs/names)",
        f"{APT}; {warm('/srv/debs')}",
        "dpkg-query -W; " + listing("/usr/bin", "/usr/share/doc"),
    ),
    Row(
        "pip install 12 wheels",
        "python3 -m pip -q install --no-index --find-links /srv/wheels --target /srv/new django flask requests",
        f"python3 -m pip --version; {warm('/srv/wheels')}",
        "find /srv/new ! -name '*.pyc' | LC_ALL=C sort",
    ),
    Row("SQLite, 1,000 transactions", f"python3 -c '{SQLITE}'", check="sqlite3 /srv/db 'select count(*), sum(n) from t'"),
    Row(
        "pgbench, 1,000 transactions",
        f"{POSTGRES}; {SERVE} start; pg pgbench -h /srv/pg -n -c 2 -t 500 postgres; {SERVE} stop",
        f"{POSTGRES}; pg initdb -D /srv/pg; {SERVE} start; pg pgbench -h /srv/pg -i -s 2 postgres; {SERVE} stop",
        f"{POSTGRES}; pg pg_controldata /srv/pg | grep state; {SERVE} start; pg psql -h /srv/pg -c 'select count(*) from pgbench_history' postgres; {SERVE} stop",
    ),
    Row("dd 1 MB blocks, fsync", "dd if=/dev/zero of=/srv/fio bs=1M count=300 conv=fsync", check=SUM),
    Row("dd 4 kB blocks", "dd if=/dev/zero of=/srv/fio bs=4k count=50000", check=SUM),
    Row("random 4 kB reads", f"{FIO} --rw=randread --io_size=32M", FIO_FILE, SUM, cold=True),
    Row("random 4 kB writes", f"{FIO} --rw=randwrite --io_size=64M --end_fsync=1", FIO_FILE, "stat -c %s /srv/fio"),
    Row("mmap reads", f"{FIO} --rw=randread --ioengine=mmap --io_size=32M", FIO_FILE, SUM, cold=True),
    Row("append from two processes", f"python3 -c '{APPEND}' & python3 -c '{APPEND}'; wait", check="cksum /srv/log"),
    Row("rm -rf a lower tree", "rm -rf /srv/repo", warm("/srv/repo"), listing("/srv")),
]
