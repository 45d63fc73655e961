//! Do the commands on networks say what Docker's do, and refuse what it refuses?

use serde_json::Value;

use crate::common::{Bryo, Done, has_id_range};
use crate::serve;

#[test]
fn networks_are_made_listed_inspected_and_removed() {
    let bryo = Bryo::new();
    let id = bryo.ok([
        "network",
        "create",
        "--label",
        "k=v",
        "--subnet",
        "10.93.0.0/24",
        "--gateway",
        "10.93.0.254",
        "--ip-range",
        "10.93.0.128/25",
        "mine",
    ]);
    assert_eq!(id.trim().len(), 64);
    let listed = bryo.ok(["network", "ls"]);
    let mut lines = listed.lines();
    assert_eq!(
        lines.next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]
    );
    let names: Vec<_> = lines
        .map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        names,
        [
            "bridge bridge local",
            "host host local",
            "mine bridge local",
            "none null local"
        ]
    );
    assert_eq!(
        bryo.ok(["network", "ls", "-q", "--no-trunc", "-f", "type=custom"]),
        id
    );
    for (filter, count) in [
        ("label=k", 1),
        ("label=k=w", 0),
        ("name=in", 1),
        ("driver=null", 1),
        ("type=builtin", 3),
        ("dangling=true", 1),
        ("scope=swarm", 0),
    ] {
        assert_eq!(
            bryo.ok(["network", "ls", "-q", "-f", filter]).lines().count(),
            count,
            "{filter}"
        );
    }
    let shown: Value = serde_json::from_str(&bryo.ok(["network", "inspect", "mine"])).unwrap();
    let shown = &shown[0];
    assert_eq!(shown["Id"], id.trim());
    assert_eq!(shown["IPAM"]["Config"][0]["Subnet"], "10.93.0.0/24");
    assert_eq!(shown["IPAM"]["Config"][0]["Gateway"], "10.93.0.254");
    assert_eq!(shown["IPAM"]["Config"][0]["IPRange"], "10.93.0.128/25");
    assert_eq!(shown["Labels"]["k"], "v");
    assert_eq!(
        bryo.ok(["network", "inspect", "-f", "{{.Driver}}", "none"]),
        "null\n"
    );
    let missing = Done::of(&mut bryo.command(["network", "inspect", "far"]));
    assert_eq!(
        (missing.status.code(), missing.stdout.as_str()),
        (Some(1), "[]\n"),
        "{missing}"
    );
    assert_eq!(bryo.ok(["network", "rm", &id[..8]]), format!("{}\n", &id[..8]));
    assert!(
        bryo.fails(1, ["network", "rm", "mine"])
            .contains("network mine not found")
    );
    assert_eq!(bryo.ok(["network", "rm", "-f", "mine"]), "");
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let bryo = Bryo::new();
    bryo.ok(["network", "create", "--subnet", "10.94.0.0/24", "mine"]);
    for (words, why) in [
        (vec!["create", "mine"], "network with name mine already exists"),
        (vec!["create", "host"], "predefined host network"),
        (vec!["create", "a/b"], "invalid network name"),
        (vec!["create", "-d", "overlay", "x"], "the only one is bridge"),
        (
            vec!["create", "-o", "x=y", "x"],
            "network option x=y is not supported",
        ),
        (vec!["create", "--subnet", "10.94.0.128/25", "x"], "Pool overlaps"),
        (
            vec![
                "create",
                "--subnet",
                "10.95.0.0/24",
                "--gateway",
                "10.96.0.1",
                "x",
            ],
            "no matching subnet for gateway",
        ),
        (vec!["create", "--gateway", "10.96.0.1", "x"], "needs a --subnet"),
        (vec!["create", "--subnet", "fd95::/64", "x"], "needs --ipv6"),
        (vec!["create", "--subnet", "nonsense", "x"], "invalid subnet"),
        (vec!["rm", "bridge"], "pre-defined network and cannot be removed"),
        (vec!["connect", "mine", "nobody"], "No such container: nobody"),
        (vec!["connect", "far", "nobody"], "network far not found"),
        (vec!["connect", "host", "nobody"], "predefined host network"),
        (vec!["disconnect", "mine", "nobody"], "No such container: nobody"),
    ] {
        let done = Done::of(bryo.command(["network"]).args(&words));
        assert_eq!(done.status.code(), Some(1), "{words:?}: {done}");
        assert!(
            done.stderr.contains(why) && done.stderr.lines().count() == 1,
            "{words:?}: {done}"
        );
    }
    assert_eq!(
        bryo.ok(["network", "ls", "-q", "-f", "type=custom"])
            .lines()
            .count(),
        1
    );
}

