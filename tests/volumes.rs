//! Volumes as a user has them: made, filled from the image once, kept over containers, shared, removed.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Stdio;

use common::{Bryo, Done, Project, field, has_id_range, lister_directory, until};
use serde_json::{Value, json};

/// An image `made` with a VOLUME /data: of a service's user, with links, a fifo, an empty and a sparse file.
fn service() -> Project {
    let project = Project::new();
    project.write("data/file", "from the image\n");
    project.write("data/sub/deeper", "deep\n");
    fs::set_permissions(project.path("data/sub"), fs::Permissions::from_mode(0o750)).unwrap();
    let text = "FROM base\nCOPY --chown=999:998 data /data\nCOPY --chown=999:998 --chmod=4755 data/file /data/setuid\n\
                RUN ln /data/file /data/hard; ln -s /etc/passwd /data/link; mkfifo /data/fifo; : > /data/empty; \
                truncate -s 5M /data/sparse; touch -d @1000000000 /data/empty; mkdir /bare; echo x > /plain; \
                ln -s /data /way\nVOLUME /data\n";
    project.build(text, &[]);
    project
}

fn volumes(bryo: &Bryo) -> Vec<String> {
    bryo.ok(["volume", "ls", "-q"])
        .lines()
        .map(String::from)
        .collect()
}

fn json_of(bryo: &Bryo, args: &[&str]) -> Value {
    serde_json::from_str(&bryo.ok(args)).unwrap()
}

/// Runs a shell script in a container of `made` with these flags; gives standard output.
#[track_caller]
fn sh(bryo: &Bryo, flags: &[&str], script: &str) -> String {
    let words = [&["run", "--rm"], flags, &["made", "sh", "-ec", script]].concat();
    bryo.ok(words)
}

#[test]
fn volumes_are_made_listed_inspected_and_removed() {
    let bryo = Bryo::new();
    assert_eq!(bryo.ok(["volume", "ls"]), "DRIVER    VOLUME NAME\n");
    let made = bryo.ok(["volume", "create", "--label", "a=b", "--label", "c", "data"]);
    assert_eq!(made, "data\n");
    assert_eq!(
        bryo.ok(["volume", "create", "data"]),
        "data\n",
        "it may be there already"
    );
    let anonymous = bryo.ok(["volume", "create"]).trim_end().to_string();
    assert!(anonymous.len() == 64 && anonymous.bytes().all(|b| b.is_ascii_hexdigit()));
    let found = json_of(&bryo, &["volume", "inspect", "data"]);
    let place = bryo.state().join("volumes/data/_data");
    let created = found[0]["CreatedAt"].clone();
    let expected = json!([{"CreatedAt": created, "Driver": "local", "Labels": {"a": "b", "c": ""}, "Mountpoint": place,
        "Name": "data", "Options": null, "Scope": "local"}]);
    assert_eq!(found, expected);
    assert_eq!(json_of(&bryo, &["inspect", "--type", "volume", "data"]), expected);
    assert!(place.is_dir());
    let filtered = |filter: &str| bryo.ok(["volume", "ls", "-q", "--filter", filter]);
    assert_eq!(filtered("label=a=b"), "data\n");
    assert_eq!(filtered("label=a=x"), "");
    assert_eq!(filtered("name=at"), "data\n");
    assert_eq!(filtered("dangling=true").lines().count(), 2);
    assert_eq!(filtered("dangling=false"), "");
    assert_eq!(
        filtered("label=com.docker.volume.anonymous"),
        format!("{anonymous}\n")
    );
    let said = bryo.ok([
        "volume",
        "ls",
        "--format",
        "{{.Name}} {{.Driver}} {{.Label \"a\"}}",
        "--filter",
        "name=data",
    ]);
    assert_eq!(said, "data local b\n");
    assert_eq!(
        bryo.ok(["volume", "rm", "data", &anonymous]),
        format!("data\n{anonymous}\n")
    );
    assert_eq!(volumes(&bryo), Vec::<String>::new());
    assert!(!place.exists());
    assert!(
        bryo.fails(1, ["volume", "rm", "data"])
            .contains("no such volume: data")
    );
    assert_eq!(bryo.ok(["volume", "rm", "-f", "data"]), "data\n");
    let none = bryo.run(["volume", "inspect", "data"]);
    assert_eq!(
        (none.status.code(), none.stdout.as_str()),
        (Some(1), "[]\n"),
        "{none}"
    );
    assert!(none.stderr.contains("No such volume: data"));
}

#[test]
fn bad_names_drivers_and_options_are_refused_with_a_reason() {
    let bryo = Bryo::new();
    for bad in ["a/b", "..", ".x", "x", ""] {
        let said = bryo.fails(1, ["volume", "create", bad]);
        assert!(said.contains("invalid characters"), "{bad}: {said}");
    }
    assert!(
        bryo.fails(1, ["volume", "create", "-d", "nfs", "vol"])
            .contains("local")
    );
    let said = bryo.fails(
        1,
        ["volume", "create", "-o", "type=nfs", "-o", "device=:/x", "vol"],
    );
    assert!(
        said.contains("an ordinary user can mount tmpfs and bind"),
        "{said}"
    );
    bryo.ok(["volume", "create", "vol"]);
    assert!(
        bryo.fails(1, ["volume", "create", "--label", "a", "vol"])
            .contains("with other labels")
    );
    for bad in ["../volumes/vol", "vol/..", "/"] {
        assert!(
            bryo.fails(1, ["volume", "rm", bad]).contains("no such volume"),
            "{bad}"
        );
    }
    assert_eq!(volumes(&bryo), ["vol"]);
}

