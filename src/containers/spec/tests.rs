//! Whole Specs from flags and image configs.

use super::*;

fn image(config: &str) -> ImageConfiguration {
    let text = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[]}},"config":{config}}}"#
    );
    ImageConfiguration::from_reader(text.as_bytes()).unwrap_or_default()
}

fn spec(request: &Request, config: &str) -> Result<Spec, SpecError> {
    let ids = IdMaps::single(1000, 1000);
    let context = Context {
        image: &image(config),
        passwd: "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n",
        group: "adm:x:4:web\n",
        ids: &ids,
        root: Path::new("/state/c/upper"),
        own_files: &[("/state/c/hosts".into(), "/etc/hosts")],
        hostname: "abc",
        devices: &["/dev/fuse".into()],
        has_queues: false,
        masked: &["/sys/devices/system/cpu/cpu0/thermal_throttle".into()],
        seccomp: None,
    };
    build(request, &context)
}

fn process_of(request: &Request, config: &str) -> Process {
    spec(request, config)
        .ok()
        .and_then(|s| s.process().clone())
        .unwrap_or_default()
}

fn args(entrypoint: Option<&str>, command: &[&str], config: &str) -> String {
    let request = Request {
        entrypoint: entrypoint.map(String::from),
        command: command.iter().map(|s| s.to_string()).collect(),
        ..Default::default()
    };
    match arguments(&request, &image(config)) {
        Ok(words) => words.join(" "),
        Err(error) => error.to_string(),
    }
}

#[test]
fn entrypoint_and_command() {
    let both = r#"{"Entrypoint":["e"],"Cmd":["c"]}"#;
    assert_eq!(args(None, &[], both), "e c");
    assert_eq!(args(None, &["x", "y"], both), "e x y");
    assert_eq!(args(Some("/n"), &[], both), "/n");
    assert_eq!(args(Some("/n"), &["x"], both), "/n x");
    assert_eq!(args(Some(""), &["x"], both), "x");
    assert!(args(Some(""), &[], both).starts_with("no command"));
    assert!(args(None, &[], "{}").starts_with("no command"));
    assert_eq!(args(None, &[], r#"{"Cmd":["c"]}"#), "c");
}

#[test]
fn environment_home_and_term() {
    let plain = process_of(
        &Request {
            command: vec!["x".into()],
            ..Default::default()
        },
        "{}",
    );
    let path = env::DEFAULT_PATH.to_string();
    assert_eq!(
        plain.env().clone(),
        Some(vec![path, "HOSTNAME=abc".into(), "HOME=/root".into()])
    );
    let request = Request {
        command: vec!["x".into()],
        env: vec!["HOME=/mine".into()],
        terminal: Some(TerminalSize {
            rows: 24,
            columns: 80,
        }),
        user: Some("web".into()),
        ..Default::default()
    };
    let env = process_of(&request, r#"{"Env":["PATH=/p","A=b"]}"#)
        .env()
        .clone()
        .unwrap_or_default();
    assert_eq!(
        env,
        ["PATH=/p", "HOSTNAME=abc", "TERM=xterm", "HOME=/mine", "A=b"]
    );
}

#[test]
fn user_groups_and_capabilities_belong_together() {
    let request = Request {
        command: vec!["x".into()],
        ..Default::default()
    };
    let web = process_of(&request, r#"{"User":"web"}"#);
    assert_eq!((web.user().uid(), web.user().gid()), (33, 33));
    assert_eq!(web.user().additional_gids().clone(), Some(vec![33, 4]));
    let held = web.capabilities().clone().and_then(|c| c.effective().clone());
    assert_eq!(held.map(|h| h.len()), Some(0));
    let root = Request {
        user: Some("0".into()),
        ..request
    };
    let held = process_of(&root, r#"{"User":"web"}"#)
        .capabilities()
        .clone()
        .and_then(|c| c.effective().clone());
    assert_eq!(held.map(|h| h.len()), Some(14));
}

#[test]
fn workdir_must_be_absolute() {
    let request = |dir: &str| Request {
        command: vec!["x".into()],
        workdir: Some(dir.into()),
        ..Default::default()
    };
    assert_eq!(
        process_of(&request("/w"), r#"{"WorkingDir":"/i"}"#).cwd(),
        Path::new("/w")
    );
    assert_eq!(
        process_of(
            &Request {
                workdir: None,
                ..request("")
            },
            r#"{"WorkingDir":"/i"}"#
        )
        .cwd(),
        Path::new("/i")
    );
    assert!(matches!(spec(&request("w"), "{}"), Err(SpecError::Workdir(_))));
}

#[test]
fn network_decides_namespace_and_sysfs() {
    let of = |network| {
        let request = Request {
            command: vec!["x".into()],
            network,
            ..Default::default()
        };
        let spec = spec(&request, "{}").unwrap_or_default();
        let linux = spec.linux().clone().unwrap_or_default();
        let has = linux
            .namespaces()
            .iter()
            .flatten()
            .any(|n| n.typ() == LinuxNamespaceType::Network);
        let mounts = spec.mounts().clone().unwrap_or_default();
        let sys = mounts
            .iter()
            .find(|m| m.destination() == Path::new("/sys"))
            .and_then(|m| m.typ().clone());
        (has, sys.unwrap_or_default())
    };
    assert_eq!(of(Network::Unasked), (false, "bind".into()));
    assert_eq!(of(Network::Host), (false, "bind".into()));
    assert_eq!(of(Network::None), (true, "sysfs".into()));
}

#[test]
fn privileged_hides_nothing_and_shows_devices() {
    let of = |privileged| {
        let confine = Confine {
            privileged,
            ..Default::default()
        };
        let request = Request {
            command: vec!["x".into()],
            confine,
            ..Default::default()
        };
        let spec = spec(&request, "{}").unwrap_or_default();
        let linux = spec.linux().clone().unwrap_or_default();
        let mounts = spec.mounts().clone().unwrap_or_default();
        let device = mounts.iter().find(|m| m.destination() == Path::new("/dev/fuse"));
        let sorted = |paths: &Option<Vec<String>>| {
            let mut paths = paths.clone().unwrap_or_default();
            paths.sort();
            paths
        };
        (
            device.and_then(|device| device.source().clone()),
            sorted(linux.masked_paths()),
            sorted(linux.readonly_paths()),
        )
    };
    // As moby's `daemon/pkg/oci/defaults.go` has them, and the one of this machine.
    let masked = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/system/cpu/cpu0/thermal_throttle",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ];
    let read_only = [
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger",
    ];
    let strings = |paths: &[&str]| paths.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(of(false), (None, strings(&masked), strings(&read_only)));
    assert_eq!(of(true), (Some("/dev/fuse".into()), Vec::new(), Vec::new()));
}

#[test]
fn a_volume_replaces_our_own_file() {
    let asked = mounts::volume("/mine:/etc/hosts:ro", Path::new("/"));
    let request = Request {
        command: vec!["x".into()],
        mounts: asked.and_then(mounts::Wish::of_host).into_iter().collect(),
        ..Default::default()
    };
    let spec = spec(&request, "{}").unwrap_or_default();
    let hosts: Vec<_> = spec
        .mounts()
        .iter()
        .flatten()
        .filter(|m| m.destination() == Path::new("/etc/hosts"))
        .collect();
    assert_eq!(hosts.len(), 1);
    assert_eq!(hosts[0].source().as_deref(), Some(Path::new("/mine")));
}
