//! `RUN --mount` and RUN's other flags.

use bryo::build::dockerfile::{Instruction, Mount, MountError, MountFlag, MountKind, Run, Sharing, expand};

use super::step;

fn run(text: &str) -> Run {
    match step(text) {
        Instruction::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn flag(text: &str) -> MountFlag {
    run(&format!("RUN --mount={text} x")).mounts.remove(0)
}

/// With `V` = 1000 and `DIR` = /d.
fn resolved(text: &str) -> Result<Mount, MountError> {
    flag(text).resolve(&|word| {
        expand(word, '\\', &|name| match name {
            "V" => Some("1000".to_owned()),
            "DIR" => Some("/d".to_owned()),
            _ => None,
        })
    })
}

/// `instructions/commands_runmount.go` and the reference, "RUN --mount".
#[test]
fn keys() {
    let plain = Mount {
        kind: MountKind::Bind,
        target: Some("/t".into()),
        source: None,
        from: None,
        id: None,
        env: None,
        readonly: true,
        sharing: Sharing::Shared,
        required: false,
        uid: None,
        gid: None,
        mode: None,
        size: None,
    };
    let cache = Mount {
        kind: MountKind::Cache,
        readonly: false,
        ..plain.clone()
    };
    let secret = Mount {
        kind: MountKind::Secret,
        target: None,
        id: Some("s".into()),
        ..plain.clone()
    };
    let tmpfs = Mount {
        kind: MountKind::Tmpfs,
        readonly: false,
        ..plain.clone()
    };
    let ssh = Mount {
        kind: MountKind::Ssh,
        target: None,
        ..plain.clone()
    };
    let table = [
        ("target=/t", plain.clone()),
        ("type=bind,dst=/t", plain.clone()),
        ("TYPE=BIND,Destination=/t", plain.clone()),
        (
            "target=/t,rw",
            Mount {
                readonly: false,
                ..plain.clone()
            },
        ),
        (
            "target=/t,readwrite=true",
            Mount {
                readonly: false,
                ..plain.clone()
            },
        ),
        (
            "target=/t,ro=false",
            Mount {
                readonly: false,
                ..plain.clone()
            },
        ),
        (
            "target=/t,from=build,source=/x",
            Mount {
                from: Some("build".into()),
                source: Some("/x".into()),
                ..plain.clone()
            },
        ),
        (
            "target=/t,from=build,src=/x,from=",
            Mount {
                source: Some("/x".into()),
                ..plain.clone()
            },
        ),
        ("type=cache,target=/t", cache.clone()),
        (
            "type=cache,target=/t,ro",
            Mount {
                readonly: true,
                ..cache.clone()
            },
        ),
        (
            "type=cache,target=/t,sharing=locked,id=x",
            Mount {
                sharing: Sharing::Locked,
                id: Some("x".into()),
                ..cache.clone()
            },
        ),
        (
            "type=cache,target=/t,sharing=Private",
            Mount {
                sharing: Sharing::Private,
                ..cache.clone()
            },
        ),
        (
            "type=cache,target=$DIR,uid=$V,gid=${V},mode=0755",
            Mount {
                target: Some("/d".into()),
                uid: Some(1000),
                gid: Some(1000),
                mode: Some(0o755),
                ..cache.clone()
            },
        ),
        ("type=tmpfs,target=/t", tmpfs.clone()),
        (
            "type=tmpfs,target=/t,size=64m",
            Mount {
                size: Some(64 << 20),
                ..tmpfs.clone()
            },
        ),
        ("type=secret,id=s", secret.clone()),
        (
            "type=secret,id=s,required",
            Mount {
                required: true,
                ..secret.clone()
            },
        ),
        ("type=secret,id=s,required=false", secret.clone()),
        (
            "type=secret,id=s,env=TOKEN",
            Mount {
                env: Some("TOKEN".into()),
                ..secret.clone()
            },
        ),
        (
            "type=secret,id=s,target=/t,mode=0400",
            Mount {
                target: Some("/t".into()),
                mode: Some(0o400),
                ..secret.clone()
            },
        ),
        (
            "type=secret,src=s",
            Mount {
                id: None,
                source: Some("s".into()),
                ..secret.clone()
            },
        ),
        ("type=ssh", ssh.clone()),
        (
            "type=ssh,id=default,required=true",
            Mount {
                id: Some("default".into()),
                required: true,
                ..ssh.clone()
            },
        ),
        // Comma-separated values: a field in quotes may hold commas. The flag's own quotes need escapes.
        (
            "\\\"target=/t\\\",\\\"source=a,b\\\"",
            Mount {
                source: Some("a,b".into()),
                ..plain.clone()
            },
        ),
    ];
    for (text, expected) in table {
        assert_eq!(resolved(text), Ok(expected), "{text}");
    }
}

/// What has variables is known only when they are.
#[test]
fn variables_are_checked_late() {
    for text in [
        "type=cache,target=/t,uid=$DIR",
        "type=$V,target=/t",
        "target=/t,$V",
        "target=${V?}${W?}",
    ] {
        assert!(resolved(text).is_err(), "{text}");
    }
}

/// Stages are ordered by it, before anything is expanded.
#[test]
fn from_is_known_at_once() {
    assert_eq!(flag("from=build,target=$DIR").from.as_deref(), Some("build"));
    assert_eq!(flag("target=$DIR").from, None);
}

/// The reference, "RUN --network", "--security", "--device".
#[test]
fn other_flags() {
    let found = run(
        "RUN --network=none --security=insecure --device=vendor/x --mount=type=ssh --mount=type=tmpfs,target=/t a",
    );
    assert_eq!(
        (found.network.as_deref(), found.security.as_deref()),
        (Some("none"), Some("insecure"))
    );
    assert_eq!(
        (found.devices, found.mounts.len()),
        (vec!["vendor/x".to_owned()], 2)
    );
    let found = run("RUN a --network=none");
    assert_eq!(
        (found.network.clone(), found.script().as_deref()),
        (None, Some("a --network=none"))
    );
}