#[test]
fn a_new_volume_gets_what_the_image_has_there_once() {
    let project = service();
    let bryo = &project.bryo;
    let list = "cd /data; stat -c '%n %A %u:%g %h %s' . file hard setuid fifo empty sparse sub sub/deeper | sort; \
                readlink link; cat file; stat -c %Y empty";
    // The image's own, without a volume.
    project.build("FROM base\nCOPY --from=made / /\n", &["-t", "without"]);
    let tree = bryo.ok(["run", "--rm", "made", "sh", "-ec", list]);
    let owner = if has_id_range() { "999:998" } else { "0:0" };
    for line in [
        format!(". drwxr-xr-x {owner} "),
        format!("file -rw-r--r-- {owner} 2 15"),
        format!("hard -rw-r--r-- {owner} 2 15"),
        "fifo prw-r--r-- 0:0 1 0".into(),
        "sparse -rw-r--r-- 0:0 1 5242880".into(),
        format!("sub drwxr-x--- {owner} "),
        "/etc/passwd\nfrom the image\n1000000000\n".into(),
    ] {
        assert!(tree.contains(&line), "{line:?} in\n{tree}");
    }
    // Whose owner cannot be kept, has no programs that run as him.
    let setuid = if has_id_range() {
        "setuid -rwsr-xr-x 999:998"
    } else {
        "setuid -rwxr-xr-x 0:0"
    };
    assert!(tree.contains(setuid), "{tree}");
    assert_eq!(
        volumes(bryo),
        Vec::<String>::new(),
        "--rm takes the volume that nobody named"
    );
    // By name, and through a symlink of the image.
    assert_eq!(sh(bryo, &["-v", "named:/data"], list), tree);
    assert_eq!(
        sh(bryo, &["-v", "other:/way"], "cat /data/file /way/file"),
        "from the image\n".repeat(2)
    );
    // It is filled but once: what was changed stays changed.
    sh(
        bryo,
        &["-v", "named:/data"],
        "rm /data/file; echo mine > /data/mine",
    );
    assert_eq!(
        sh(bryo, &["-v", "named:/data"], "ls /data"),
        "empty\nfifo\nhard\nlink\nmine\nsetuid\nsparse\nsub\n"
    );
    // Nor when it is asked not to be, nor where the image has nothing.
    assert_eq!(sh(bryo, &["-v", "none:/data:nocopy"], "ls -A /data"), "");
    let keys = "src=none,dst=/data,volume-nocopy";
    assert_eq!(sh(bryo, &["--mount", keys], "ls -A /data"), "");
    assert_eq!(sh(bryo, &["-v", "bare:/nowhere"], "ls -A /nowhere"), "");
    // An empty one is filled by the first container whose image has something.
    assert_eq!(
        sh(bryo, &["-v", "bare:/data"], "cat /data/file"),
        "from the image\n"
    );
    let said = bryo.fails(125, ["run", "--rm", "-v", "named:/plain", "made", "true"]);
    assert!(said.contains("cannot mount volume over existing file"), "{said}");
}

#[test]
fn what_cannot_be_kept_is_said_once() {
    let project = service();
    let first = project
        .bryo
        .run(["run", "--rm", "-v", "named:/data", "made", "true"]);
    assert!(first.status.success(), "{first}");
    if has_id_range() {
        assert_eq!(first.stderr, "");
    } else {
        assert!(
            first
                .stderr
                .starts_with("bryo: volume named was filled from the image without owners of"),
            "{first}"
        );
        assert_eq!(first.stderr.lines().count(), 1, "{first}");
    }
    assert_eq!(
        project
            .bryo
            .run(["run", "--rm", "-v", "named:/data", "made", "true"])
            .stderr,
        ""
    );
}

#[test]
fn data_outlives_its_containers_and_images() {
    let project = service();
    let bryo = &project.bryo;
    // As a database does: appends and flushes; a user of its own where there is one.
    let user = if has_id_range() { "999:998" } else { "0" };
    let write = "i=0; while [ $i -lt 50 ]; do echo row $i >> /data/table; sync /data/table; i=$((i+1)); done; echo up; sleep 99";
    bryo.ok([
        "run",
        "-d",
        "--name",
        "db",
        "-u",
        user,
        "-v",
        "pgdata:/data",
        "made",
        "sh",
        "-ec",
        write,
    ]);
    until("the table", || bryo.ok(["logs", "db"]).contains("up"));
    let said = bryo.fails(1, ["volume", "rm", "pgdata"]);
    let id = field(bryo, "db", "{{.Id}}");
    assert!(
        said.contains(&format!("remove pgdata: volume is in use - [{id}]")),
        "{said}"
    );
    bryo.ok(["rm", "-f", "-v", "db"]);
    bryo.ok(["rmi", "-f", "made"]);
    bryo.ok(["image", "prune", "-af"]);
    bryo.ok(["volume", "prune", "-f"]);
    fs::remove_dir_all(bryo.dir().join("run")).unwrap();
    let (_, image) = Bryo::with_image("busybox");
    // That registry is gone: the image comes from another store.
    let archive = bryo.scratch("busybox.tar");
    drop(image);
    let (other, image) = Bryo::with_image("busybox");
    other.ok(["save", "-o", archive.to_str().unwrap(), &image]);
    bryo.ok(["load", "-i", archive.to_str().unwrap()]);
    bryo.ok(["tag", &image, "made"]);
    let rows = sh(
        bryo,
        &["-v", "pgdata:/var/lib/data"],
        "wc -l < /var/lib/data/table; stat -c %u:%g /var/lib/data/table",
    );
    let owner = if has_id_range() { "999:998" } else { "0:0" };
    assert_eq!(rows, format!("50\n{owner}\n"));
    bryo.ok(["volume", "rm", "pgdata"]);
    assert!(
        fs::read_dir(bryo.state().join("volumes"))
            .unwrap()
            .next()
            .is_none(),
        "nothing is left, whoever owned it"
    );
}

