//! Which fields do `volume inspect`, `network inspect` and `image inspect` have? Those of Docker's API, by its documentation.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use common::{Bryo, misfits, until};
use serde_json::Value;

/// The fields of github.com/moby/moby, api/docs/v1.50.yaml (Docker 28.2), with what JSON has for them: s(tring), n(umber),
/// b(oolean), a(rray), o(bject); `?` may be null, as Docker itself has it where nothing is set. Not among them: what only
/// swarms, Windows, plugins or `system df` have, and what is marked as experimental.
const VOLUME: &str = "Name:s Driver:s Mountpoint:s CreatedAt:s Labels:o? Scope:s Options:o?";
const NETWORK: &str = "Name:s Id:s Created:s Scope:s Driver:s EnableIPv4:b EnableIPv6:b IPAM:o IPAM.Driver:s IPAM.Config:a \
    IPAM.Config.0.Subnet:s IPAM.Config.0.IPRange:s IPAM.Config.0.Gateway:s IPAM.Options:o Internal:b Attachable:b Ingress:b \
    ConfigFrom:o ConfigFrom.Network:s ConfigOnly:b Containers:o Options:o Labels:o";
const MEMBER: &str = "Name:s EndpointID:s MacAddress:s IPv4Address:s IPv6Address:s";
const IMAGE: &str = "Id:s RepoTags:a RepoDigests:a Parent:s Comment:s Created:s DockerVersion:s Author:s Config:o \
    Architecture:s Os:s Size:n GraphDriver:o GraphDriver.Name:s GraphDriver.Data:o? RootFS:o RootFS.Type:s RootFS.Layers:a \
    Metadata:o Metadata.LastTagTime:s Config.User:s Config.Env:a Config.Cmd:a? Config.Volumes:o? Config.WorkingDir:s \
    Config.Entrypoint:a? Config.Labels:o? Config.ExposedPorts:o Config.Healthcheck:o Config.Healthcheck.Test:a \
    Config.OnBuild:a Config.Shell:a Config.StopSignal:s";

/// Each field is there, of its type; and at the top there are no others.
#[track_caller]
fn has(object: &Value, fields: &str) {
    let mut wrong = misfits(object, fields);
    let paths = fields
        .split_whitespace()
        .filter_map(|field| field.split(':').next());
    let top: Vec<&str> = paths.collect();
    let more = object.as_object().unwrap().keys();
    wrong.extend(more.filter(|key| !top.contains(&key.as_str())).cloned());
    assert!(wrong.is_empty(), "{wrong:#?} {object:#}");
}

fn inspected(bryo: &Bryo, what: &str, name: &str) -> Value {
    let all: Value = serde_json::from_str(&bryo.ok([what, "inspect", name])).unwrap();
    all[0].clone()
}

#[test]
fn of_a_volume() {
    let bryo = Bryo::new();
    bryo.ok(["volume", "create", "plain"]);
    bryo.ok([
        "volume",
        "create",
        "--label",
        "a=b",
        "-o",
        "type=tmpfs",
        "-o",
        "device=tmpfs",
        "memory",
    ]);
    has(&inspected(&bryo, "volume", "plain"), VOLUME);
    let memory = inspected(&bryo, "volume", "memory");
    has(&memory, VOLUME);
    assert_eq!(memory["Labels"]["a"], "b");
    assert_eq!(memory["Options"]["type"], "tmpfs");
    bryo.ok(["volume", "rm", "plain", "memory"]);
}

#[test]
fn of_a_network() {
    let (bryo, image) = Bryo::with_image("busybox");
    let create = "network create --subnet 10.77.0.0/16 --ip-range 10.77.5.0/24 --label a=b own";
    bryo.ok(create.split(' '));
    bryo.ok([
        "run",
        "-d",
        "--name",
        "one",
        "--network",
        "own",
        &image,
        "sleep",
        "1000",
    ]);
    let network = inspected(&bryo, "network", "own");
    has(&network, NETWORK);
    let members: Vec<&Value> = network["Containers"].as_object().unwrap().values().collect();
    assert_eq!(members.len(), 1);
    has(members[0], MEMBER);
    bryo.ok(["rm", "-f", "one"]);
    until("it is free", || {
        bryo.run(["network", "rm", "own"]).status.success()
    });
    for name in ["bridge", "host", "none"] {
        let fields: Vec<&str> = NETWORK
            .split_whitespace()
            .filter(|field| !field.contains("Config.0"))
            .collect();
        has(&inspected(&bryo, "network", name), &fields.join(" "));
    }
}

#[test]
fn of_an_image() {
    let (bryo, image) = Bryo::with_image("busybox");
    let file = bryo.scratch("Dockerfile");
    let text = format!(
        "FROM {image}\nEXPOSE 80\nHEALTHCHECK CMD true\nONBUILD RUN true\nSHELL [\"/bin/sh\", \"-c\"]\nSTOPSIGNAL SIGINT\n\
         ENV A=b\n"
    );
    std::fs::write(&file, text).unwrap();
    let directory = bryo.dir().to_str().unwrap().to_owned();
    let file = file.to_str().unwrap();
    bryo.ok(["build", "-q", "-t", "made", "-f", file, &directory]);
    has(&inspected(&bryo, "image", "made"), IMAGE);
    // What only some images have, a template may ask of all.
    let template = "{{.Variant}}|{{.OsVersion}}|{{.Config.Healthcheck}}|{{.Config.StopSignal}}";
    bryo.ok(["image", "inspect", "-f", template, &image]);
}
