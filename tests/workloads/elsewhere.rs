//! Do others take what was built? Each project's image is pushed to a registry; skopeo inspects it there, and podman pulls
//! it and runs it, with the same result.

use std::collections::BTreeSet;

use serde_json::Value;

use super::common::{Done, Podman, Registry, has_id_range, skopeo};
use super::projects::{NAMES, Site, answer, first_image_of, store};

/// What a config says that a user relies on, by the names of its fields.
const RELIED_ON: [&str; 8] = [
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "StopSignal",
    "User",
    "WorkingDir",
];

/// The image of a project, sent to where the layers of its base are already.
#[track_caller]
fn sent(name: &'static str, registry: &Registry) -> String {
    let image = registry.image(&format!("workloads:{name}"));
    store().ok(["tag", &first_image_of(name), &image]);
    store().ok(["push", "-q", &image]);
    inspected(&image);
    image
}

/// What skopeo says of an image in a registry is what Bryo says of its own.
#[track_caller]
fn inspected(image: &str) {
    let ask = |flags: &[&str]| -> Value {
        let place = format!("docker://{image}");
        let words = ["inspect", "--tls-verify=false"].iter().chain(flags);
        let done = skopeo(words.copied().chain([place.as_str()]));
        assert!(done.status.success(), "{done}");
        serde_json::from_str(&done.stdout).unwrap()
    };
    let own: Value = serde_json::from_str(&store().ok(["image", "inspect", image])).unwrap();
    let (own, config) = (&own[0], ask(&["--config", "--raw"]));
    assert_eq!(config["rootfs"]["diff_ids"], own["RootFS"]["Layers"], "{image}");
    for field in RELIED_ON {
        let own = &own["Config"][field];
        let own = if *own == "" { &Value::Null } else { own };
        assert_eq!(config["config"][field], *own, "{image}: {field}");
    }
    let history = config["history"].as_array().unwrap();
    let layers = own["RootFS"]["Layers"].as_array().unwrap().len();
    let with_layer = history.iter().filter(|step| step["empty_layer"] != true);
    assert_eq!(with_layer.count(), layers, "{image}: {history:?}");

    let (summary, manifest) = (ask(&[]), ask(&["--raw"]));
    let digests = |list: &Value| -> BTreeSet<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|layer| layer.get("digest").unwrap_or(layer).as_str().unwrap().into())
            .collect()
    };
    assert_eq!(
        digests(&summary["Layers"]),
        digests(&manifest["layers"]),
        "{image}"
    );
    assert_eq!(manifest["layers"].as_array().unwrap().len(), layers, "{image}");
    assert_eq!(summary["Architecture"], own["Architecture"], "{image}");
}

/// What podman's container wrote.
#[track_caller]
fn said(podman: &Podman, words: &[&str]) -> String {
    let done = Done::of(&mut podman.run(words));
    assert!(done.status.success(), "{done}");
    done.stdout
}

#[test]
fn podman_and_skopeo_take_what_was_built() {
    let registry = Registry::above_shared();
    let [python, node, cpp, rust, site] = NAMES.map(|name| sent(name, &registry));
    if !has_id_range() {
        println!("podman did not run them: it cannot unpack images with one id");
        return;
    }
    let podman = Podman::on_overlay(store());
    for image in [&python, &node, &cpp, &rust, &site] {
        podman.pull(image);
    }
    let answered = answer(&mut podman.run(&[&python]), "/podman");
    assert!(
        answered.ends_with("\r\n\r\nhello from a wheel, podman\n"),
        "{answered}"
    );
    let answered = answer(&mut podman.run(&[&node]), "/podman");
    assert!(
        answered.ends_with("\r\n\r\nhello from a package, podman\n"),
        "{answered}"
    );
    assert_eq!(said(&podman, &[&cpp]), "2 3 5 7 \n");
    assert_eq!(said(&podman, &[&cpp, "20"]), "2 3 5 7 11 13 17 19 \n");
    assert_eq!(said(&podman, &[&rust, "one", "two three"]), "3 words\n");
    let socket = Site::start(&store().scratch("podman-socket"), |volume| {
        podman.run(&["--name", "site", "-v", volume, &site])
    });
    assert!(
        socket
            .get("/about.html")
            .ends_with("\r\n\r\n<title>about us</title>\n")
    );
    let stopped = Done::of(podman.command().args(["stop", "site"]));
    assert!(stopped.status.success(), "{stopped}");
    socket.ends_well();
}