#[test]
fn volumes_without_a_name_go_with_rm_v_and_prune() {
    let project = service();
    let bryo = &project.bryo;
    let create = |name: &str| {
        bryo.ok([
            "create",
            "--name",
            name,
            "-v",
            "/more",
            "-v",
            "kept:/kept",
            "made",
            "true",
        ])
    };
    create("one");
    assert_eq!(volumes(bryo).len(), 3);
    bryo.ok(["rm", "one"]);
    assert_eq!(volumes(bryo).len(), 3, "rm alone keeps them");
    create("two");
    assert_eq!(volumes(bryo).len(), 5);
    // Those of the first; the second's are in use.
    let said = bryo.ok(["volume", "prune", "-f"]);
    assert!(
        said.starts_with("Deleted Volumes:\n") && said.contains("\n\nTotal reclaimed space: "),
        "{said}"
    );
    assert_eq!(volumes(bryo).len(), 3);
    bryo.ok(["rm", "-v", "two"]);
    assert_eq!(volumes(bryo), ["kept"]);
    let mut ask = bryo.command(["volume", "prune", "-a"]);
    let done = Done::of(ask.stdin(Stdio::null()));
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(
        done.stderr
            .contains("all local volumes not used by at least one container"),
        "{done}"
    );
    bryo.ok(["volume", "prune", "-f"]);
    assert_eq!(volumes(bryo), ["kept"], "a volume with a name needs -a");
    bryo.ok(["volume", "prune", "-af", "--filter", "label=x"]);
    assert_eq!(volumes(bryo), ["kept"]);
    bryo.ok(["volume", "prune", "-af", "--filter", "label!=x"]);
    assert_eq!(volumes(bryo), Vec::<String>::new());
    // A container that never came to be leaves none either.
    bryo.fails(125, ["run", "--rm", "-v", "/a", "-v", "/proc", "made", "true"]);
    bryo.fails(127, ["run", "--rm", "-v", "/a", "made", "no-such-command"]);
    assert_eq!(volumes(bryo), Vec::<String>::new());
}

#[test]
fn volumes_of_another_container_are_shared_and_may_be_read_only() {
    let project = service();
    let bryo = &project.bryo;
    let host = bryo.scratch("host");
    fs::create_dir(&host).unwrap();
    let bind = format!("{}:/host", host.display());
    bryo.ok([
        "create",
        "--name",
        "owner",
        "-v",
        &bind,
        "-v",
        "named:/named",
        "made",
        "true",
    ]);
    let count = volumes(bryo).len();
    sh(
        bryo,
        &["--volumes-from", "owner"],
        "echo a > /data/new; echo b > /host/new; echo c > /named/new",
    );
    assert_eq!(fs::read_to_string(host.join("new")).unwrap(), "b\n");
    let read = "cat /data/new /host/new /named/new; for d in data host named; do touch /$d/x 2>/dev/null && echo $d; done; :";
    assert_eq!(sh(bryo, &["--volumes-from", "owner:ro"], read), "a\nb\nc\n");
    // What is asked for itself comes first.
    assert_eq!(
        sh(
            bryo,
            &["--volumes-from", "owner", "-v", "mine:/named"],
            "ls /named; cat /data/new"
        ),
        "a\n"
    );
    assert_eq!(
        volumes(bryo).len(),
        count + 1,
        "--rm leaves what another container has"
    );
    bryo.fails(125, ["run", "--rm", "--volumes-from", "nobody", "made", "true"]);
    bryo.fails(
        125,
        ["run", "--rm", "--volumes-from", "owner:bogus", "made", "true"],
    );
    // The owner goes first: its volume stays with the one who uses it.
    bryo.ok([
        "create",
        "--name",
        "user",
        "--volumes-from",
        "owner",
        "made",
        "cat",
        "/data/new",
    ]);
    bryo.ok(["rm", "-v", "owner"]);
    assert_eq!(bryo.ok(["start", "-a", "user"]), "a\n");
    bryo.ok(["rm", "-v", "user"]);
    assert_eq!(volumes(bryo), ["mine", "named"]);
}

#[test]
fn inspect_and_ps_show_mounts_in_dockers_shape() {
    let project = service();
    let bryo = &project.bryo;
    let host = bryo.scratch("host");
    fs::create_dir(&host).unwrap();
    let bind = format!("{}:/host:ro", host.display());
    let keys = "type=volume,src=keyed,dst=/keyed,readonly,volume-nocopy";
    bryo.ok([
        "create",
        "--name",
        "box",
        "-v",
        &bind,
        "-v",
        "named:/named",
        "--mount",
        keys,
        "--mount",
        "type=tmpfs,dst=/t",
        "-v",
        "/own",
        "--tmpfs",
        "/mem",
        "made",
        "true",
    ]);
    let shown = &json_of(bryo, &["inspect", "box"])[0];
    let state = bryo.state();
    let data = |name: &str| json!(state.join("volumes").join(name).join("_data"));
    let mounts = shown["Mounts"].as_array().unwrap();
    let at = |place: &str| mounts.iter().find(|mount| mount["Destination"] == place).unwrap();
    assert_eq!(
        at("/host"),
        &json!({"Type": "bind", "Source": host, "Destination": "/host", "Mode": "ro", "RW": false,
        "Propagation": "rprivate"})
    );
    assert_eq!(
        at("/named"),
        &json!({"Type": "volume", "Name": "named", "Source": data("named"), "Destination": "/named",
        "Driver": "local", "Mode": "z", "RW": true, "Propagation": ""})
    );
    assert_eq!(at("/keyed")["RW"], false);
    assert_eq!(
        at("/t"),
        &json!({"Type": "tmpfs", "Source": "", "Destination": "/t", "Mode": "", "RW": true,
        "Propagation": ""})
    );
    for own in ["/own", "/data"] {
        assert_eq!(at(own)["Name"].as_str().unwrap().len(), 64);
        assert_eq!(at(own)["Mode"], "");
    }
    assert_eq!(mounts.len(), 6);
    assert_eq!(shown["HostConfig"]["Binds"], json!([bind, "named:/named"]));
    assert_eq!(
        shown["HostConfig"]["Mounts"],
        json!([
        {"Type": "volume", "Source": "keyed", "Target": "/keyed", "ReadOnly": true, "VolumeOptions": {"NoCopy": true}},
        {"Type": "tmpfs", "Target": "/t"}])
    );
    assert_eq!(shown["HostConfig"]["VolumesFrom"], Value::Null);
    assert_eq!(shown["Config"]["Volumes"], json!({"/own": {}, "/data": {}}));
    let id = field(bryo, "box", "{{.Id}}");
    let ps = |filter: &str| bryo.ok(["ps", "-aq", "--no-trunc", "--filter", &format!("volume={filter}")]);
    for found in ["named", "/named", "/host", host.to_str().unwrap()] {
        assert_eq!(ps(found), format!("{id}\n"), "{found}");
    }
    assert_eq!(ps("name"), "");
    assert_eq!(bryo.ok(["ps", "-a", "--format", "{{.LocalVolumes}}"]), "4\n");
    let names = bryo.ok(["ps", "-a", "--no-trunc", "--format", "{{.Mounts}}"]);
    assert!(
        names.starts_with(&format!("{},named,", host.display())),
        "{names}"
    );
}

