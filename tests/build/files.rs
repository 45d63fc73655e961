//! What do COPY, ADD and mounts put where? Places, modes, owners, times, what is ignored, what is out of reach.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;

use crate::common::{Done, Project, has_id_range, mode};
use crate::last;

#[test]
fn copies_land_where_docker_puts_them() {
    let project = Project::new();
    for name in ["a.txt", "b.txt", "c.md", "dir/one", "dir/sub/two", "sp ace"] {
        project.write(name, name);
    }
    symlink("one", project.path("dir/link")).unwrap();
    mode(&project.path("a.txt"), 0o4750);
    project.build(
        "FROM base\n\
         WORKDIR /w\n\
         COPY a.txt .\n\
         COPY a.txt renamed\n\
         COPY a.txt /new/place/\n\
         COPY dir /tree\n\
         COPY dir/ /tree2/\n\
         COPY *.txt dir/sub /both/\n\
         COPY [\"sp ace\", \"/sp aced\"]\n\
         COPY --chmod=711 dir/one ?.md /modes/\n\
         COPY --chmod=u=rwX,go= dir /symbolic\n\
         COPY dir/link /followed\n\
         COPY --exclude=sub --exclude=link dir /some\n\
         ADD c.md /added/\n",
        &[],
    );
    let found = project.sh("cd /; find w new tree tree2 both 'sp aced' modes followed some added | sort");
    let wanted = "added\nadded/c.md\nboth\nboth/a.txt\nboth/b.txt\nboth/two\nfollowed\nmodes\nmodes/c.md\nmodes/one\nnew\n\
         new/place\nnew/place/a.txt\nsome\nsome/one\nsp aced\ntree\ntree/link\ntree/one\ntree/sub\ntree/sub/two\ntree2\n\
         tree2/link\ntree2/one\ntree2/sub\ntree2/sub/two\nw\nw/a.txt\nw/renamed\n";
    assert_eq!(found, wanted);
    let stat = "stat -c '%a %u:%g %F %n' /w/a.txt /modes/one /modes /followed /tree/link";
    let wanted = "4750 0:0 regular file /w/a.txt\n711 0:0 regular file /modes/one\n755 0:0 directory /modes\n\
         644 0:0 regular file /followed\n777 0:0 symbolic link /tree/link\n";
    assert_eq!(project.sh(stat), wanted);
    assert_eq!(
        project.sh("cd /symbolic; stat -c '%a %n' one sub sub/two"),
        "600 one\n700 sub\n600 sub/two\n"
    );
    assert_eq!(
        project.sh("cat '/sp aced' /followed; readlink /tree/link"),
        "sp acedir/oneone\n"
    );
}

#[test]
fn copies_have_the_owner_that_was_asked() {
    let project = Project::new();
    project.write("file", "x");
    fs::create_dir(project.path("empty")).unwrap();
    let text = "FROM base\n\
         RUN echo 'late:x:77:78::/:/bin/sh' >> /etc/passwd\n\
         COPY --chown=user file /1/f\n\
         COPY --chown=user:extra file /2/f\n\
         COPY --chown=12:34 file /3/f\n\
         COPY --chown=12 file /4/f\n\
         COPY --chown=:extra file /5/f\n\
         COPY --chown=late file /6/f\n\
         COPY --chown=12:34 empty /7/\n\
         USER user\nWORKDIR /8\nCOPY file /9/f\n";
    project.build(text, &[]);
    for (path, owner) in [
        ("1", "1000/1000"),
        ("1/f", "1000/1000"),
        ("2/f", "1000/2000"),
        ("3/f", "12/34"),
        ("4/f", "12/12"),
        ("5/f", "0/2000"),
        ("6/f", "77/78"),
        ("7", "12/34"),
        ("8", "1000/1000"),
        ("9", "0/0"),
        ("9/f", "0/0"),
    ] {
        assert_eq!(project.owner(path), owner, "{path}");
    }
    let said = project.fails("FROM base\nCOPY --chown=nobody-here file /\n", &[]);
    assert!(last(&said).0.contains("nobody-here"), "{said}");
}

