//! Which flags of `docker push`, `podman push` and `buildah push` mean nothing here?

use crate::cli::foreign::{
    AGAIN, ANY, AUTHORITIES, ENCRYPTED, Foreign, LOGIN, SIGNED, Table, UNTRUSTED, short, switch, value,
};

/// The table.
#[derive(Debug, Clone)]
pub(super) struct Push;

pub(super) type Flags = crate::cli::foreign::Flags<Push>;

impl Table for Push {
    const FLAGS: &'static [Foreign] = FLAGS;
}

const FLAGS: &[Foreign] = &[
    // Accepted.
    switch("disable-content-trust", ANY, UNTRUSTED),
    switch("remove-signatures", ANY, "an image is sent without signatures"),
    switch("compress", ANY, "layers are always sent compressed"),
    value("retry", ANY, AGAIN),
    value("retry-delay", ANY, AGAIN),
    // Refused.
    short(
        'D',
        switch(
            "disable-compression",
            &["false"],
            "layers are always sent compressed",
        ),
    ),
    value("authfile", &[], LOGIN),
    value("creds", &[], LOGIN),
    value("cert-dir", &[], AUTHORITIES),
    value("sign-by", &[], SIGNED),
    value("sign-by-sigstore", &[], SIGNED),
    value("sign-by-sigstore-private-key", &[], SIGNED),
    value("sign-passphrase-file", &[], SIGNED),
    value("encryption-key", &[], ENCRYPTED),
    value("encrypt-layer", &[], ENCRYPTED),
    value(
        "add-compression",
        &[],
        "each layer is sent in one form (--compression-format)",
    ),
    value("platform", &[], "an image of the store is for one platform"),
    switch(
        "all",
        &["false"],
        "a list of images is made and sent by `build --platform … --push`",
    ),
    switch("rm", &["false"], "there are no lists of images to remove"),
];

#[cfg(test)]
mod tests {
    use clap::{Arg, Parser as _};

    #[derive(Debug, clap::Parser)]
    struct Sample {
        #[command(flatten)]
        push: crate::cli::images::push::Push,
    }

    /// What `docker push --help` of 28.2, `podman push --help` of 4.3 and 5.4, and `buildah push --help` of 1.28 list.
    const ALL: &str = "all-tags disable-content-trust platform quiet \
        authfile cert-dir compress compression-format compression-level creds digestfile force-compression format \
        remove-signatures retry retry-delay sign-by sign-by-sigstore sign-by-sigstore-private-key sign-passphrase-file \
        tls-verify add-compression encryption-key encrypt-layer all disable-compression rm";

    #[test]
    fn every_flag_of_the_others_is_known() {
        let command = <Sample as clap::CommandFactory>::command();
        let known: Vec<&str> = command.get_arguments().filter_map(Arg::get_long).collect();
        for name in ALL.split_whitespace() {
            assert!(known.contains(&name), "--{name}");
        }
        assert!(Sample::try_parse_from(["push", "-D", "--retry", "3", "a", "b"]).is_ok());
    }
}
