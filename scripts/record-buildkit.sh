#!/usr/bin/env bash
# Records what Docker's BuildKit makes of the cases of tests/compare, as tests/compare/buildkit/*.json: run as root, by
# hand, when cases come or change, or for a later engine. The tests then need no Docker.
#
#   scripts/record-buildkit.sh [RELEASE]    the engine of this Debian release (default trixie: that of bookworm, 20.10,
#                                           does not know here-documents, --link and others; elsewhere it agrees)
#
# The engine runs in a root of its own (mmdebstrap), with namespaces of its own and without any network rules, and ends
# with the script. $BRYO_PEERS (default /var/tmp/bryo-peers) keeps the root for the next time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/host.sh
release=${1:-trixie}
peers=${BRYO_PEERS:-/var/tmp/bryo-peers}
root=$peers/$release
images=${BRYO_TEST_IMAGES:-/var/cache/bryo-tests}

[ "$(id -u)" = 0 ] || { echo "run me as root: Docker's engine does" >&2; exit 1; }

make_root() {
    [ ! -e "$root/usr/sbin/dockerd" ] || return 0
    mkdir -p "$peers"
    local packages=docker.io,xz-utils
    [ "$release" = bookworm ] || packages+=,docker-cli,docker-buildx
    mmdebstrap --quiet --variant=minbase --include=$packages "$release" "$root" "${BRYO_DEBIAN_MIRROR:-http://deb.debian.org/debian}"
}

# Everything of the engine's data lies on a directory from outside: overlayfs wants no overlayfs below it.
start_engine() {
    mkdir -p "$root/data" "$root/control" "$root/contexts" "$root/outside"
    rm -rf "$root"/contexts/* "$root/control/pid"
    # shellcheck disable=SC2016
    unshare --mount --propagation private sh -ec '
        mount --bind "$1" "$1"; cd "$1"
        for d in proc sys dev; do mount --rbind /$d $d; done
        pivot_root . outside; umount -l /outside
        exec dockerd --data-root /data --exec-root /run/docker-engine -p /control/pid -H unix:///control/socket \
            --iptables=false --ip6tables=false --bridge=none
    ' engine "$root" > "$peers/log" 2>&1 &
    engine=$!
    trap stop_engine EXIT
    for _ in $(seq 100); do
        ! "${docker[@]}" version > /dev/null 2>&1 || return 0
        sleep 0.2
    done
    echo "the engine does not start:" >&2
    tail -20 "$peers/log" >&2
    return 1
}
stop_engine() {
    kill "$engine"
    wait "$engine" || true
}

need_packages mmdebstrap util-linux
scripts/images.sh busybox
cargo build --locked --quiet --example record-builds
make_root
# shellcheck disable=SC2016
docker=(sh -c 'exec nsenter --target "$(cat "$0/control/pid")" --mount --root --wd env DOCKER_HOST=unix:///control/socket DOCKER_BUILDKIT=1 HOME=/root docker "$@"' "$root")
start_engine
"${docker[@]}" load --quiet < "$images/busybox.docker.tar"
"${docker[@]}" tag busybox:latest base
"${docker[@]}" version --format 'Docker Engine {{.Server.Version}}' > tests/compare/buildkit/VERSION
target/x86_64-unknown-linux-gnu/debug/examples/record-builds "$root/contexts" /contexts "${docker[@]}"