#[test]
fn times_of_files_are_kept() {
    let project = Project::new();
    project.write("dir/file", "x");
    for (path, time) in [("dir/file", "@1000000000"), ("dir", "@1100000000")] {
        let done = Command::new("touch")
            .args(["-d", time])
            .arg(project.path(path))
            .status();
        assert!(done.unwrap().success());
    }
    fs::create_dir(project.path("outer")).unwrap();
    fs::rename(project.path("dir"), project.path("outer/dir")).unwrap();
    project.build("FROM base\nCOPY outer /to\n", &[]);
    assert_eq!(
        project.sh("stat -c %Y /to/dir/file /to/dir"),
        "1000000000\n1100000000\n"
    );
    // Places that were made to mount on are gone again, and nothing has a new time but what the command changed.
    project.build(
        "FROM scratch\nCOPY --from=base /bin /bin\nCOPY outer/dir /etc/\nENV PATH=/bin\nRUN touch /bin/new\n",
        &["-t", "bare"],
    );
    project.build("FROM base\nCOPY --from=bare / /bare\nCOPY no-such-name* /\n", &[]);
    assert_eq!(
        project.sh("ls -A /bare /bare/etc"),
        "/bare:\nbin\netc\n\n/bare/etc:\nfile\n"
    );
    let times = "FROM base\nWORKDIR /old\nRUN touch -d @5 /old /etc /\nRUN echo x > /old/x\n";
    project.build(
        &times.replace("RUN echo x > /old/x\n", "RUN echo x > /tmp/x\n"),
        &[],
    );
    assert_eq!(project.sh("stat -c %Y /old /etc"), "5\n5\n");
}

#[test]
fn ignored_files_are_not_there() {
    let project = Project::new();
    for name in [
        "keep",
        "a.log",
        "b.log",
        "deep/a.log",
        "node/x",
        "node/keep/y",
        "node/z",
        "top.md",
        "deep/other.md",
    ] {
        project.write(name, name);
    }
    project.write(
        ".dockerignore",
        "# comment\n*.log\n!b.log\nnode\n!node/keep\n**/*.md\n!top.md\n.dockerignore\n",
    );
    project.build("FROM base\nCOPY . /all/\nCOPY node /node/\n", &[]);
    assert_eq!(
        project.sh("cd /all; find . -type f | sort; find /node -type f"),
        "./b.log\n./deep/a.log\n./keep\n./node/keep/y\n./top.md\n/node/keep/y\n"
    );
    for hidden in ["a.log", "node/x"] {
        let said = project.fails(&format!("FROM base\nCOPY {hidden} /\n"), &[]);
        assert!(
            last(&said).0.ends_with(&format!("\"/{hidden}\": not found")),
            "{said}"
        );
    }
    // The Dockerfile's own list comes first.
    fs::write(project.bryo.scratch("Dockerfile.dockerignore"), "*\n!keep\n").unwrap();
    project.build("FROM base\nCOPY . /all/\n", &[]);
    assert_eq!(project.sh("ls -A /all"), "keep\n");
}

#[test]
fn nothing_outside_the_context_is_copied() {
    let project = Project::new();
    fs::write(project.bryo.scratch("secret"), "secret").unwrap();
    project.write("file", "x");
    symlink("../secret", project.path("up")).unwrap();
    symlink(project.bryo.scratch("secret"), project.path("absolute")).unwrap();
    symlink("..", project.path("parent")).unwrap();
    for source in ["../secret", "up", "absolute", "parent/secret", "/../secret"] {
        let said = project.fails(&format!("FROM base\nCOPY {source} /x\n"), &[]);
        assert!(!project.bryo.ok(["images"]).contains("made"), "{source}: {said}");
    }
    // Within a directory the link itself is copied, and a destination is within the image.
    project.build(
        "FROM base\nRUN ln -s /../../etc /out && ln -s / /top\nCOPY . /all/\nCOPY file /out/new\nCOPY file /top/../../../at-top\n",
        &[],
    );
    assert_eq!(
        project.sh("readlink /all/up; ls /etc/new /at-top"),
        "../secret\n/at-top\n/etc/new\n"
    );
}

#[test]
fn here_documents_are_files_and_scripts() {
    let project = Project::new();
    project.build(
        "FROM base\nARG WHO=world\n\
         RUN <<EOF\necho one > /script\necho $WHO >> /script\nEOF\n\
         COPY <<one <<\"two\" /docs/\nhello $WHO\none\nhello $WHO\ntwo\n\
         COPY --chmod=700 <<-EOF /tabs\n\t\tindented\n\tEOF\n\
         RUN cat <<A >/shell && cat <<B >>/shell\na $WHO\nA\nb\nB\n",
        &[],
    );
    assert_eq!(
        project.sh("cat /script /docs/one /docs/two /tabs /shell; stat -c %a /tabs"),
        "one\nworld\nhello world\nhello $WHO\nindented\na world\nb\n700\n"
    );
}

