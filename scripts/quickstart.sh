#!/usr/bin/env bash
# From a bare Debian 12 to a running container: installs what is missing, builds Bryo, makes a Debian image out of
# Debian's packages, serves it from a registry on loopback, and as an ordinary user pulls it, runs commands in it,
# changes files, and shows that the image stayed as it was. Prints the time of each step.
#
# As root it makes the ordinary user (bryo-range). As an ordinary user it is that user, and says what root must
# install first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/host.sh

packages=(build-essential busybox-static ca-certificates docker-registry git mmdebstrap podman skopeo uidmap util-linux)
images=${BRYO_TEST_IMAGES:-/var/cache/bryo-tests}
if [ "$(id -u)" = 0 ]; then
    need_packages "${packages[@]}"
    open_devices
    make_user bryo-range range
    scripts/images.sh debian
else
    command -v docker-registry > /dev/null && [ -d "$images/registry/docker/registry/v2/repositories/debian" ] || {
        echo "root must prepare this once: apt-get install ${packages[*]}; $PWD/scripts/images.sh debian" >&2
        exit 1
    }
fi
need_cargo
echo "building the release binary"
time cargo build --locked --quiet --release --bin bryo
binary=target/x86_64-unknown-linux-gnu/release/bryo
echo "$binary: $(stat -c %s "$binary") bytes, $(ldd "$binary" 2>&1 | tr -d '\t')"

# Where the ordinary user can read it, and nothing else of this checkout.
stage=$(mktemp -d /var/tmp/bryo-quickstart.XXXXXX)
chmod 755 "$stage"
install -m 755 "$binary" "$stage/bryo"
install -m 755 scripts/as-user "$stage/as-user"

serve_registry "$images/registry" readonly
trap 'end_registry; rm -rf "$stage"' EXIT

cat > "$stage/tour" <<'TOUR'
# What an ordinary user types. $1: an image; $2: where bryo is.
set -euo pipefail
image=$1 PATH=$2:$PATH
store=$(mktemp -d)
trap 'rm -rf "$store"' EXIT
export BRYO_ROOT=$store/root BRYO_STATE=$store/state BRYO_RUN=$store/run
TIMEFORMAT='  (%R s)'
try() { echo; echo "\$ $*"; time "$@"; }
layers() { (cd "$BRYO_ROOT/layers" && sha256sum -- *.tar); }

echo "I am $(id -un), uid $(id -u)"
try bryo pull "$image"
try bryo images
before=$(layers)
try bryo run --rm "$image" cat /etc/os-release
try bryo run --rm "$image" sh -c 'id; ls -ld /etc/shadow; du -shx /usr'
try bryo run --name changed "$image" sh -c 'rm -rf /usr/share/doc; date >> /etc/seen; cat /etc/seen'
try bryo ps -a
echo; echo "what changed is the container's alone, and it keeps it:"
try bryo start -a changed
try bryo run --rm "$image" sh -c 'ls -d /usr/share/doc && ! ls /etc/seen'
try bryo rm changed
try bryo store check
if [ "$(layers)" != "$before" ]; then
    echo "the image's layers are not what they were:"
    layers
    exit 1
fi
echo; echo "the image's layers are, bit for bit, what they were:"; echo "$before"
try bryo rmi "$image"
TOUR
if [ "$(id -u)" = 0 ]; then
    BRYO_TEST_USER=bryo-range "$stage/as-user" bash "$stage/tour" "$registry/debian:12" "$stage"
else
    bash "$stage/tour" "$registry/debian:12" "$stage"
fi