#[test]
fn sub_paths_stay_inside() {
    let project = service();
    let bryo = &project.bryo;
    sh(
        bryo,
        &["-v", "vol:/v"],
        "mkdir -p /v/a/b; echo inner > /v/a/b/f; echo one > /v/a/file; \
        ln -s / /v/root; ln -s ../../../.. /v/up; ln -s a/b /v/inside; ln -s /a /v/absolute",
    );
    let with = |path: &str| format!("type=volume,src=vol,dst=/s,volume-subpath={path}");
    assert_eq!(sh(bryo, &["--mount", &with("a/b")], "cat /s/f"), "inner\n");
    assert_eq!(sh(bryo, &["--mount", &with("a/file")], "cat /s"), "one\n");
    assert_eq!(sh(bryo, &["--mount", &with("inside")], "cat /s/f"), "inner\n");
    // Links lead to the volume's own top at most.
    assert_eq!(sh(bryo, &["--mount", &with("absolute")], "cat /s/file"), "one\n");
    for path in ["../../../..", "a/../../.."] {
        let said = bryo.fails(125, ["run", "--rm", "--mount", &with(path), "made", "true"]);
        assert!(said.contains("must not lead out"), "{said}");
    }
    for path in ["root", "up"] {
        assert_eq!(
            sh(bryo, &["--mount", &with(path)], "ls /s"),
            "a\nabsolute\ninside\nroot\nup\n",
            "{path}"
        );
    }
    let said = bryo.fails(125, ["run", "--rm", "--mount", &with("none"), "made", "true"]);
    assert!(said.contains("_data/none: No such file or directory"), "{said}");
    // Somebody swaps the directory for a link to the host's root all the while.
    let swap = "cd /v; mkdir real; ln -s / evil; while :; do mv -T real x; mv -T evil real; mv -T real evil; mv -T x real; done";
    bryo.ok([
        "run", "-d", "--name", "swapper", "-v", "vol:/v", "made", "sh", "-c", swap,
    ]);
    for _ in 0..15 {
        let done = bryo.run([
            "run",
            "--rm",
            "--mount",
            &with("real"),
            "made",
            "sh",
            "-c",
            "ls -A /s",
        ]);
        // Empty, the volume's own top, or not there at the moment.
        assert!(
            !done.stdout.contains("etc") && !done.stdout.contains("proc"),
            "{done}"
        );
    }
    bryo.ok(["rm", "-f", "swapper"]);
}

#[test]
fn an_images_files_are_mounted() {
    let project = service();
    let bryo = &project.bryo;
    project.build(
        "FROM base\nRUN mkdir -p /opt/tool && echo tool > /opt/tool/bin\n",
        &["-t", "tools"],
    );
    let keys = "type=image,source=tools,destination=/tools,image-subpath=opt/tool";
    assert_eq!(
        sh(
            bryo,
            &["--mount", keys],
            "cat /tools/bin; touch /tools/x 2>/dev/null && echo written; :"
        ),
        "tool\n"
    );
    let writable = format!("{keys},rw");
    assert_eq!(
        sh(bryo, &["--mount", &writable], "echo x > /tools/x; ls /tools"),
        "bin\nx\n"
    );
    assert_eq!(
        sh(
            bryo,
            &["--mount", "type=image,source=tools,dst=/tools"],
            "cat /tools/opt/tool/bin"
        ),
        "tool\n"
    );
    assert!(
        fs::read_dir(bryo.state().join("volumes"))
            .unwrap()
            .next()
            .is_none(),
        "the copies are gone"
    );
    bryo.fails(
        125,
        [
            "run",
            "--rm",
            "--mount",
            "type=image,source=none,dst=/x",
            "made",
            "true",
        ],
    );
    bryo.fails(
        125,
        [
            "run",
            "--rm",
            "--mount",
            "type=image,source=tools,dst=/x,image-subpath=no",
            "made",
            "true",
        ],
    );
}