#[test]
fn mounts_are_there_for_one_command_and_leave_no_trace() {
    let project = Project::new();
    project.write("a/f", "from the context\n");
    fs::write(project.bryo.scratch("secret"), "hidden\n").unwrap();
    let secret = format!("id=s,src={}", project.bryo.scratch("secret").display());
    let text = "FROM base AS other\nRUN echo from a stage > /f\n\
         FROM base\n\
         RUN --mount=type=cache,target=/c/d echo x >> /c/d/f; wc -l < /c/d/f > /count\n\
         RUN --mount=type=tmpfs,target=/t touch /t/x\n\
         RUN --mount=type=bind,source=a,target=/b,rw cat /b/f >> /seen && echo y > /b/g\n\
         RUN --mount=from=other,target=/o cat /o/f >> /seen; touch /o/x || echo read-only >> /seen\n\
         RUN --mount=type=secret,id=s wc -c < /run/secrets/s >> /seen\n\
         RUN --mount=type=secret,id=s,env=S echo ${#S} >> /seen; env | grep -c ^S= >> /seen\n\
         RUN --mount=type=secret,id=none test ! -e /run/secrets/none\n";
    let built = project.build(text, &["--secret", &secret]);
    assert!(!built.said.contains("hidden"), "{}", built.said);
    let seen = "from the context\nfrom a stage\nread-only\n7\n7\n1\n";
    let look = "cat /count /seen; ls -d /c /t /b /o /run/secrets 2> /dev/null || true";
    assert_eq!(project.sh(look), format!("1\n{seen}"));
    assert!(!project.path("a/g").exists());
    // A cache outlives its build, and is no part of the key; neither is a secret's value.
    fs::write(project.bryo.scratch("secret"), "another\n").unwrap();
    assert_eq!(
        project.build(text, &["--secret", &secret]).run,
        Vec::<String>::new()
    );
    project.build(text, &["--secret", &secret, "--no-cache"]);
    assert!(project.sh(look).starts_with("2\n"));
    project.write("a/f", "changed\n");
    let built = project.build(text, &["--secret", &secret]);
    assert_eq!(built.cached.len(), 3, "{}", built.said);
    let said = project.fails(
        "FROM base\nRUN --mount=type=secret,id=s,required=true true\n",
        &[],
    );
    assert!(
        said.contains(" >>> RUN --mount=type=secret") && said.contains("bryo: "),
        "{said}"
    );
}

#[test]
fn add_unpacks_archives_and_copy_does_not() {
    let project = Project::new();
    project.write("tree/a/file", "content\n");
    symlink("file", project.path("tree/a/link")).unwrap();
    mode(&project.path("tree/a/file"), 0o640);
    for (name, flags) in [
        ("plain.tar", "-c"),
        ("by-content", "-cz"),
        ("z.tar.zst", "-ca"),
        ("xz", "-cJ"),
        ("bzip2", "-cj"),
    ] {
        let mut tar = Command::new("tar");
        tar.args(["--owner=7", "--group=8", "--mtime=@5", flags, "-f"])
            .arg(project.path(name))
            .arg("-C")
            .arg(project.path("tree"))
            .arg("a");
        assert!(tar.status().unwrap().success());
    }
    project.write("no.tar", "this is none");
    project.build(
        "FROM base\nADD plain.tar /1\nADD by-content /2/\nADD z.tar.zst /3/\n\
         ADD --chown=1:2 plain.tar /5/\nADD no.tar /6/\nCOPY plain.tar /7/\nADD --unpack=false plain.tar /8/\nADD tree /9/\n\
         ADD xz /10\nADD bzip2 /11\n",
        &[],
    );
    for place in [1, 2, 3, 10, 11] {
        assert_eq!(project.owner(&format!("{place}/a/file")), "7/8");
        let stat = format!("cd /{place}/a; stat -c '%n %a %Y' file; readlink link; cat file");
        assert_eq!(project.sh(&stat), "file 640 5\nfile\ncontent\n", "{place}");
    }
    assert_eq!(project.owner("5/a/file"), "1/2");
    assert_eq!(
        project.sh("ls /6 /7 /8 /9"),
        "/6:\nno.tar\n\n/7:\nplain.tar\n\n/8:\nplain.tar\n\n/9:\na\n"
    );
}

