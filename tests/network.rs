//! Is a registry reached as the user said? Certificates, proxies, plain HTTP and names, in a network of the test's own.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::process::Command;

use common::hostile::{Answer, Blobs, Hostile, Request};
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

/// As a tunnel only, it would be refused by proxies that know no TLS at port 5000, which is most of them.
#[test]
fn plain_http_goes_through_a_proxy_with_its_whole_url() {
    alone(
        "plain_http_goes_through_a_proxy_with_its_whole_url",
        Names::Hosts,
        || {
            let (registry, image) = registry(5000, "");
            let proxy = Proxy::to(registry.address());
            let through = |bryo: &Bryo| {
                let mut command = pull(bryo, INSECURE, &image);
                command.env("HTTP_PROXY", format!("http://{}", proxy.address));
                command
            };
            succeeds(through(&Bryo::new()).env("NO_PROXY", "registry.test:5000"));
            assert_eq!(proxy.asked(), Vec::<String>::new());
            let bryo = Bryo::new();
            succeeds(&mut through(&bryo));
            let asked = proxy.asked();
            let is_whole = |line: &String| line.starts_with("GET http://registry.test:5000/v2/busybox/");
            assert!(asked.len() >= 3 && asked.iter().all(is_whole), "{asked:?}");
            assert!(bryo.ok(["store", "check"]).ends_with(": all whole\n"));
        },
    );
}

/// A proxy that is spoken to over TLS proves its name, whatever the registry behind it is believed.
#[test]
fn plain_http_goes_through_a_proxy_of_tls_with_its_whole_url() {
    alone(
        "plain_http_goes_through_a_proxy_of_tls_with_its_whole_url",
        Names::Hosts,
        || {
            let certificates = Certificates::new();
            let (pem, key) = (certificates.file("server.pem"), certificates.file("server.key"));
            let blobs = Blobs::small(10);
            let proxy =
                Hostile::serve_tls(
                    &format!("{ADDRESS}:5002"),
                    &pem,
                    &key,
                    move |request| match request.header("proxy-authorization") {
                        Some(PROXY_LOGIN) => blobs.answer(request),
                        _ => Answer::new(407, ""),
                    },
                );
            // Nobody listens at the registry's own port.
            let image = format!("{NAME}:5000/image");
            let through = |bryo: &Bryo, at: &str| {
                let mut command = pull(bryo, INSECURE, &image);
                command
                    .env("SSL_CERT_FILE", certificates.file("ca.pem"))
                    .env("HTTP_PROXY", format!("https://proxy%40login:s3cret%3A@{at}:5002"));
                command
            };
            let bryo = Bryo::new();
            succeeds(&mut through(&bryo, NAME));
            let seen = proxy.seen("");
            let whole = "http://registry.test:5000/v2/image/";
            assert!(
                seen.len() >= 3 && seen.iter().all(|one| one.path.starts_with(whole)),
                "{seen:?}"
            );
            assert!(bryo.ok(["store", "check"]).ends_with(": all whole\n"));
            let line = fails(through(&Bryo::new(), NAME).env_remove("SSL_CERT_FILE"));
            assert!(line.contains("certificate"), "{line}");
            let line = fails(&mut through(&Bryo::new(), ADDRESS));
            assert!(line.contains("certificate") && !line.contains("s3cret"), "{line}");
        },
    );
}

/// Nor does an insecure registry make a proxy so that opens a tunnel to it: whoever stands in for it is shown nothing.
#[test]
fn a_proxy_of_tls_that_opens_tunnels_proves_its_name() {
    alone(
        "a_proxy_of_tls_that_opens_tunnels_proves_its_name",
        Names::Hosts,
        || {
            let certificates = Certificates::new();
            let (pem, key) = (certificates.file("server.pem"), certificates.file("server.key"));
            let proxy = Hostile::serve_tls(&format!("{ADDRESS}:5002"), &pem, &key, |_| Answer::new(502, ""));
            let image = format!("{NAME}:5000/image");
            let through = |bryo: &Bryo| {
                let mut command = pull(bryo, INSECURE, &image);
                command.env(
                    "HTTPS_PROXY",
                    format!("https://proxy%40login:s3cret%3A@{NAME}:5002"),
                );
                command
            };
            fails(&mut through(&Bryo::new()));
            assert_eq!(proxy.seen("").len(), 0);
            fails(through(&Bryo::new()).env("SSL_CERT_FILE", certificates.file("ca.pem")));
            let seen = proxy.seen("");
            let is_tunnel = |one: &Request| one.path == "registry.test:5000";
            assert!(!seen.is_empty() && seen.iter().all(is_tunnel), "{seen:?}");
        },
    );
}

