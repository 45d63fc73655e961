//! Is a registry reached as the user said? Certificates, proxies, plain HTTP and names, in a network of the test's own.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::process::Command;

use common::hostile::{Answer, Blobs, Hostile};
use common::network::{ADDRESS, Certificates, NAME, Names, Proxy, alone, serve_dns, tls};
use common::{Bryo, Done, Mode, Registry, images};

/// The registry of all tests at [`NAME`] and this port.
fn registry(port: u16, tls: &str) -> (Registry, String) {
    let at = format!("{ADDRESS}:{port}");
    let registry = Registry::serve_at(&at, tls, &images().join("registry"), Mode::ReadOnly);
    (registry, format!("{NAME}:{port}/busybox"))
}

/// The command that pulls under these `registries.toml`.
fn pull(bryo: &Bryo, settings: &str, image: &str) -> Command {
    let file = bryo.scratch("registries.toml");
    fs::write(&file, settings).unwrap();
    let mut command = bryo.command(["pull", "-q", image]);
    command.env("BRYO_REGISTRIES", file);
    command
}

#[track_caller]
fn succeeds(command: &mut Command) {
    let done = Done::of(command);
    assert!(done.status.success() && done.stderr.is_empty(), "{done}");
}

/// Expects exit code 1 and one line, and gives it.
#[track_caller]
fn fails(command: &mut Command) -> String {
    let done = Done::of(command);
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert_eq!(done.stderr.lines().count(), 1, "{done}");
    done.stderr
}

const INSECURE: &str = "[[registry]]\nlocation = 'registry.test:5000'\ninsecure = true\n";

#[test]
fn a_certificate_is_believed_that_the_named_authority_signed() {
    alone(
        "a_certificate_is_believed_that_the_named_authority_signed",
        Names::Hosts,
        || {
            let certificates = Certificates::new();
            let (_registry, image) = registry(5000, &tls(&certificates));
            let line = fails(&mut pull(&Bryo::new(), "", &image));
            assert!(
                line.contains("certificate") && line.contains("set SSL_CERT_FILE"),
                "{line}"
            );
            let authority = certificates.file("ca.pem");
            succeeds(pull(&Bryo::new(), "", &image).env("SSL_CERT_FILE", &authority));
            // Its name is part of what it says.
            let by_address = image.replace(NAME, ADDRESS);
            let line = fails(pull(&Bryo::new(), "", &by_address).env("SSL_CERT_FILE", authority));
            assert!(line.contains("certificate"), "{line}");
            succeeds(&mut pull(&Bryo::new(), INSECURE, &image));
            let done = Done::of(pull(&Bryo::new(), "", &image).env("SSL_CERT_FILE", "/nowhere.pem"));
            assert_eq!(done.status.code(), Some(1), "{done}");
            assert!(
                done.stderr.starts_with("bryo: warning: certificate authorities")
                    && done.stderr.contains("/nowhere.pem"),
                "{done}"
            );
        },
    );
}

#[test]
fn a_proxy_is_used_but_for_its_exceptions() {
    alone("a_proxy_is_used_but_for_its_exceptions", Names::Hosts, || {
        let certificates = Certificates::new();
        let (registry, image) = registry(5000, &tls(&certificates));
        let proxy = Proxy::to(registry.address());
        let through = |bryo: &Bryo, image: &str| {
            let mut command = pull(bryo, "", image);
            command
                .env("SSL_CERT_FILE", certificates.file("ca.pem"))
                .env("HTTPS_PROXY", format!("http://{}", proxy.address));
            command
        };
        succeeds(through(&Bryo::new(), &image).env("NO_PROXY", "registry.test"));
        assert_eq!(proxy.asked(), Vec::<String>::new());
        succeeds(&mut through(&Bryo::new(), &image));
        let asked = proxy.asked();
        let is_tunnel = |line: &String| line == "CONNECT registry.test:5000 HTTP/1.1";
        assert!(!asked.is_empty() && asked.iter().all(is_tunnel), "{asked:?}");
        // A certificate does not become good by asking again.
        let line = fails(through(&Bryo::new(), &image).env_remove("SSL_CERT_FILE"));
        assert!(line.contains("certificate"), "{line}");
        assert_eq!(proxy.asked().len(), asked.len() + 1);
    });
}

#[test]
fn plain_http_is_for_registries_that_are_said_to_be_insecure() {
    alone(
        "plain_http_is_for_registries_that_are_said_to_be_insecure",
        Names::Hosts,
        || {
            let (_registry, image) = registry(5000, "");
            let line = fails(&mut pull(&Bryo::new(), "", &image));
            assert!(
                line.contains("cannot reach registry registry.test:5000"),
                "{line}"
            );
            succeeds(&mut pull(&Bryo::new(), INSECURE, &image));
            let bryo = Bryo::new();
            succeeds(pull(&bryo, "", &image).arg("--tls-verify=false"));
            let blocked = "[[registry]]\nlocation = 'registry.test:5000'\nblocked = true\n";
            let line = fails(&mut pull(&bryo, blocked, &image));
            assert!(line.contains("registry registry.test:5000 is blocked"), "{line}");
        },
    );
}

#[test]
fn a_name_is_asked_of_the_servers_in_resolv_conf() {
    alone(
        "a_name_is_asked_of_the_servers_in_resolv_conf",
        Names::Dns,
        || {
            serve_dns();
            let (_registry, image) = registry(5000, "");
            succeeds(&mut pull(&Bryo::new(), INSECURE, &image));
            let line = fails(&mut pull(&Bryo::new(), "", "other.test/image"));
            assert!(line.contains("no such host"), "{line}");
        },
    );
}

#[test]
fn an_insecure_registry_may_give_tokens_over_plain_http_but_is_shown_no_login() {
    alone(
        "an_insecure_registry_may_give_tokens_over_plain_http_but_is_shown_no_login",
        Names::Hosts,
        || {
            let blobs = Blobs::small(10);
            let registry = Hostile::serve_at(&format!("{ADDRESS}:5000"), move |request| {
                if request.path.starts_with("/token") {
                    return Answer::new(200, r#"{"token": "good"}"#);
                }
                if request.header("authorization") == Some("Bearer good") {
                    return blobs.answer(request);
                }
                let challenge = format!("Bearer realm=\"http://{NAME}:5000/token\",service=\"s\"");
                Answer::new(401, "").header("WWW-Authenticate", challenge)
            });
            let image = format!("{NAME}:5000/image");
            succeeds(&mut pull(&Bryo::new(), INSECURE, &image));
            assert_eq!(registry.seen("/token").len(), 1);
            let bryo = Bryo::new();
            let logins = bryo.scratch("auth.json");
            let text = format!(r#"{{"auths": {{"{NAME}:5000": {{"auth": "dXNlcjpzZWNyZXQ="}}}}}}"#);
            fs::write(&logins, text).unwrap();
            let line = fails(pull(&bryo, INSECURE, &image).env("REGISTRY_AUTH_FILE", logins));
            assert!(line.contains("logins are only sent over verified TLS"), "{line}");
            let is_basic = |value: &str| value.starts_with("Basic");
            let seen = registry.seen("");
            assert!(
                !seen
                    .iter()
                    .any(|request| request.header("authorization").is_some_and(is_basic))
            );
        },
    );
}