/// As xz and bzip2 themselves write them: blocks, filters, several streams.
#[test]
fn compressed_contexts_and_archives_are_read_whole() {
    let project = Project::new();
    let noise: Vec<u8> = (0_u32..600_000)
        .flat_map(|number| number.wrapping_mul(0x9e37_79b9).to_le_bytes())
        .collect();
    project.write("noise", &noise);
    project.write("Dockerfile", "FROM base\nCOPY noise /noise\n");
    let tar = project.bryo.scratch("tar");
    let mut pack = Command::new("tar");
    pack.arg("-cf")
        .arg(&tar)
        .arg("-C")
        .arg(project.path(""))
        .args(["noise", "Dockerfile"]);
    assert!(pack.status().unwrap().success());
    let packed = |program: &str| {
        let made = project.bryo.scratch("packed");
        let command = format!("{program} < {} > {}", tar.display(), made.display());
        assert!(
            Command::new("sh")
                .args(["-c", &command])
                .status()
                .unwrap()
                .success()
        );
        made
    };
    for program in [
        "xz -0 --block-size=65536",
        "xz -9 --x86 --lzma2 --check=sha256",
        "bzip2 -1",
        "gzip",
        "zstd",
    ] {
        let made = packed(program);
        let mut command = project.bryo.command(["build", "-t", "made", "--no-cache", "-"]);
        command.stdin(fs::File::open(&made).unwrap());
        project.built(&mut command);
        assert_eq!(
            project.sh("wc -c < /noise"),
            format!("{}\n", noise.len()),
            "{program}"
        );
        // Cut, it is an error, not a part of it.
        let whole = fs::read(&made).unwrap();
        project.write("cut", &whole[..whole.len() - 20]);
        let said = project.fails("FROM base\nADD cut /cut/\n", &[]);
        assert!(
            said.trim_end().ends_with("data is truncated"),
            "{program}: {said}"
        );
        project.write(
            "cut",
            [&whole[..whole.len() / 2], &whole[whole.len() / 2 + 1..]].concat(),
        );
        let said = project.fails("FROM base\nADD cut /cut/\n", &[]);
        assert!(said.contains("cannot decompress cut: the "), "{program}: {said}");
    }
    project.is_clean();
}

/// The reference, "RUN --mount=type=cache" and "type=secret": uid, gid and mode are those of the directory or file.
#[test]
fn mounts_are_their_owners() {
    let project = Project::new();
    fs::write(project.bryo.scratch("secret"), "hidden").unwrap();
    let secret = format!("id=s,src={}", project.bryo.scratch("secret").display());
    // Who has one id is root, and all is root's.
    let ranged = has_id_range();
    let shown = |owner: &str, mode: &str| match ranged {
        true => format!("{owner} {mode}\n"),
        false => format!("0:0 {mode}\n"),
    };
    let stat = |mount: &str, path: &str| {
        let text = format!("FROM base\nRUN --mount=type={mount} stat -c '%u:%g %a' {path} > /out\n");
        project.build(&text, &["--secret", &secret]);
        project.sh("cat /out")
    };
    for (mount, path, owner, mode) in [
        ("secret,id=s,uid=1000", "/run/secrets/s", "1000:0", "400"),
        ("secret,id=s,gid=5,mode=0440", "/run/secrets/s", "0:5", "440"),
        ("secret,id=s,uid=0,gid=0", "/run/secrets/s", "0:0", "400"),
        (
            "cache,target=/c,uid=1000,gid=1001,mode=0700",
            "/c",
            "1000:1001",
            "700",
        ),
        ("cache,target=/c,mode=0711", "/c", "0:0", "711"),
        (
            "cache,target=/c,uid=1000,gid=1001,mode=0700,sharing=private",
            "/c",
            "1000:1001",
            "700",
        ),
    ] {
        assert_eq!(stat(mount, path), shown(owner, mode), "{mount}");
    }
    if ranged {
        // The owner can write there, later builds find it, and it can be pruned.
        let write = "FROM base\nUSER 1000:1001\nRUN --mount=type=cache,target=/c,uid=1000,gid=1001,mode=0700 \
            mkdir -p /c/deep && echo mine > /c/deep/file\n";
        project.build(write, &[]);
        let read = "FROM base\nRUN --mount=type=cache,target=/c,uid=1000,gid=1001,mode=0700 cat /c/deep/file > /out\n";
        project.build(read, &[]);
        assert_eq!(project.sh("cat /out"), "mine\n");
        let none = project.build("FROM base\nRUN --mount=type=cache,target=/c ls /c > /out\n", &[]);
        assert_eq!(project.sh("cat /out"), "", "{none:?}");
    }
    let said = project
        .bryo
        .command(["builder", "prune", "-af"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stderr), "");
    let left = fs::read_dir(project.bryo.state().join("caches")).unwrap();
    assert_eq!(left.count(), 0);
    let text = "FROM base\nRUN --mount=type=ssh,uid=1000 true\n";
    let told = project.fails(text, &["--ssh", "default=/no/agent"]);
    assert!(told.contains("an ssh mount with uid=1000"), "{told}");
    project.is_clean();
}

