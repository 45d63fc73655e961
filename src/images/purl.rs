//! What is an image called where packages of all kinds are named? By a package URL (package-url/purl-spec, type `docker`),
//! as BuildKit writes it (`util/purl`).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::manifest::Platform;
use super::reference::Reference;

/// What is written as `%XX`.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':');

/// The package URL of an image's name, for one platform if that is known.
pub fn purl(name: &Reference, platform: Option<&Platform>) -> String {
    let escaped = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
    let parts: Vec<String> = name.familiar_repository().split('/').map(escaped).collect();
    let mut url = format!("pkg:docker/{}", parts.join("/"));
    let tag = match (name.tag(), name.digest()) {
        (None, None) => Some("latest"),
        (tag, _) => tag,
    };
    url.extend(tag.map(|tag| format!("@{}", escaped(tag))));
    let digest = name.digest().map(|digest| ("digest", digest.to_string()));
    let platform = platform.map(|platform| ("platform", platform.to_string()));
    for (number, (key, value)) in digest.into_iter().chain(platform).enumerate() {
        let sign = if number == 0 { '?' } else { '&' };
        url += &format!("{sign}{key}={}", escaped(&value));
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of BuildKit's `util/purl/image_test.go`, and a registry with a port.
    #[test]
    fn names_are_those_of_buildkit() {
        const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let at = |text: &str| text.replace("DIGEST", DIGEST);
        for (name, platform, wanted) in [
            ("alpine", None, "pkg:docker/alpine@latest"),
            ("library/alpine:3.15", None, "pkg:docker/alpine@3.15"),
            (
                "docker.io/library/alpine:latest",
                None,
                "pkg:docker/alpine@latest",
            ),
            (
                "docker.io/library/alpine:latest@DIGEST",
                None,
                "pkg:docker/alpine@latest?digest=DIGEST",
            ),
            (
                "docker.io/library/alpine@DIGEST",
                None,
                "pkg:docker/alpine?digest=DIGEST",
            ),
            ("user/test:v2", None, "pkg:docker/user/test@v2"),
            ("ghcr.io/foo/bar:v2", None, "pkg:docker/ghcr.io/foo/bar@v2"),
            ("ghcr.io/foo/bar", None, "pkg:docker/ghcr.io/foo/bar@latest"),
            (
                "busybox",
                Some("linux/amd64"),
                "pkg:docker/busybox@latest?platform=linux%2Famd64",
            ),
            (
                "busybox@DIGEST",
                Some("linux/arm/v7"),
                "pkg:docker/busybox?digest=DIGEST&platform=linux%2Farm%2Fv7",
            ),
            ("localhost:5000/a", None, "pkg:docker/localhost:5000/a@latest"),
        ] {
            let platform = platform.map(|text: &str| text.parse().unwrap());
            let name = Reference::parse(&at(name)).unwrap();
            assert_eq!(purl(&name, platform.as_ref()), at(wanted));
        }
    }
}
