//! Who is shown a login, and how does a pull come to a token? Anonymously, by password, by identity token, and with
//! credential helpers.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::hostile::{Answer, Blobs, Hostile, Request};
use common::{Bryo, Done};

/// The command that pulls with these logins.
fn with_logins(bryo: &Bryo, logins: &str, image: &str) -> Command {
    let file = bryo.scratch("auth.json");
    fs::write(&file, logins).unwrap();
    let mut command = bryo.command(["pull", "-q", image]);
    command.env("REGISTRY_AUTH_FILE", file);
    command
}

/// The command that pulls with a login for `host`, as `docker login` writes it.
fn logged_in(bryo: &Bryo, host: &str, image: &str) -> Command {
    // user:secret
    let logins = format!(r#"{{"auths": {{"{host}": {{"auth": "dXNlcjpzZWNyZXQ="}}}}}}"#);
    with_logins(bryo, &logins, image)
}

/// A registry that wants the token `good`, and beside it, at `/token`, who gives tokens by what `token` says.
fn with_tokens(token: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> (Hostile, String) {
    let blobs = Blobs::small(10);
    let registry = Hostile::serve(move |request| {
        if request.path.starts_with("/token") {
            return token(request);
        }
        if request.header("authorization") == Some("Bearer good") {
            return blobs.answer(request);
        }
        let own = request.header("host").unwrap();
        let challenge = format!("Bearer realm=\"http://{own}/token\",service=\"s\"");
        Answer::new(401, "").header("WWW-Authenticate", challenge)
    });
    let image = format!("{}/image", registry.address());
    (registry, image)
}

/// Installs a credential helper that answers `answer` and notes in `asked` what it was asked; gives the `PATH` for it.
fn helper(bryo: &Bryo, name: &str, answer: &str) -> String {
    let (script, bin) = (bryo.scratch("script"), bryo.scratch("bin"));
    let text = format!(
        "#!/bin/sh\n{{ echo \"$*\"; cat; }} > '{}'\n{answer}\n",
        bryo.scratch("asked").display()
    );
    fs::write(&script, text).unwrap();
    // By another process: a fork of this one may hold a file of ours open for writing, and it could not be executed.
    let mut install = Command::new("install");
    install
        .args(["-D", "-m", "755"])
        .arg(script)
        .arg(bin.join(format!("docker-credential-{name}")));
    assert!(install.status().unwrap().success());
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
}

const BASIC: &str = "Basic dXNlcjpzZWNyZXQ=";

#[test]
fn a_password_is_shown_to_its_registry_and_never_where_it_redirects() {
    let blobs = Blobs::small(10);
    let elsewhere = Hostile::serve({
        let blobs = blobs.clone();
        move |request| blobs.answer(request)
    });
    let target = elsewhere.address().to_owned();
    let registry = Hostile::serve(move |request| match request.header("authorization") {
        Some(BASIC) if blobs.is_layer(request) => {
            Answer::new(307, "").header("Location", format!("http://{target}{}", request.path))
        }
        Some(BASIC) => blobs.answer(request),
        _ => Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let bryo = Bryo::new();
    let image = format!("{}/image", registry.address());
    let done = Done::of(&mut logged_in(&bryo, registry.address(), &image));
    assert!(done.status.success(), "{done}");
    assert_eq!(elsewhere.seen("/blobs/").len(), 1);
    assert!(
        elsewhere
            .seen("")
            .iter()
            .all(|request| request.header("authorization").is_none())
    );

    let done = Done::of(&mut logged_in(&Bryo::new(), "other.example", &image));
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(
        done.stderr.contains("pull access denied") && done.stderr.contains("no login is saved"),
        "{done}"
    );
}

#[test]
fn where_a_redirect_leads_cannot_ask_for_the_login() {
    let blobs = Blobs::small(10);
    let thief = Hostile::serve(|_| Answer::new(200, r#"{"token": "t"}"#));
    let realm = thief.address().to_owned();
    let elsewhere = Hostile::serve(move |_| {
        let challenge = format!("Bearer realm=\"http://{realm}/token\",service=\"s\"");
        Answer::new(401, "").header("WWW-Authenticate", challenge)
    });
    let target = elsewhere.address().to_owned();
    let registry = Hostile::serve(move |request| match blobs.is_layer(request) {
        true => Answer::new(307, "").header("Location", format!("http://{target}{}", request.path)),
        false => blobs.answer(request),
    });
    let bryo = Bryo::new();
    let image = format!("{}/image", registry.address());
    let done = Done::of(&mut logged_in(&bryo, registry.address(), &image));
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(done.stderr.contains("pull access denied"), "{done}");
    assert!(!elsewhere.seen("").is_empty());
    assert!(thief.seen("").is_empty(), "{:?}", thief.seen(""));
}

#[test]
fn a_login_that_is_refused_again_and_again_ends() {
    let bryo = Bryo::new();
    let registry = Hostile::serve(|_| Answer::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""));
    let image = format!("{}/image", registry.address());
    let done = Done::of(&mut logged_in(&bryo, registry.address(), &image));
    assert_eq!(done.status.code(), Some(1), "{done}");
    assert!(done.stderr.contains("pull access denied"), "{done}");
    assert!(registry.seen("").len() < 5);
}

#[test]
fn tokens_are_fetched_and_renewed_when_they_expire() {
    let blobs = Blobs::small(10);
    let tokens = AtomicUsize::new(0);
    let address = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let realm = address.clone();
    let registry = Hostile::serve(move |request| {
        if request.path.starts_with("/token") {
            assert!(
                request.path.contains("scope=repository:image:pull"),
                "{request:?}"
            );
            let number = tokens.fetch_add(1, Ordering::SeqCst) + 1;
            return Answer::new(200, format!(r#"{{"token": "token-{number}"}}"#));
        }
        // The manifest takes the first token; later it has expired.
        let good = if request.path.contains("/manifests/") {
            "Bearer token-1"
        } else {
            "Bearer token-2"
        };
        if request.header("authorization") == Some(good) {
            return blobs.answer(request);
        }
        let challenge = format!(
            "Bearer realm=\"http://{}/token\",service=\"s\"",
            realm.get().unwrap()
        );
        Answer::new(401, "").header("WWW-Authenticate", challenge)
    });
    address.set(registry.address().to_owned()).unwrap();
    let image = format!("{}/image", registry.address());
    let bryo = Bryo::new();
    let done = Done::of(&mut logged_in(&bryo, registry.address(), &image));
    assert!(done.status.success(), "{done}");
    let asked = registry.seen("/token");
    assert_eq!(asked.len(), 2);
    assert!(
        asked
            .iter()
            .all(|request| request.header("authorization") == Some(BASIC))
    );
}

#[test]
fn without_a_login_a_token_is_asked_for_anonymously() {
    let (registry, image) = with_tokens(|_| Answer::new(200, r#"{"token": "good"}"#));
    let bryo = Bryo::new();
    let mut command = bryo.command(["pull", "-q", &image]);
    for name in [
        "REGISTRY_AUTH_FILE",
        "DOCKER_CONFIG",
        "XDG_CONFIG_HOME",
        "XDG_RUNTIME_DIR",
    ] {
        command.env_remove(name);
    }
    let done = Done::of(command.env("HOME", bryo.dir()));
    assert!(done.status.success(), "{done}");
    let asked = registry.seen("/token");
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].header("authorization"), None);
    assert_eq!(asked[0].path, "/token?service=s&scope=repository:image:pull");
}

#[test]
fn an_identity_token_is_exchanged_for_one_of_the_registry() {
    let (registry, image) = with_tokens(|request| match request.method.as_str() {
        "POST" => Answer::new(200, r#"{"access_token": "good"}"#),
        _ => Answer::new(400, ""),
    });
    let logins = format!(
        r#"{{"auths": {{"{}": {{"identitytoken": "an identity&"}}}}}}"#,
        registry.address()
    );
    let done = Done::of(&mut with_logins(&Bryo::new(), &logins, &image));
    assert!(done.status.success(), "{done}");
    let asked = registry.seen("/token");
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].header("authorization"), None);
    let fields: Vec<_> = asked[0].body.split('&').collect();
    assert_eq!(
        fields,
        [
            "grant_type=refresh_token",
            "client_id=bryo",
            "refresh_token=an+identity%26",
            "scope=repository%3Aimage%3Apull",
            "service=s",
        ]
    );
}

#[test]
fn a_credential_helper_is_asked_for_the_registry() {
    let (registry, image) = with_tokens(|request| match request.header("authorization") {
        Some(BASIC) => Answer::new(200, r#"{"token": "good"}"#),
        _ => Answer::new(401, ""),
    });
    for logins in [
        format!(r#"{{"credHelpers": {{"{}": "fake"}}}}"#, registry.address()),
        r#"{"credsStore": "fake"}"#.into(),
    ] {
        let bryo = Bryo::new();
        let path = helper(
            &bryo,
            "fake",
            r#"echo '{"Username": "user", "Secret": "secret"}'"#,
        );
        let done = Done::of(with_logins(&bryo, &logins, &image).env("PATH", path));
        assert!(done.status.success(), "{done}");
        let asked = fs::read_to_string(bryo.scratch("asked")).unwrap();
        assert_eq!(asked, format!("get\n{}", registry.address()));
    }
}

#[test]
fn a_credential_helper_may_keep_an_identity_token() {
    let (registry, image) = with_tokens(|request| match request.body.contains("refresh_token=kept") {
        true => Answer::new(200, r#"{"access_token": "good"}"#),
        false => Answer::new(401, ""),
    });
    let bryo = Bryo::new();
    let path = helper(
        &bryo,
        "fake",
        r#"echo '{"Username": "<token>", "Secret": "kept"}'"#,
    );
    let done = Done::of(with_logins(&bryo, r#"{"credsStore": "fake"}"#, &image).env("PATH", path));
    assert!(done.status.success(), "{done}");
    assert_eq!(registry.seen("/token").len(), 1);
}

#[test]
fn a_credential_helper_that_knows_nothing_or_is_missing_keeps_nobody_from_public_images() {
    let (registry, image) = with_tokens(|request| match request.header("authorization") {
        None => Answer::new(200, r#"{"token": "good"}"#),
        Some(_) => Answer::new(401, ""),
    });
    let bryo = Bryo::new();
    let path = helper(
        &bryo,
        "empty",
        "echo 'credentials not found in native keychain'; exit 1",
    );
    let done = Done::of(with_logins(&bryo, r#"{"credsStore": "empty"}"#, &image).env("PATH", path));
    assert!(
        done.status.success() && done.stderr.is_empty() && bryo.scratch("asked").exists(),
        "{done}"
    );
    // A directory that may not be looked into (root's, left in an environment) hides nothing else.
    let (bryo, locked) = (Bryo::new(), bryo.scratch("locked"));
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    let path = format!("{}:/usr/bin", locked.display());
    let done = Done::of(with_logins(&bryo, r#"{"credsStore": "missing"}"#, &image).env("PATH", path));
    assert!(done.status.success(), "{done}");
    let line = format!(
        "bryo: warning: docker-credential-missing is not installed: going on without a login for {}\n",
        registry.address()
    );
    assert_eq!(done.stderr, line);
    assert_eq!(registry.seen("/token").len(), 2);
}

#[test]
fn a_credential_helper_that_fails_is_named_with_its_words() {
    let (registry, image) = with_tokens(|_| Answer::new(200, r#"{"token": "good"}"#));
    let bryo = Bryo::new();
    let path = helper(&bryo, "broken", "echo 'the keychain is locked'; exit 1");
    let done = Done::of(with_logins(&bryo, r#"{"credsStore": "broken"}"#, &image).env("PATH", path));
    assert_eq!(done.status.code(), Some(1), "{done}");
    let wanted = "credential helper docker-credential-broken";
    assert!(
        done.stderr.contains(wanted) && done.stderr.contains("the keychain is locked"),
        "{done}"
    );
    assert!(registry.seen("/token").is_empty());
}
