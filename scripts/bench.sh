#!/usr/bin/env bash
# Sets Bryo beside podman, crun and the kernel's overlayfs, as one ordinary user on this machine: the same work in
# alternating turns, medians, ratios. Run as root: it installs the peers, builds, and makes images and the user.
#
#   scripts/bench.sh [start|build|pull|fs|write|cpu|memory|crowd|store|growth|life|network|all]     BRYO_BENCH_ROUNDS=5 sets the number of turns
#   BRYO_BENCH_ROWS=REGEX chooses rows of fs and write, by name (benches/rows.py)
#   BRYO_BENCH_KEEP=1 leaves the pulled images in /var/tmp/bryo-bench for the next time
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/host.sh
[ "$(id -u)" = 0 ] || { echo "run me as root: I install the peers and drop caches; the work itself is a user's" >&2; exit 1; }

need_packages build-essential busybox-static buildah crun docker-registry fuse-overlayfs git mmdebstrap podman python3 python3-pip skopeo \
    iperf3 linux-perf passt slirp4netns uidmap util-linux
open_devices
make_user bryo-range range
need_cargo
what=${1:-all}
images=(debian software busybox)
case $what in start | all) images+=(few many) ;; esac
case $what in fs | write | cpu | all) images+=(bench) ;; esac
scripts/images.sh "${images[@]}"
cargo build --locked --quiet --release --bin bryo
cargo build --locked --quiet --release --example carry
cargo build --locked --quiet --release -p fuse-overlay --example growth

let_crun_run
serve_registry "${BRYO_TEST_IMAGES:-/var/cache/bryo-tests}/registry" readonly
python3 benches/measure.py "$what" --registry "$registry" --rounds "${BRYO_BENCH_ROUNDS:-9}" \
    --carry target/x86_64-unknown-linux-gnu/release/examples/carry \
    --bryo target/x86_64-unknown-linux-gnu/release/bryo --growth target/x86_64-unknown-linux-gnu/release/examples/growth