#[test]
fn flags_of_run_are_checked_before_anything_is_made() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["network", "create", "mine"]);
    for (flags, why) in [
        (vec!["--network", "far"], "network far not found"),
        (
            vec!["--network", "mine", "--network", "host"],
            "cannot attach both",
        ),
        (
            vec!["--network", "mine", "--network", "mine"],
            "specified multiple times",
        ),
        (vec!["--network-alias", "x"], "user defined networks"),
        (vec!["--ip", "10.0.0.1"], "user defined networks only"),
        (
            vec!["--network", "name=mine,mac=1"],
            "alias, ip and ip6 work here",
        ),
    ] {
        let done = Done::of(bryo.command(["run"]).args(&flags).args([&image, "true"]));
        assert_eq!(done.status.code(), Some(125), "{flags:?}: {done}");
        assert!(done.stderr.contains(why), "{flags:?}: {done}");
    }
    assert_eq!(bryo.ok(["ps", "-aq"]), "");
}

#[test]
fn containers_of_other_ids_are_refused() {
    let (bryo, image) = Bryo::with_image("busybox");
    bryo.ok(["network", "create", "one"]);
    serve(&bryo, &image, "web", &["--network", "one"]);
    let join = |path: &str| {
        let words = ["run", "--rm", "--network", "one", &image, "true"];
        Done::of(bryo.command(words).env("PATH", path))
    };
    // Nothing maps a range there: one id is left, as a user without a range has anyway.
    let done = join("/nowhere");
    match has_id_range() {
        true => {
            assert_eq!(done.status.code(), Some(125), "{done}");
            assert!(done.stderr.contains("have other id maps"), "{done}");
        }
        false => assert!(done.status.success(), "{done}"),
    }
    assert!(join(&std::env::var("PATH").unwrap()).status.success());
}

#[test]
fn two_makers_at_once_make_one_network() {
    let bryo = Bryo::new();
    let makers: Vec<_> = (0..6)
        .map(|_| {
            let mut command = bryo.command(["network", "create", "mine"]);
            command
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    let made = makers
        .into_iter()
        .filter_map(|maker| maker.wait_with_output().ok());
    assert_eq!(made.filter(|output| output.status.success()).count(), 1);
    assert_eq!(
        bryo.ok(["network", "ls", "-q", "-f", "type=custom"])
            .lines()
            .count(),
        1
    );
}

#[test]
fn what_is_used_stays_and_the_rest_is_pruned() {
    let (bryo, image) = Bryo::with_image("busybox");
    for name in ["used", "left", "kept"] {
        let label = format!("name={name}");
        bryo.ok(["network", "create", "--label", &label, name]);
    }
    serve(&bryo, &image, "web", &["--network", "used"]);
    let id = crate::field(&bryo, "web", "{{.Id}}");
    let line = bryo.fails(1, ["network", "rm", "used"]);
    assert!(
        line.contains(&format!(
            "network used has active endpoints (name:\"web\" id:\"{}\")",
            &id[..12]
        )),
        "{line}"
    );
    assert_eq!(
        bryo.ok(["network", "prune", "-f", "--filter", "label!=name=kept"]),
        "Deleted Networks:\nleft\n\n"
    );
    assert!(
        bryo.ok(["system", "prune", "-f"])
            .contains("Deleted Networks:\nkept\n")
    );
    bryo.ok(["rm", "-f", "web"]);
    assert_eq!(bryo.ok(["network", "rm", "used"]), "used\n");
}
