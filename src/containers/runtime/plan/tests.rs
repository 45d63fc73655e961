//! Plans of whole Specs.

use super::*;
use crate::host::Subordinate;
use serde_json::{Value, json};

fn host(range: bool) -> Probe {
    let ids: Vec<Subordinate> = range
        .then_some(Subordinate {
            first: 100_000,
            count: 65_536,
        })
        .into_iter()
        .collect();
    let map_tools = Some(["/usr/bin/newuidmap", "/usr/bin/newgidmap"].map(PathBuf::from));
    Probe {
        uid: 1000,
        gid: 1000,
        user: Some("anna".into()),
        subuids: ids.clone(),
        subgids: ids,
        spare_ids: Some(100_000..165_536),
        map_tools,
        cgroup2: true,
        own_proc: true,
    }
}

fn spec(host: &Probe) -> Value {
    let (uids, gids) = host.id_maps().to_spec();
    let kinds = ["user", "mount", "pid", "uts", "ipc", "cgroup", "network"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.0.2", "root": {"path": "/r"}, "hostname": "box", "annotations": {"bryo.seccomp": "default"},
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/"},
        "mounts": [
            {"destination": "/proc", "type": "proc"},
            {"destination": "/dev", "type": "tmpfs"},
            {"destination": "/dev/pts", "type": "devpts", "options": ["gid=5"]},
            {"destination": "/sys", "type": "sysfs", "options": ["nosuid"]}],
        "linux": {"uidMappings": uids, "gidMappings": gids, "namespaces": kinds},
    })
}

fn planned(spec: Value, host: &Probe) -> Result<Plan, PlanError> {
    plan(
        &serde_json::from_value(spec).unwrap(),
        RootSource::Path("/r".into()),
        host,
    )
}

/// Plans the usual Spec with the value at `pointer` replaced.
fn with(pointer: &str, value: Value) -> Result<Plan, PlanError> {
    let mut spec = spec(&host(true));
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    spec.pointer_mut(parent).unwrap()[key] = value;
    planned(spec, &host(true))
}

fn position(plan: &Plan, is: impl Fn(&Step) -> bool) -> usize {
    plan.steps.iter().position(is).unwrap()
}

#[test]
fn nothing_of_the_root_is_touched_before_all_mounts_are_made_and_the_filter_is_last() {
    let plan = planned(spec(&host(true)), &host(true)).unwrap();
    let last_made = plan
        .steps
        .iter()
        .rposition(|step| matches!(step, Step::Make { .. }))
        .unwrap();
    assert!(last_made < position(&plan, |step| matches!(step, Step::Attach { .. })));
    let attached = plan
        .steps
        .iter()
        .rposition(|step| matches!(step, Step::Attach { .. }))
        .unwrap();
    let pivot = position(&plan, |step| *step == Step::Pivot);
    let gate = position(&plan, |step| *step == Step::Gate);
    let user = position(&plan, |step| matches!(step, Step::Identity { .. }));
    let directory = position(&plan, |step| matches!(step, Step::Enter(_)));
    assert!(attached < pivot && pivot < gate && gate < user && user < directory);
    assert!(matches!(plan.steps.last(), Some(Step::Seccomp(_))));
}

#[test]
fn a_filter_keeps_cap_sys_admin_only_without_no_new_privs() {
    let keeps = |plan: &Plan| {
        plan.steps.iter().any(|step| {
            matches!(
                step,
                Step::Capabilities {
                    keep: Keep::SysAdmin,
                    ..
                }
            )
        })
    };
    assert!(keeps(&planned(spec(&host(true)), &host(true)).unwrap()));
    assert!(!keeps(&with("/process/noNewPrivileges", json!(true)).unwrap()));
    assert!(!keeps(&with("/annotations", json!({})).unwrap()));
}

#[test]
fn an_id_that_is_not_mapped_is_refused_with_the_remedy() {
    let mut one = spec(&host(false));
    one["process"]["user"] = json!({"uid": 33, "gid": 0});
    let error = planned(one, &host(false)).unwrap_err().to_string();
    assert!(
        error.contains("user 33") && error.contains("usermod --add-subuids"),
        "{error}"
    );
    assert!(with("/process/user", json!({"uid": 33, "gid": 0})).is_ok());
    assert!(
        with(
            "/process/user",
            json!({"uid": 0, "gid": 0, "additionalGids": [70_000]})
        )
        .is_err()
    );
}