/// Who finds a private cache in use has one of its own, made alike, which goes with the step.
#[test]
fn a_private_cache_beside_another_is_made_alike_and_goes() {
    let project = Project::new();
    let ranged = has_id_range();
    // Both go on when both have begun; then one of them has the stand-in.
    let stage = |name: &str, other: &str| {
        format!(
            "FROM base AS {name}\nRUN --mount=type=cache,target=/meet,sharing=shared \\\n \
             --mount=type=cache,id=x,target=/c,uid=1000,gid=1001,mode=0757,sharing=private \\\n \
             touch /meet/{name}; until test -e /meet/{other}; do sleep 0.05; done; \\\n \
             mkdir /c/{name} && touch /c/{name}/file && chmod 700 /c/{name} && stat -c '%u:%g %a' /c > /{name} && \\\n \
             {}\n",
            match ranged {
                true => format!("chown -R 1000:1001 /c/{name}"),
                false => "true".into(),
            }
        )
    };
    let text = format!(
        "{}{}FROM base\nCOPY --from=one /one /\nCOPY --from=two /two /\n",
        stage("one", "two"),
        stage("two", "one")
    );
    let done = project.build(&text, &["--jobs=2"]);
    let owner = if ranged { "1000:1001" } else { "0:0" };
    assert_eq!(project.sh("cat /one /two"), format!("{owner} 757\n").repeat(2));
    assert!(!done.said.contains("cannot be removed"), "{}", done.said);
    let left: Vec<_> = fs::read_dir(project.bryo.state().join("builds"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    // What is another's would outlive the test.
    project.bryo.ok(["builder", "prune", "-af"]);
    project.is_clean();
}

/// The examples of the Dockerfile reference ("COPY --parents").
#[test]
fn copies_keep_the_directories_above_if_asked() {
    let project = Project::new();
    for name in [
        "x/a.txt",
        "y/a.txt",
        "x/y/a.txt",
        "x/y/b.txt",
        "x/y/c.md",
        "x/y/z/deep",
    ] {
        project.write(name, name);
    }
    mode(&project.path("x"), 0o750);
    project.build(
        "FROM base\n\
         COPY ./x/a.txt ./y/a.txt /none/\n\
         COPY --parents ./x/a.txt ./y/a.txt /parents/\n\
         COPY --parents ./x/./y/*.txt /pivot/\n\
         COPY --parents x/y /directory\n\
         COPY --parents --exclude=x/y/z x/y/./z x/y /excluded/\n\
         COPY --parents . /all/\n",
        &[],
    );
    let wanted = "/all/x/a.txt\n/all/x/y/a.txt\n/all/x/y/b.txt\n/all/x/y/c.md\n/all/x/y/z/deep\n/all/y/a.txt\n\
        /directory/x/y/a.txt\n/directory/x/y/b.txt\n/directory/x/y/c.md\n/directory/x/y/z/deep\n\
        /excluded/x/y/a.txt\n/excluded/x/y/b.txt\n/excluded/x/y/c.md\n/excluded/z/deep\n\
        /none/a.txt\n/parents/x/a.txt\n/parents/y/a.txt\n/pivot/y/a.txt\n/pivot/y/b.txt\n";
    let find = "find /none /parents /pivot /directory /excluded /all -type f | sort";
    assert_eq!(project.sh(find), wanted);
    // The directories are those of the context, too.
    assert_eq!(
        project.sh("stat -c %a /parents/x /directory/x /pivot/y"),
        "750\n750\n755\n"
    );
    let history = project
        .bryo
        .ok(["history", "--no-trunc", "--format", "{{.CreatedBy}}", "made"]);
    assert!(history.starts_with("COPY --parents . /all/"), "{history}");
}

/// With `--parents` a `**` is any number of directories, as in BuildKit, which passes it on as an IncludePattern.
#[test]
fn copies_with_parents_reach_any_depth() {
    let project = Project::new();
    for name in [
        "package.json",
        "a/package.json",
        "a/b/package.json",
        "a/b/c/package.json",
        "a/b/c/other",
        "libs/one/src/x.go",
        "libs/two/deep/src/y/z.go",
        "libs/two/deep/src/y/no.txt",
        "node_modules/m/package.json",
    ] {
        project.write(name, name);
    }
    project.write(".dockerignore", "node_modules\n");
    symlink("c", project.path("a/b/again")).unwrap();
    project.build(
        "FROM base\n\
         COPY --parents **/package.json /all/\n\
         COPY --parents --exclude=a/b/c a/**/package.json /some/\n\
         COPY --parents libs/./**/*.go /pivot/\n\
         COPY --parents libs/**/src /whole/\n\
         COPY --parents **/again /link/\n\
         COPY --parents **/none* /nothing/\n\
         COPY **/package.json /flat/\n",
        &[],
    );
    let found = project.sh("find /all /some /pivot /whole /link /nothing /flat ! -type d | sort");
    let wanted = "/all/a/b/c/package.json\n/all/a/b/package.json\n/all/a/package.json\n/all/package.json\n\
        /flat/package.json\n/link/a/b/again\n/pivot/one/src/x.go\n/pivot/two/deep/src/y/z.go\n\
        /some/a/b/package.json\n/some/a/package.json\n\
        /whole/libs/one/src/x.go\n/whole/libs/two/deep/src/y/no.txt\n/whole/libs/two/deep/src/y/z.go\n";
    assert_eq!(found, wanted);
    assert_eq!(
        project.sh("cat /flat/package.json; readlink /link/a/b/again"),
        "a/package.jsonc\n",
        "without --parents it is one level, as Go's path.Match has it"
    );
}

/// Agents that answer with their own names, and a program that asks the one of $SSH_AUTH_SOCK, or of its argument.
#[test]
fn agents_are_mounted_by_their_ids() {
    let project = Project::new();
    let ask = "use Socket; my $at = $ARGV[0] // $ENV{SSH_AUTH_SOCK}; socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die;\n\
        connect($s, sockaddr_un($at)) or die \"$at: $!\"; print <$s>;\n";
    project.write("ask.pl", ask);
    let listen = |name: &'static str| {
        let socket = project.bryo.scratch(name);
        let listener = UnixListener::bind(&socket).unwrap();
        mode(&socket, 0o666);
        thread::spawn(move || {
            for client in listener.incoming() {
                writeln!(client.unwrap(), "{name}").unwrap();
            }
        });
        socket.display().to_string()
    };
    let (mine, other) = (listen("mine"), listen("other"));
    // Perl as the host has it.
    let perl = "/lib64/ld-linux-x86-64.so.2 --library-path /lib/x86_64-linux-gnu /usr/bin/perl /ask.pl";
    let volumes = ["/lib64", "/lib", "/usr"].map(|path| format!("--volume={path}:{path}:ro"));
    let text = format!(
        "FROM base\nCOPY ask.pl /\n\
         RUN --mount=type=ssh {perl} > /default\n\
         RUN --mount=type=ssh,id=github,required {perl} > /github\n\
         RUN --mount=type=ssh,id=github,target=/a/socket --mount=type=ssh \\\n \
             {{ {perl}; {perl} /run/buildkit/ssh_agent.1; echo $SSH_AUTH_SOCK; }} > /both\n\
         RUN --mount=type=ssh,id=none test -z \"$SSH_AUTH_SOCK\"\n\
         RUN --mount=type=ssh,mode=666 {perl} > /mode\n"
    );
    let [github, default] = [format!("--ssh=github={other}"), "--ssh=default".into()];
    let flags: Vec<&str> = volumes
        .iter()
        .chain([&github, &default])
        .map(String::as_str)
        .collect();
    project.built(project.command(&text, &flags).env("SSH_AUTH_SOCK", &mine));
    assert_eq!(
        project.sh("cd /; cat default github both mode; ! test -e /run/buildkit"),
        "mine\nother\nother\nmine\n/a/socket\nmine\n",
        "and nothing of them is in the image"
    );
    for (text, flags, why) in [
        (
            "FROM base\nRUN --mount=type=ssh,id=x,required true\n",
            &[github.as_str()][..],
            "no SSH agent x was given (--ssh x, ",
        ),
        (
            "FROM base\nUSER user\nRUN --mount=type=ssh,id=github,mode=0666 true\n",
            &[&github],
            "an ssh mount with mode=0666: the socket is the user's own",
        ),
    ] {
        let said = project.fails(text, flags);
        assert!(said.contains(why), "{said}");
    }
    for key in ["/etc/passwd", "/a/key,/b/key"] {
        let done = Done::of(&mut project.command("FROM base\n", &["--ssh", &format!("x={key}")]));
        let why = format!("{key} is no socket of an agent, and keys are read by none");
        assert!(
            done.status.code() == Some(125) && done.stderr.contains(&why),
            "{done}"
        );
    }
}

/// As in BuildKit, a directory's own `.dockerignore` counts where it is a named context.
#[test]
fn named_contexts_heed_their_own_ignore_file() {
    let project = Project::new();
    project.write("file", "of the context");
    for name in ["keep", "a.log", "sub/b.log", "sub/file"] {
        project.write(&format!("other/{name}"), name);
    }
    project.write("other/.dockerignore", "**/*.log\n.dockerignore\n");
    let other = format!("src={}", project.path("other").display());
    let text = "FROM base\nCOPY --from=src . /all/\n\
        RUN --mount=from=src,target=/m find /m -type f | sort > /mounted\nCOPY file /\n";
    project.build(text, &["--build-context", &other]);
    assert_eq!(
        project.sh("cat /mounted; cd /all; find . -type f | sort"),
        "/m/keep\n/m/sub/file\n./keep\n./sub/file\n"
    );
    let said = project.fails(
        "FROM base\nCOPY --from=src a.log /\n",
        &["--build-context", &other],
    );
    assert!(said.contains("\"/a.log\": not found"), "{said}");
}

/// As in BuildKit: the files are the base, and its config is that of `scratch`.
#[test]
fn a_named_directory_can_be_what_a_stage_stands_on() {
    let project = Project::new();
    project.write("root/etc/motd", "hello\n");
    project.write("root/secret", "left out");
    project.write("root/.dockerignore", "secret\n.dockerignore\n");
    mode(&project.path("root/etc/motd"), 0o640);
    let named = format!("top={}", project.path("root").display());
    let flags = ["--build-context", named.as_str()];
    let text = "FROM top AS bare\nFROM top AS more\nCOPY --from=bare / /copy/\n\
        FROM base\nCOPY --from=bare / /bare/\nCOPY --from=more / /more/\n";
    project.build(text, &flags);
    let look = "cd /bare; find . -type f; stat -c '%u:%g %a' etc/motd; cd /more; find . -type f | sort";
    let seen = "./etc/motd\n0:0 640\n./copy/etc/motd\n./etc/motd\n";
    assert_eq!(project.sh(look), seen);
    assert_eq!(project.build(text, &flags).run, [""; 0]);
    assert_eq!(
        project.build(text, &[&flags[..], &["--jobs", "1"]].concat()).run,
        [""; 0]
    );
    // One of its files changed.
    project.write("root/etc/motd", "bye\n");
    project.build(text, &flags);
    assert_eq!(project.sh("cat /bare/etc/motd"), "bye\n");
    let bare = ["--target", "bare"];
    project.build("FROM top AS bare\nLABEL a=b\n", &[&flags[..], &bare].concat());
    let layers = project.image("made", "{{json .RootFS.Layers}}");
    let layers: Vec<String> = serde_json::from_str(&layers).unwrap();
    assert_eq!(layers.len(), 1, "{layers:?}");
    assert_eq!(project.config()["Labels"]["a"], "b");
    project.is_clean();
}
