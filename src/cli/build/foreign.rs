//! Which flags of `docker build`, `docker buildx build` and `podman build` mean nothing here?

use crate::cli::foreign::{
    AGAIN, ANY, AUTHORITIES, ENCRYPTED, Foreign, LOGIN, RUNTIME, SIGNED, Table, UNTRUSTED, short, switch,
    value,
};

const CGROUPS: &str = "a RUN has no cgroup of its own yet; --ulimit limits each process";
const NAMESPACES: &str = "each RUN has namespaces of its own, and no others can be chosen";
const RIGHTS: &str = "the rights of a RUN cannot be changed yet";
const DNS: &str = "a RUN resolves names as the host does";
const PLATFORM: &str = "it is said by --platform";
const USERS: &str = "each RUN has the ids that /etc/subuid and /etc/subgid give the user";
const DAEMON: &str = "there is no builder to choose: this program builds";

/// The table.
#[derive(Debug, Clone)]
pub(super) struct Build;

pub(super) type Flags = crate::cli::foreign::Flags<Build>;

impl Table for Build {
    const FLAGS: &'static [Foreign] = FLAGS;
}

const FLAGS: &[Foreign] = &[
    // Accepted.
    switch("rm", ANY, "a step's container is always removed"),
    switch("force-rm", ANY, "a step's container is always removed"),
    switch("compress", ANY, "the context is sent nowhere"),
    switch("disable-content-trust", ANY, UNTRUSTED),
    switch(
        "disable-compression",
        ANY,
        "layers in the store are not compressed, those sent always",
    ),
    switch("identity-label", &["false"], "no label is added"),
    switch(
        "skip-unused-stages",
        &["true"],
        "a stage that nothing uses is never built",
    ),
    switch(
        "http-proxy",
        &["false"],
        "proxies come by --build-arg HTTP_PROXY=ADDRESS",
    ),
    value(
        "allow",
        &["network.host"],
        "privileges cannot be given by an ordinary user",
    ),
    value(
        "isolation",
        // buildah's own by default, with its runtime and without.
        &["default", "oci", "rootless"],
        "each RUN is isolated as a container, and in no other way",
    ),
    value("retry", ANY, AGAIN),
    value("retry-delay", ANY, AGAIN),
    // Refused.
    short('m', value("memory", &[], CGROUPS)),
    value("memory-swap", &[], CGROUPS),
    value("cpu-period", &[], CGROUPS),
    value("cpu-quota", &[], CGROUPS),
    short('c', value("cpu-shares", &[], CGROUPS)),
    value("cpuset-cpus", &[], CGROUPS),
    value("cpuset-mems", &[], CGROUPS),
    value(
        "cgroup-parent",
        &[],
        "a RUN is in the cgroup of this command: start it by `systemd-run --user --scope --slice SLICE`",
    ),
    value("cgroupns", &[], NAMESPACES),
    value("ipc", &[], NAMESPACES),
    value("pid", &[], NAMESPACES),
    value("uts", &[], NAMESPACES),
    value("userns", &[], USERS),
    value("userns-uid-map", &[], USERS),
    value("userns-gid-map", &[], USERS),
    value("userns-uid-map-user", &[], USERS),
    value("userns-gid-map-group", &[], USERS),
    value("cap-add", &[], RIGHTS),
    value("cap-drop", &[], RIGHTS),
    value("security-opt", &[], RIGHTS),
    value("device", &[], RIGHTS),
    value("dns", &[], DNS),
    value("dns-option", &[], DNS),
    value("dns-search", &[], DNS),
    switch(
        "no-hosts",
        &["false"],
        "a RUN has always an /etc/hosts of its own",
    ),
    value("authfile", &[], LOGIN),
    value("creds", &[], LOGIN),
    value("cert-dir", &[], AUTHORITIES),
    value("decryption-key", &[], ENCRYPTED),
    value("sign-by", &[], SIGNED),
    switch("all-platforms", &["false"], PLATFORM),
    value("arch", &[], PLATFORM),
    value("os", &[], PLATFORM),
    value("variant", &[], PLATFORM),
    value("os-feature", &[], PLATFORM),
    value("os-version", &[], PLATFORM),
    value(
        "manifest",
        &[],
        "a list of images for several platforms goes to a registry or into an archive (--push, --output type=oci)",
    ),
    value(
        "cache-ttl",
        &[],
        "what builds keep ages by its last use: `builder prune --filter until=24h`",
    ),
    value("builder", &[], DAEMON),
    short(
        'D',
        switch("debug", &["false"], "BRYO_LOG=debug shows what is done"),
    ),
    value("cpp-flag", &[], "a Dockerfile goes through no preprocessor"),
    value("hooks-dir", &[], "hooks are not supported"),
    value("logfile", &[], "the log is on standard error: redirect it"),
    switch(
        "logsplit",
        &["false"],
        "the log is on standard error: redirect it",
    ),
    switch("omit-history", &["false"], "an image always has its history"),
    value("runtime", &[], RUNTIME),
    value("runtime-flag", &[], RUNTIME),
    switch("stdin", &["false"], "a RUN has no standard input"),
];