#[test]
fn a_proc_of_other_processes_is_refused_with_the_remedy() {
    let inner = Probe {
        own_proc: false,
        ..host(true)
    };
    let error = planned(spec(&inner), &inner).unwrap_err().to_string();
    assert!(error.contains("systempaths=unconfined"), "{error}");
}

#[test]
fn one_id_has_no_group_for_terminals_and_cannot_set_groups() {
    let grouped = |plan: &Plan| {
        plan.steps.iter().any(|step| matches!(step, Step::Make { source: super::super::step::Source::Filesystem { parameters, .. }, .. }
            if parameters.iter().any(|parameter| parameter.key == "gid")))
    };
    let ranged = planned(spec(&host(true)), &host(true)).unwrap();
    assert!(grouped(&ranged) && !grouped(&planned(spec(&host(false)), &host(false)).unwrap()));
    let fallen = ranged.with_maps(IdMaps::single(1000, 1000)).unwrap();
    assert!(!grouped(&fallen));
    let shut = |plan: &Plan| {
        plan.steps
            .iter()
            .any(|step| matches!(step, Step::Identity { groups: None, .. }))
    };
    let member = json!({"uid": 0, "gid": 0, "additionalGids": [0, 1]});
    let in_groups = with("/process/user", member.clone()).unwrap();
    assert!(!shut(&in_groups) && shut(&in_groups.with_maps(IdMaps::single(1000, 1000)).unwrap()));
    let mut one = spec(&host(false));
    one["process"]["user"] = member;
    assert!(shut(&planned(one.clone(), &host(false)).unwrap()));
    assert!(planned(one.clone(), &host(false)).unwrap().warnings.is_empty());
    one["annotations"]["bryo.groups-asked"] = json!("audio");
    assert!(
        planned(one, &host(false))
            .unwrap()
            .warnings
            .iter()
            .any(|line| line.contains("audio"))
    );
    let other = with("/process/user", json!({"uid": 33, "gid": 33})).unwrap();
    assert!(other.with_maps(IdMaps::single(1000, 1000)).is_none());
}

#[test]
fn the_hosts_sys_is_bound_unwritable_with_the_hosts_network() {
    let kinds = ["user", "mount", "pid"].map(|kind| json!({"type": kind}));
    let mut spec = spec(&host(true));
    spec["linux"]["namespaces"] = json!(kinds);
    spec.as_object_mut().unwrap().remove("hostname");
    let plan = planned(spec, &host(true)).unwrap();
    let bound = plan.steps.iter().find_map(|step| match step {
        Step::Make {
            source: super::super::step::Source::Bind { path, .. },
            attributes,
        } => Some((path.clone(), *attributes)),
        _ => None,
    });
    let (path, attributes) = bound.unwrap();
    assert_eq!(path, Path::new("/sys"));
    assert_eq!(attributes.depth, crate::sys::Depth::Tree);
    assert!(attributes.set & libc::MOUNT_ATTR_RDONLY != 0);
    assert!(!plan.steps.contains(&Step::Loopback));
}

#[test]
fn what_is_not_done_is_refused() {
    for (pointer, value) in [
        ("/linux/namespaces", json!([{"type": "mount"}, {"type": "pid"}])),
        ("/linux/namespaces", json!([{"type": "user"}, {"type": "pid"}])),
        (
            "/mounts",
            json!([{"destination": "/x", "type": "bryo.handed", "source": "/tmp"}]),
        ),
        ("/linux/resources", json!({"pids": {"limit": 5}})),
        ("/linux/sysctl", json!({"kernel.panic": "1"})),
        ("/linux/mountLabel", json!("x")),
        ("/linux/rootfsPropagation", json!("shared")),
        ("/linux/uidMappings", json!([])),
        ("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOTIFY"})),
        ("/process/apparmorProfile", json!("x")),
        ("/process/args", json!([])),
        ("/process/cwd", json!("relative")),
        ("/process/cwd", json!("/a/../b")),
        ("/mounts", json!([{"destination": "/", "type": "tmpfs"}])),
        ("/mounts", json!([{"destination": "/x", "type": "ext4"}])),
        (
            "/mounts",
            json!([{"destination": "/proc", "type": "bind", "source": "/tmp"}]),
        ),
        (
            "/mounts",
            json!([{"destination": "/x", "type": "bind", "source": "/tmp", "options": ["idmap"]}]),
        ),
        (
            "/mounts",
            json!([{"destination": "/x", "type": "bind", "source": "/tmp", "options": ["odd"]}]),
        ),
    ] {
        assert!(with(pointer, value.clone()).is_err(), "{pointer} {value}");
    }
    assert!(with("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"})).is_ok());
}
