//! Packages that bring users, and files of theirs.

use std::fs;

use super::common::{self, Project};
use super::layers_entry;

/// A package as others are: files of other owners, with set-id bits; users and directories made as it is set up.
const PACKAGE: &str = r#"
    mkdir -p /p/DEBIAN /p/usr/bin /p/var/lib/bryo-demo /p/etc/bryo-demo; cd /p
    printf 'Package: bryo-demo\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <n@b>\nDescription: a test\n' > DEBIAN/control
    echo '#!/bin/sh' > usr/bin/bryo-demo; chmod 755 usr/bin/bryo-demo; echo secret > etc/bryo-demo/secret
    cat > DEBIAN/postinst <<'END'
#!/bin/sh -e
useradd --system --uid 451 --user-group --create-home --home-dir /srv/demo demo
chown -R demo:demo /var/lib/bryo-demo
install -d -o demo -g adm -m 2750 /var/log/bryo-demo
chown root:demo /etc/bryo-demo/secret; chmod 640 /etc/bryo-demo/secret
dpkg-statoverride --update --add root demo 2755 /usr/bin/bryo-demo
END
    chmod 755 DEBIAN/postinst
    mkdir t; cp -a usr var etc t; rm -r usr var etc
    # Its tar says staff and www-data.
    (cd t; chmod 2775 var/lib/bryo-demo; tar -czf ../data.tar.gz --owner=33 --group=50 .); (cd DEBIAN; tar -czf ../control.tar.gz --owner=0 --group=0 .)
    echo 2.0 > debian-binary; ar -rc /bryo-demo.deb debian-binary control.tar.gz data.tar.gz 2>/dev/null || perl -e '
        print "!<arch>\n"; for my $f (@ARGV) { local $/; open my $h, "<", $f; my $d = <$h>; printf "%-16s%-12d%-6d%-6d%-8o%-10d`\n%s%s", $f, 0, 0, 0, 0100644, length $d, $d, length($d) % 2 ? "\n" : ""; }' debian-binary control.tar.gz data.tar.gz > /bryo-demo.deb
    cd /; rm -r /p"#;

#[test]
fn packages_are_installed_with_their_users_and_owners() {
    let project = Project::of("software");
    project.bryo.ok(["tag", "base", "again"]);
    let debs = common::images().join("debs");
    for deb in fs::read_dir(debs).unwrap().flatten() {
        let name = deb.file_name().into_string().unwrap();
        project.write(&format!("debs/{name}"), fs::read(deb.path()).unwrap());
    }
    // apt fetches as a user of its own, which only an id range has.
    let dockerfile = format!(
        "FROM base
RUN <<'SCRIPT'
set -e
{PACKAGE}
SCRIPT
COPY debs /debs
RUN echo 'deb [trusted=yes] file:///debs ./' > /etc/apt/sources.list && rm -f /etc/apt/sources.list.d/* && export DEBIAN_FRONTEND=noninteractive && \\
    apt-get -o APT::Sandbox::User=root -qq update && apt-get -o APT::Sandbox::User=root -qq install -y jq hello /bryo-demo.deb && \\
    test -z \"$(dpkg --audit)\" && id demo && hello"
    );
    project.build(&dockerfile, &[]);
    for (path, owner) in [
        ("usr/bin/bryo-demo", "0/451"),
        ("var/lib/bryo-demo", "451/451"),
        ("var/log/bryo-demo", "451/4"),
        ("etc/bryo-demo/secret", "0/451"),
        ("etc/bryo-demo", "33/50"),
        ("srv/demo", "451/451"),
        ("srv/demo/.profile", "451/451"),
        ("usr/bin/jq", "0/0"),
    ] {
        assert_eq!(project.owner(path), owner, "{path}");
    }
    let line = layers_entry(&project.bryo, "usr/bin/bryo-demo");
    assert!(line.starts_with("-rwxr-sr-x"), "{line}");
    assert_eq!(
        project.sh("bryo-demo; dpkg -s bryo-demo | grep Status; getent passwd demo"),
        "Status: install ok installed\ndemo:x:451:451::/srv/demo:/bin/sh\n"
    );
}