/// A registry of TLS and one of plain HTTP: the variable of each one's proxy, registries.toml, its image.
fn both(certificates: &Certificates) -> [(&'static str, String, String, Registry); 2] {
    let (secure, image) = registry(5000, &tls(certificates));
    let (plain, plain_image) = registry(5001, "");
    let insecure = INSECURE.replace("5000", "5001");
    [
        ("HTTPS_PROXY", String::new(), image, secure),
        ("HTTP_PROXY", insecure, plain_image, plain),
    ]
}

/// `proxy@login` with the password `s3cret:`.
const PROXY_LOGIN: &str = "Basic cHJveHlAbG9naW46czNjcmV0Og==";

#[test]
fn a_proxy_is_shown_its_login() {
    alone("a_proxy_is_shown_its_login", Names::Hosts, || {
        let certificates = Certificates::new();
        for (variable, settings, image, registry) in &both(&certificates) {
            let target = registry.address();
            let proxy = Proxy::with_login(target, PROXY_LOGIN);
            let through = |bryo: &Bryo, login: &str| {
                let mut command = pull(bryo, settings, image);
                command
                    .env("SSL_CERT_FILE", certificates.file("ca.pem"))
                    .env(variable, format!("http://{login}{}", proxy.address));
                command
            };
            succeeds(&mut through(&Bryo::new(), "proxy%40login:s3cret%3A@"));
            let bryo = Bryo::new();
            for login in ["", "proxy:s3cret@"] {
                let line = fails(&mut through(&bryo, login));
                assert!(line.contains("407") && !line.contains("s3cret"), "{line}");
            }
        }
    });
}

#[test]
fn a_proxy_that_is_not_there_is_named() {
    alone("a_proxy_that_is_not_there_is_named", Names::Hosts, || {
        let certificates = Certificates::new();
        for (variable, settings, image, _registry) in &both(&certificates) {
            for proxy in ["10.77.0.1:9", "no-proxy.invalid:3128"] {
                let line = fails(
                    pull(&Bryo::new(), settings, image)
                        .env("SSL_CERT_FILE", certificates.file("ca.pem"))
                        .env(variable, format!("http://user:s3cret@{proxy}")),
                );
                assert!(
                    line.contains(&format!("through the proxy {proxy}: ")) && line.contains("HTTP_PROXY"),
                    "{line}"
                );
                assert!(!line.contains("s3cret"), "{line}");
            }
        }
    });
}

#[test]
fn a_proxy_that_is_not_there_is_named_for_a_file_by_url() {
    alone(
        "a_proxy_that_is_not_there_is_named_for_a_file_by_url",
        Names::Hosts,
        || {
            for (variable, scheme) in [("HTTPS_PROXY", "https"), ("HTTP_PROXY", "http")] {
                let bryo = Bryo::new();
                let context = bryo.scratch("context");
                fs::create_dir(&context).unwrap();
                let url = format!("{scheme}://{NAME}:5000/file");
                fs::write(context.join("Dockerfile"), format!("FROM scratch\nADD {url} /\n")).unwrap();
                let mut command = bryo.command(["build", "-q"]);
                command.env(variable, "http://user:s3cret@10.77.0.1:9");
                let done = Done::of(command.arg(&context));
                assert_eq!(done.status.code(), Some(1), "{done}");
                let line = done.stderr.lines().last().unwrap_or_default();
                let wanted = format!("cannot fetch {url} through the proxy 10.77.0.1:9: connection refused");
                assert!(line.contains(&wanted) && line.contains("HTTP_PROXY"), "{line}");
                assert!(!line.contains("s3cret"), "{line}");
            }
        },
    );
}

/// Without a variable that names them, the machine's own are believed.
#[test]
fn the_systems_authorities_are_believed() {
    alone("the_systems_authorities_are_believed", Names::Hosts, || {
        let certificates = Certificates::new();
        let (_registry, image) = registry(5000, &tls(&certificates));
        let plain = || {
            let bryo = Bryo::new();
            let mut command = pull(&bryo, "", &image);
            command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
            (bryo, command)
        };
        let (_bryo, mut command) = plain();
        let line = fails(&mut command);
        assert!(line.contains("certificate"), "{line}");
        let mut mount = Command::new("mount");
        mount.arg("--bind").arg(certificates.file("ca.pem"));
        let done = Done::of(mount.arg("/etc/ssl/certs/ca-certificates.crt"));
        assert!(done.status.success(), "{done}");
        let (_bryo, mut command) = plain();
        succeeds(&mut command);
    });
}

#[test]
fn authorities_are_found_in_directories() {
    alone("authorities_are_found_in_directories", Names::Hosts, || {
        let certificates = Certificates::new();
        let (_registry, image) = registry(5000, &tls(&certificates));
        let bryo = Bryo::new();
        let (with, without) = (bryo.scratch("with"), bryo.scratch("without"));
        for directory in [&with, &without] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("README"), "no certificate\n").unwrap();
        }
        fs::copy(certificates.file("ca.pem"), with.join("ours.crt")).unwrap();
        let both = format!("{}:{}", without.display(), with.display());
        for directories in [with.to_str().unwrap(), &both] {
            succeeds(pull(&Bryo::new(), "", &image).env("SSL_CERT_DIR", directories));
        }
        // Each of the two variables adds to the other.
        let mut command = pull(&bryo, "", &image);
        command.env("SSL_CERT_DIR", &with);
        succeeds(command.env("SSL_CERT_FILE", certificates.file("self.pem")));
        let line = fails(pull(&Bryo::new(), "", &image).env("SSL_CERT_DIR", &without));
        assert!(line.contains("certificate"), "{line}");
        // An empty one is as good as none.
        succeeds(
            pull(&Bryo::new(), "", &image)
                .env("SSL_CERT_DIR", &with)
                .env("SSL_CERT_FILE", ""),
        );
        let line = fails(
            pull(&Bryo::new(), "", &image)
                .env("SSL_CERT_DIR", "")
                .env("SSL_CERT_FILE", ""),
        );
        assert!(line.contains("certificate"), "{line}");
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
fn caches_of_builds_are_reached_as_the_user_said() {
    alone(
        "caches_of_builds_are_reached_as_the_user_said",
        Names::Hosts,
        || {
            let storage = tempfile::tempdir().unwrap();
            let at = format!("{ADDRESS}:5000");
            let _registry = Registry::serve_at(&at, "", storage.path(), Mode::Writable);
            let cache = format!("type=registry,ref={NAME}:5000/cache");
            let build = |flags: &[&str]| {
                let bryo = Bryo::new();
                let context = bryo.scratch("context");
                fs::create_dir(&context).unwrap();
                fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").unwrap();
                Done::of(bryo.command(["build"]).args(flags).arg(&context))
            };
            let done = build(&["--cache-to", &cache]);
            assert_eq!(done.status.code(), Some(1), "{done}");
            assert!(done.stderr.contains("cannot export the cache"), "{done}");
            let done = build(&["--tls-verify=false", "--cache-to", &cache]);
            assert!(done.status.success(), "{done}");
            let done = build(&["--cache-from", &cache]);
            assert!(done.stderr.contains("is not used: "), "{done}");
            let done = build(&["--tls-verify=false", "--cache-from", &cache]);
            assert!(done.stderr.contains(" CACHED\n"), "{done}");
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
            let line = fails(&mut with_login(&bryo, pull(&bryo, INSECURE, &image)));
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

/// A registry over TLS that has its tokens given at `realm`; its certificate is the authority's.
fn with_realm(certificates: &Certificates, realm: &str) -> Hostile {
    let (blobs, realm) = (Blobs::small(10), realm.to_owned());
    let (pem, key) = (certificates.file("server.pem"), certificates.file("server.key"));
    Hostile::serve_tls(
        &format!("{ADDRESS}:5000"),
        &pem,
        &key,
        move |request| match request.header("authorization") {
            Some("Bearer good") => blobs.answer(request),
            _ => {
                let challenge = format!("Bearer realm=\"{realm}\",service=\"s\"");
                Answer::new(401, "").header("WWW-Authenticate", challenge)
            }
        },
    )
}

#[test]
fn a_token_server_may_sign_its_own_certificate_under_an_insecure_registry_only() {
    alone(
        "a_token_server_may_sign_its_own_certificate_under_an_insecure_registry_only",
        Names::Hosts,
        || {
            let certificates = Certificates::new();
            let (pem, key) = (certificates.file("self.pem"), certificates.file("self.key"));
            let tokens = Hostile::serve_tls(&format!("{ADDRESS}:5001"), &pem, &key, |_| {
                Answer::new(200, r#"{"token": "good"}"#)
            });
            let _registry = with_realm(&certificates, &format!("https://{NAME}:5001/token"));
            let image = format!("{NAME}:5000/image");
            let authority = certificates.file("ca.pem");
            let line = fails(pull(&Bryo::new(), "", &image).env("SSL_CERT_FILE", &authority));
            assert!(
                line.contains("registry.test:5001") && line.contains("certificate"),
                "{line}"
            );
            assert_eq!(tokens.seen("").len(), 0);
            succeeds(&mut pull(&Bryo::new(), INSECURE, &image));
            assert_eq!(tokens.seen("/token").len(), 1);
            // That the token server is marked insecure says nothing of the registry that sends there.
            let other = INSECURE.replace("5000", "5001");
            let line = fails(pull(&Bryo::new(), &other, &image).env("SSL_CERT_FILE", &authority));
            assert!(line.contains("certificate"), "{line}");
            assert_eq!(tokens.seen("/token").len(), 1);
        },
    );
}

/// The command that pulls with a login for the registry at port 5000, whose authority is known.
fn logged_in(bryo: &Bryo, certificates: &Certificates, image: &str) -> Command {
    let mut command = with_login(bryo, pull(bryo, "", image));
    command.env("SSL_CERT_FILE", certificates.file("ca.pem"));
    command
}

/// The command, with a login for the registry at port 5000.
fn with_login(bryo: &Bryo, mut command: Command) -> Command {
    let logins = bryo.scratch("auth.json");
    let text = format!(r#"{{"auths": {{"{NAME}:5000": {{"auth": "dXNlcjpzZWNyZXQ="}}}}}}"#);
    fs::write(&logins, text).unwrap();
    command.env("REGISTRY_AUTH_FILE", logins);
    command
}

const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

/// Whoever listens on the way must not come to see the login: CVE-2020-15157 again, one step down.
#[test]
fn a_login_does_not_leave_https() {
    alone("a_login_does_not_leave_https", Names::Hosts, || {
        let certificates = Certificates::new();
        let blobs = Blobs::small(10);
        // Answers all as they wish, so that a client that came would go on.
        let plain = Hostile::serve_at(&format!("{ADDRESS}:5001"), {
            let blobs = blobs.clone();
            move |request| blobs.answer(request)
        });
        let (pem, key) = (certificates.file("server.pem"), certificates.file("server.key"));
        let between = Hostile::serve_tls(&format!("{ADDRESS}:5002"), &pem, &key, |request| {
            let to = format!("http://{NAME}:5001{}", request.path);
            Answer::new(307, "").header("Location", to)
        });
        // The image's name says what is redirected, and where to.
        let registry = Hostile::serve_tls(&format!("{ADDRESS}:5000"), &pem, &key, move |request| {
            let to = |at: &str| Answer::new(307, "").header("Location", format!("{at}{}", request.path));
            match request.header("authorization") {
                None => Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
                Some(_) if request.path.starts_with("/v2/all/") => to(&format!("http://{NAME}:5001")),
                Some(_) if !blobs.is_layer(request) => blobs.answer(request),
                Some(_) if request.path.starts_with("/v2/layer/") => to(&format!("http://{NAME}:5001")),
                Some(_) => to(&format!("https://{NAME}:5002")),
            }
        });
        for image in ["all", "layer", "roundabout"] {
            let image = format!("{NAME}:5000/{image}");
            let line = fails(&mut logged_in(&Bryo::new(), &certificates, &image));
            assert!(line.contains("from HTTPS to plain HTTP"), "{line}");
        }
        let shown = registry.seen("");
        assert!(
            shown
                .iter()
                .any(|request| request.header("authorization") == Some(BASIC))
        );
        let between = between.seen("");
        assert!(between.len() == 1 && between[0].header("authorization").is_none());
        assert_eq!(plain.seen("").len(), 0);
    });
}

#[test]
fn a_login_does_not_go_to_a_token_server_without_tls() {
    alone(
        "a_login_does_not_go_to_a_token_server_without_tls",
        Names::Hosts,
        || {
            let certificates = Certificates::new();
            let tokens = Hostile::serve_at(&format!("{ADDRESS}:5001"), |_| {
                Answer::new(200, r#"{"token": "good"}"#)
            });
            let _registry = with_realm(&certificates, &format!("http://{NAME}:5001/token"));
            let image = format!("{NAME}:5000/image");
            let line = fails(&mut logged_in(&Bryo::new(), &certificates, &image));
            assert!(line.contains("a token server must use HTTPS"), "{line}");
            assert_eq!(tokens.seen("").len(), 0);
        },
    );
}