#[test]
fn driver_options_are_memory_and_directories_of_the_host() {
    let project = service();
    let bryo = &project.bryo;
    let host = bryo.scratch("host");
    fs::create_dir(&host).unwrap();
    let device = format!("device={}", host.display());
    bryo.ok([
        "volume",
        "create",
        "-o",
        "type=none",
        "-o",
        "o=bind",
        "-o",
        &device,
        "bound",
    ]);
    sh(bryo, &["-v", "bound:/b"], "echo x > /b/x");
    assert_eq!(fs::read_to_string(host.join("x")).unwrap(), "x\n");
    let memory = bryo.run([
        "volume",
        "create",
        "-o",
        "type=tmpfs",
        "-o",
        "device=tmpfs",
        "-o",
        "o=size=1m,mode=700",
        "mem",
    ]);
    assert!(
        memory.status.success() && memory.stderr.contains("each container has its own memory"),
        "{memory}"
    );
    let said = sh(bryo, &["-v", "mem:/m"], "stat -c %a /m; df -k /m | tail -1");
    assert!(said.starts_with("700\n") && said.contains(" 1024 "), "{said}");
    // As a compose file does it, in one line.
    let keys = "type=volume,dst=/m,src=inline,\"volume-opt=o=size=2m,mode=711\",volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-label=k=v";
    assert_eq!(sh(bryo, &["--mount", keys], "stat -c %a /m"), "711\n");
    let made = &json_of(bryo, &["volume", "inspect", "inline"])[0];
    assert_eq!(made["Labels"], json!({"k": "v"}));
    assert_eq!(
        made["Options"],
        json!({"device": "tmpfs", "o": "size=2m,mode=711", "type": "tmpfs"})
    );
    bryo.ok(["volume", "rm", "bound"]);
    assert!(host.join("x").exists(), "what it showed stays");
}

#[test]
fn owners_are_given_to_the_containers_user_when_asked() {
    let project = service();
    let bryo = &project.bryo;
    let user = if has_id_range() { "123:45" } else { "0:0" };
    let said = sh(
        bryo,
        &["-u", user, "-v", "vol:/data:U"],
        "stat -c %u:%g /data /data/file /data/sub/deeper; stat -L -c %u /data/link",
    );
    assert_eq!(said, format!("{}0\n", format!("{user}\n").repeat(3)));
    // What is his already is left as it is, with the bits that a change of owners takes away.
    sh(bryo, &["-u", user, "-v", "vol:/data"], "chmod 4755 /data/file");
    let again = ["-u", user, "-v", "vol:/data:U"];
    assert_eq!(sh(bryo, &again, "stat -c %a /data/file"), "4755\n");
    let said = bryo.fails(125, ["run", "--rm", "-v", "/tmp:/x:U", "made", "true"]);
    assert!(said.contains("option U"), "{said}");
    bryo.ok([
        "volume",
        "create",
        "-o",
        "type=tmpfs",
        "-o",
        "device=tmpfs",
        "mem",
    ]);
    let said = bryo.fails(125, ["run", "--rm", "-v", "mem:/x:U", "made", "true"]);
    assert!(said.contains("volume mem: option U"), "{said}");
}

#[test]
fn relative_and_missing_directories_of_the_host() {
    let project = service();
    let bryo = &project.bryo;
    let here = bryo.scratch("here");
    fs::create_dir(&here).unwrap();
    let run = |flags: &[&str]| {
        let words = [&["run", "--rm"], flags, &["made", "sh", "-c", "echo x > /h/x"]].concat();
        Done::of(bryo.command(words).current_dir(&here))
    };
    let done = run(&["-v", "./new/dir:/h"]);
    assert!(done.status.success() && here.join("new/dir/x").exists(), "{done}");
    assert_eq!(
        fs::metadata(here.join("new/dir")).unwrap().uid(),
        nix::unistd::getuid().as_raw()
    );
    let done = run(&["--mount", "type=bind,src=./other,dst=/h"]);
    assert_eq!(done.status.code(), Some(125), "{done}");
    assert!(done.stderr.contains("bind source path does not exist"), "{done}");
    assert!(!here.join("other").exists());
    let done = run(&["--mount", "type=bind,src=./other,dst=/h,bind-create-src"]);
    assert!(done.status.success() && here.join("other/x").exists(), "{done}");
    let done = run(&["-v", "a/b:/h"]);
    assert!(
        done.stderr
            .contains("includes invalid characters for a local volume name"),
        "{done}"
    );
}

#[test]
fn everything_that_an_image_can_hold_comes_along() {
    let (bryo, image) = Bryo::with_image("odd");
    let lister = format!("{}:/run:ro", lister_directory());
    let list = |more: &[&str]| {
        let words = [
            &["run", "--rm", "-v", &lister],
            more,
            &[&image, "/run/list-tree", "/odd"],
        ]
        .concat();
        let listing = bryo.ok(words);
        listing.lines().map(String::from).collect::<Vec<_>>()
    };
    let mut tree = list(&[]);
    assert!(tree.len() > 80, "{} paths", tree.len());
    // Device nodes are root's to make; they are counted.
    tree.retain(|line| {
        !["char", "block", "null"]
            .iter()
            .any(|name| line.starts_with(&format!("/kinds/{name}\t")))
    });
    let shown = list(&["-v", "odd:/odd"]);
    let differing: Vec<_> = tree.iter().zip(&shown).filter(|(a, b)| a != b).take(5).collect();
    assert!(
        differing.is_empty() && tree.len() == shown.len(),
        "{} and {}: {differing:#?}",
        tree.len(),
        shown.len()
    );
    let done = bryo.run(["run", "--rm", "-v", "again:/odd", &image, "true"]);
    assert!(done.stderr.contains("3 device nodes"), "{done}");
    // Sparse files stay so, links are links, in the volume itself.
    let inside = "cd /odd; stat -c %b kinds/sparse; stat -c %h links/fifo links/soft";
    let said = bryo.ok(["run", "--rm", "-v", "odd:/odd", &image, "sh", "-c", inside]);
    let blocks: u64 = said.lines().next().unwrap().parse().unwrap();
    assert!(blocks < 300 && said.ends_with("\n2\n2\n"), "{said}");
}