#[cfg(test)]
mod tests {
    use clap::{Arg, Parser as _};

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Sample {
        #[command(flatten)]
        build: crate::cli::build::Build,
    }

    /// What `docker build --help` of 28.2 lists (its own builder), docs.docker.com of `docker buildx build`, and
    /// `podman build --help` of 4.3.
    const DOCKER: &str = "add-host build-arg cache-from cgroup-parent compress cpu-period cpu-quota cpu-shares cpuset-cpus \
        cpuset-mems disable-content-trust file force-rm iidfile isolation label memory memory-swap network no-cache platform \
        pull quiet rm security-opt shm-size squash tag target ulimit";
    const BUILDX: &str = "add-host allow annotation attest build-arg build-context builder cache-from cache-to call \
        cgroup-parent check debug file iidfile label load metadata-file network no-cache no-cache-filter output platform \
        progress provenance pull push quiet sbom secret shm-size ssh tag target ulimit";
    const PODMAN: &str = "add-host all-platforms annotation arch authfile build-arg build-context cache-from cache-to \
        cache-ttl cap-add cap-drop cert-dir cgroup-parent cgroupns compress cpp-flag cpu-period cpu-quota cpu-shares \
        cpuset-cpus cpuset-mems creds decryption-key device disable-compression disable-content-trust dns dns-option \
        dns-search env file force-rm format from hooks-dir http-proxy identity-label ignorefile iidfile ipc isolation jobs \
        label layers logfile logsplit manifest memory memory-swap network no-cache no-hosts omit-history os os-feature \
        os-version output pid platform pull quiet retry retry-delay rm runtime runtime-flag secret security-opt shm-size \
        sign-by skip-unused-stages squash squash-all ssh stdin tag target timestamp tls-verify ulimit unsetenv unsetlabel \
        userns userns-gid-map userns-gid-map-group userns-uid-map userns-uid-map-user uts variant volume";

    #[test]
    fn every_flag_of_the_others_is_known() {
        let command = <Sample as clap::CommandFactory>::command();
        let known: Vec<&str> = command.get_arguments().filter_map(Arg::get_long).collect();
        for name in [DOCKER, BUILDX, PODMAN]
            .iter()
            .flat_map(|list| list.split_whitespace())
        {
            assert!(known.contains(&name), "--{name}");
        }
        for flag in FLAGS {
            assert!(!flag.why.is_empty(), "--{}", flag.name);
        }
    }

    fn checked(words: &[&str]) -> Result<(), String> {
        let words = ["build"].iter().chain(words).chain(&["."]);
        let sample = Sample::try_parse_from(words).map_err(|error| error.to_string())?;
        assert_eq!(sample.build.place(), ".");
        sample.build.foreign.check().map_err(|failure| failure.message)
    }

    #[test]
    fn what_asks_for_nothing_is_accepted_and_the_rest_refused() {
        for words in [
            &["--rm"][..],
            &["--rm=false", "--force-rm", "--compress"],
            &["--allow", "network.host", "--isolation=default"],
            &["--skip-unused-stages", "--http-proxy=false"],
        ] {
            assert_eq!(checked(words), Ok(()));
        }
        for (words, what) in [
            (
                &["-m", "2g"][..],
                "--memory is not supported: a RUN has no cgroup of its own",
            ),
            (
                &["--cpu-quota", "-1"],
                "--cpu-quota is not supported: a RUN has no cgroup",
            ),
            (
                &["--cgroup-parent", "x"],
                "--cgroup-parent is not supported: a RUN is in the cgroup",
            ),
            (
                &["--isolation", "chroot"],
                "--isolation=chroot is not supported: each RUN is isolated",
            ),
            (
                &["--http-proxy"],
                "--http-proxy is not supported: proxies come by",
            ),
            (
                &["--allow=network.host", "--allow=security.insecure"],
                "--allow=security.insecure is not",
            ),
        ] {
            let found = checked(words).unwrap_err();
            assert!(found.starts_with(what), "{found}");
        }
    }
}