#[test]
fn two_at_once_fill_a_new_volume_once() {
    let project = service();
    let bryo = &project.bryo;
    let lines: String = (0..200_000).map(|number| format!("line {number}\n")).collect();
    project.write("big", &lines);
    project.build(
        "FROM base\nCOPY big /data/a\nCOPY big /data/b\nCOPY big /data/c\n",
        &[],
    );
    let script = "cd /data; cat a b c | wc -l; echo x >> log";
    let start = || {
        let mut command = bryo.command(["run", "--rm", "-v", "new:/data", "made", "sh", "-ec", script]);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let all: Vec<_> = (0..4).map(|_| start()).collect();
    for one in all {
        let done = one.wait_with_output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&done.stdout),
            "600000\n",
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
    assert_eq!(
        sh(bryo, &["-v", "new:/data"], "wc -l < /data/log; ls /data"),
        "4\na\nb\nc\nlog\n"
    );
}

#[test]
fn one_that_runs_sees_what_the_next_fills_in() {
    let project = service();
    let bryo = &project.bryo;
    let wait = "until cat /shared/sub/deeper 2>/dev/null; do sleep 0.05; done";
    bryo.ok([
        "run",
        "-d",
        "--name",
        "first",
        "-v",
        "vol:/shared",
        "base",
        "sh",
        "-c",
        wait,
    ]);
    // The volume is empty still, so this one's image fills it: in place, not in another directory of that name.
    bryo.ok(["run", "--rm", "-v", "vol:/data", "made", "true"]);
    assert_eq!(bryo.ok(["wait", "first"]), "0\n");
    assert_eq!(bryo.ok(["logs", "first"]), "deep\n");
}

#[test]
fn killed_at_any_step_no_volume_is_half_filled() {
    let project = service();
    let bryo = &project.bryo;
    let list = "cd /data; find . | sort; stat -c '%a %u' . file; cat file";
    let whole = sh(bryo, &["-v", "whole:/data"], list);
    bryo.ok(["volume", "rm", "whole"]);
    let create = [
        "create",
        "--name",
        "cc",
        "-v",
        "vol:/data",
        "-v",
        "/own",
        "made",
        "true",
    ];
    for (name, command) in [
        ("create", &create[..]),
        ("rm", &["rm", "-v", "cc"]),
        ("volume", &["volume", "rm", "vol"]),
    ] {
        for step in 1.. {
            if name != "create" {
                bryo.ok(create);
            }
            if name == "volume" {
                bryo.ok(["rm", "-v", "cc"]);
            }
            let done = Done::of(bryo.command(command).env("BRYO_FAILPOINT", step.to_string()));
            let at = format!("{name} killed at step {step}: {done}");
            // A container that is there starts, with all that its volume is to have.
            if bryo.ok(["ps", "-aq"]).lines().count() > 0 {
                bryo.ok(["start", "-a", "cc"]);
                assert_eq!(bryo.run(["volume", "rm", "vol"]).status.code(), Some(1), "{at}");
            }
            assert_eq!(sh(bryo, &["-v", "vol:/data"], list), whole, "{at}");
            bryo.ok(["rm", "-f", "-v", "cc"]);
            bryo.ok(["image", "prune", "-f"]);
            bryo.ok(["volume", "prune", "-af"]);
            let left: Vec<_> = fs::read_dir(bryo.state().join("volumes"))
                .unwrap()
                .flatten()
                .collect();
            assert!(left.is_empty(), "{at}: {left:?}");
            if done.status.success() {
                assert!(
                    step > 3,
                    "{name} has only {step} steps: no failpoints in this build?"
                );
                break;
            }
        }
    }
}

#[test]
fn a_volume_of_a_damaged_container_is_not_pruned() {
    let project = service();
    let bryo = &project.bryo;
    bryo.ok(["create", "--name", "cc", "-v", "vol:/v", "made", "true"]);
    let id = field(bryo, "cc", "{{.Id}}");
    let record = bryo.state().join("containers").join(&id).join("record.json");
    fs::write(record, "{").unwrap();
    for command in [&["volume", "rm", "vol"][..], &["volume", "prune", "-af"]] {
        let said = bryo.fails(1, command);
        assert!(
            said.contains("it cannot be known which volumes are in use"),
            "{said}"
        );
    }
    bryo.ok(["rm", &id]);
    bryo.ok(["volume", "rm", "vol"]);
}

#[test]
fn what_is_mounted_below_a_bind_is_read_only_or_not_as_asked() {
    let (bryo, image) = Bryo::with_image("busybox");
    // /dev has /dev/shm mounted in it, where everybody may write.
    let file = format!("bryo-test-{}", std::process::id());
    let touch = |keys: &str| {
        let script = format!(
            "touch /h/shm/{file} 2>/dev/null && rm /h/shm/{file} && echo written; touch /h/{file} 2>&1"
        );
        let mount = format!("type=bind,src=/dev,dst=/h{keys}");
        bryo.run(["run", "--rm", "--mount", &mount, &image, "sh", "-c", &script])
            .stdout
    };
    assert!(touch(",ro").starts_with("touch: "), "all of it");
    assert!(touch(",ro,bind-recursive=readonly").starts_with("touch: "));
    let top = touch(",ro,bind-recursive=writable");
    assert!(
        top.starts_with("written\n") && top.contains("Read-only file system"),
        "{top}"
    );
}

#[test]
fn an_image_cannot_lead_a_volume_out_of_itself() {
    let project = service();
    let bryo = &project.bryo;
    let text = "FROM base\nRUN rm -rf /home && ln -s ../../../../../etc /home; ln -s /proc/self/root/etc /magic; \
                mkdir -p /real/sub && echo in > /real/sub/f && ln -s real /alias; ln -s loop /loop; echo own > /etc/own\n\
                VOLUME /home\n";
    project.build(text, &[]);
    // A link out of the root leads to the image's own directory.
    let etc = sh(bryo, &[], "ls /etc");
    assert!(etc.contains("own\n") && etc.contains("passwd\n"), "{etc}");
    assert_eq!(
        sh(
            bryo,
            &["-v", "vol:/home"],
            "cat /home/own; ls /home | grep shadow || echo none"
        ),
        "own\nnone\n"
    );
    // What lies below a link is where the link leads.
    assert_eq!(
        sh(
            bryo,
            &["-v", "below:/alias/sub"],
            "cat /real/sub/f; echo x >> /real/sub/f"
        ),
        "in\n"
    );
    assert_eq!(sh(bryo, &["-v", "below:/b"], "cat /b/f"), "in\nx\n");
    assert_eq!(
        sh(bryo, &["-v", "dots:/real/../real/./sub"], "cat /real/sub/f"),
        "in\n"
    );
    for path in ["/magic", "/loop"] {
        let said = bryo.fails(125, ["run", "--rm", "-v", &format!("bad:{path}"), "made", "true"]);
        assert!(said.contains("too many links, or one of /proc"), "{path}: {said}");
    }
    assert_eq!(
        bryo.ok(["run", "--rm", "-v", "bad:/x", "made", "ls", "-A", "/x"]),
        "",
        "nothing came in"
    );
}

#[test]
fn a_tree_of_any_depth_that_a_container_left_goes() {
    let project = service();
    let bryo = &project.bryo;
    // More than a process may have files open, and longer than a path may be.
    let script = "cd /data; c=$(printf 'd/%.0s' $(seq 100)); mkdir top; for i in $(seq 30); do mkdir -p new/$c; \
                  mv top new/${c}top; mv new top; done";
    sh(bryo, &[], script);
    sh(bryo, &["-v", "vol:/data"], script);
    bryo.ok(["volume", "rm", "vol"]);
    sh(bryo, &["-v", "vol:/data"], &format!("{script}; chmod 0 top"));
    bryo.ok(["volume", "rm", "vol"]);
    let left: Vec<_> = fs::read_dir(bryo.state().join("volumes"))
        .unwrap()
        .flatten()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_removed_volume_that_cannot_be_emptied_stops_nothing() {
    let project = service();
    let bryo = &project.bryo;
    bryo.ok(["volume", "create", "vol"]);
    let volumes = bryo.state().join("volumes");
    // A mount or an id that the user has no longer would do the same: here it is a file where a directory is to be.
    fs::write(volumes.join(".gone-0"), "x").unwrap();
    fs::create_dir_all(volumes.join(".gone-1/full")).unwrap();
    fs::create_dir_all(volumes.join("restored/_data")).unwrap();
    fs::write(volumes.join("restored/_data/file"), "x").unwrap();
    fs::write(volumes.join("notes.tar"), "x").unwrap();
    for command in [
        &["image", "prune", "-f"][..],
        &["container", "prune", "-f"],
        &["volume", "prune", "-af"],
    ] {
        let done = bryo.run(command);
        assert!(
            done.status.success() && done.stderr.contains("removed volumes still take room"),
            "{done}"
        );
    }
    project.build("FROM base\nRUN true\n", &[]);
    assert!(!volumes.join(".gone-1").exists() && !volumes.join("vol").exists());
    assert!(volumes.join("restored/_data/file").exists() && volumes.join("notes.tar").exists());
}

#[test]
fn parts_of_volumes_and_those_of_others_are_not_filled() {
    let project = service();
    let bryo = &project.bryo;
    bryo.ok(["volume", "create", "vol"]);
    let data = bryo.state().join("volumes/vol/_data");
    let is_empty = || fs::read_dir(&data).unwrap().next().is_none();
    let part = "type=volume,src=vol,dst=/data,volume-subpath=sub";
    bryo.fails(125, ["run", "--rm", "--mount", part, "made", "true"]);
    assert!(is_empty(), "the image has a /data/sub");
    bryo.ok([
        "create",
        "--name",
        "other",
        "-v",
        "vol:/data:nocopy",
        "made",
        "true",
    ]);
    assert_eq!(sh(bryo, &["--volumes-from", "other"], "ls /data"), "");
    assert!(is_empty(), "it is the other one's");
    bryo.ok(["rm", "other"]);
    fs::write(data.join("app.conf"), "mine\n").unwrap();
    let file = "type=volume,src=vol,dst=/plain,volume-subpath=app.conf";
    assert_eq!(sh(bryo, &["--mount", file], "cat /plain"), "mine\n");
    bryo.ok(["create", "--name", "filed", "--mount", file, "made", "true"]);
    assert_eq!(sh(bryo, &["--volumes-from", "filed"], "cat /plain"), "mine\n");
    let whole = bryo.fails(125, ["run", "--rm", "-v", "vol:/plain", "made", "true"]);
    assert!(whole.contains("file exists"), "{whole}");
}

#[test]
fn a_volume_of_another_container_is_never_made_anew() {
    let project = service();
    let bryo = &project.bryo;
    bryo.ok(["create", "--name", "other", "-v", "vol:/v", "made", "true"]);
    // As if the other one had gone at this moment.
    fs::remove_dir_all(bryo.state().join("volumes/vol")).unwrap();
    let said = bryo.fails(125, ["run", "--rm", "--volumes-from", "other", "made", "true"]);
    assert!(said.contains("no such volume: vol"), "{said}");
    assert!(!bryo.state().join("volumes/vol").exists());
}

#[test]
fn memory_of_another_container_leaves_the_place_to_the_image() {
    let project = service();
    let bryo = &project.bryo;
    bryo.ok(["create", "--name", "other", "--tmpfs", "/data", "made", "true"]);
    bryo.ok([
        "create",
        "--name",
        "cc",
        "--volumes-from",
        "other",
        "made",
        "true",
    ]);
    assert_eq!(
        field(bryo, "cc", "{{range .Mounts}}{{.Type}} {{.Destination}}{{end}}"),
        "volume /data"
    );
}

#[test]
fn a_relative_volume_of_an_image_lies_below_its_root_and_none_in_proc() {
    let project = Project::new();
    project.build("FROM base\nVOLUME rel/dir\n", &[]);
    let bryo = &project.bryo;
    sh(bryo, &[], "grep ' /rel/dir ' /proc/mounts");
    project.build("FROM base\nVOLUME /proc/x /other\n", &[]);
    let said = bryo.fails(125, ["run", "--rm", "made", "true"]);
    assert!(said.contains("below /proc"), "{said}");
    assert_eq!(volumes(bryo), Vec::<String>::new());
}

#[test]
fn a_restored_volume_is_pruned_like_others() {
    let bryo = Bryo::new();
    bryo.ok(["volume", "create", "vol"]);
    let directory = bryo.state().join("volumes/vol");
    fs::remove_file(directory.join("lock")).unwrap();
    let said = bryo.ok(["volume", "prune", "-af"]);
    assert!(said.contains("vol\n") && !directory.exists(), "{said}");
}

#[test]
fn a_large_directory_comes_along_whole() {
    let project = Project::new();
    let text = "FROM base\nRUN mkdir /many && cd /many && for i in $(seq 5000); do : > file-of-some-length-$i; done\n";
    project.build(text, &[]);
    let bryo = &project.bryo;
    assert_eq!(sh(bryo, &["-v", "vol:/many"], "ls /many | wc -l"), "5000\n");
}

#[test]
fn a_prune_goes_on_after_a_volume_that_cannot_go() {
    let bryo = Bryo::new();
    for name in ["aa", "bad", "cc"] {
        bryo.ok(["volume", "create", name]);
    }
    let lock = bryo.state().join("volumes/bad/lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    let done = bryo.run(["volume", "prune", "-af"]);
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(done.stdout.starts_with("Deleted Volumes:\naa\ncc\n\n"), "{done}");
    assert!(done.stderr.contains("volumes/bad/lock"), "{done}");
    assert_eq!(volumes(&bryo), ["bad"]);
}

#[test]
fn records_of_an_older_program_show_their_mounts_and_it_reads_ours() {
    let project = service();
    let bryo = &project.bryo;
    let own = format!("{}:/own:ro", bryo.dir().display());
    let words = [
        "create",
        "--name",
        "cc",
        "-v",
        &own,
        "--mount",
        "type=tmpfs,dst=/mem",
        "--device",
        "/dev/null:/n",
        "made",
        "true",
    ];
    bryo.ok(words);
    let id = field(bryo, "cc", "{{.Id}}");
    let path = bryo.state().join("containers").join(&id).join("record.json");
    let mut record: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let settings = record["settings"].as_object_mut().unwrap();
    // It had this list, and did not read a record without.
    assert_eq!(settings["mount_points"], json!(["/own", "/mem", "/data"]));
    settings.remove("mounts");
    settings["mount_points"] = json!(["/own", "/mem", "/n"]);
    fs::write(&path, record.to_string()).unwrap();
    let shown = "{{range .Mounts}}{{.Type}} {{.Source}} {{.Destination}} {{.RW}}\n{{end}}";
    let mut shown: Vec<String> = field(bryo, "cc", shown).lines().map(String::from).collect();
    shown.sort();
    let expected = [
        format!("bind {} /own false", bryo.dir().display()),
        "tmpfs  /mem true".into(),
    ];
    assert_eq!(shown, expected);
}

#[test]
fn a_killed_containers_copies_go_with_it() {
    let bryo = Bryo::new();
    bryo.ok(["volume", "create", "vol"]);
    let id = "0".repeat(64);
    let [container, copy] = [format!("containers/{id}"), format!("volumes/.image-{id}-0/_data")];
    for place in [&container, &copy] {
        fs::create_dir_all(bryo.state().join(place)).unwrap();
    }
    fs::write(bryo.state().join(&container).join("lock"), "").unwrap();
    fs::write(bryo.state().join(&copy).join("file"), "x").unwrap();
    bryo.ok(["container", "prune", "-f"]);
    let left: Vec<_> = fs::read_dir(bryo.state().join("volumes"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["vol"]);
}

/// What is mounted on the host later is seen inside if that was asked for, and nothing that is mounted inside comes out.
#[test]
fn mounts_of_the_host_come_in_where_a_bind_is_a_slave() {
    common::sandbox::in_own_namespaces("mounts_of_the_host_come_in_where_a_bind_is_a_slave", || {
        let up = std::process::Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(up.unwrap().success());
        let (bryo, image) = Bryo::with_image("busybox");
        let dir = bryo.scratch("dir");
        fs::create_dir_all(dir.join("sub")).unwrap();
        let shell = |script: &str| {
            let mut command = std::process::Command::new("sh");
            let done = common::Done::of(command.args(["-ec", script]).current_dir(&dir));
            assert!(done.status.success(), "{done}");
        };
        shell("mount --bind . .; mount --make-shared \"$PWD\"");
        let dir = dir.display();
        let short = format!("{dir}:/x:rslave");
        let long = format!("type=bind,src={dir},dst=/x,bind-propagation=rslave");
        let usual = format!("{dir}:/x");
        for (name, flags) in [
            ("short", ["-v", &short]),
            ("long", ["--mount", &long]),
            ("usual", ["-v", &usual]),
        ] {
            let run = ["run", "-d", "--network", "none", "--name", name];
            bryo.ok(run.iter().chain(&flags).chain(&[&image[..], "sleep", "1000"]));
        }
        shell(&format!("mount -t tmpfs tmpfs {dir}/sub; touch {dir}/sub/later"));
        for (name, seen) in [("short", "later\n"), ("long", "later\n"), ("usual", "")] {
            assert_eq!(bryo.ok(["exec", name, "ls", "/x/sub"]), seen, "{name}");
        }
        for name in ["short", "long", "usual"] {
            bryo.ok(["rm", "-f", name]);
        }
        shell(&format!("cd /; umount {dir}/sub; umount {dir}"));
    });
}
