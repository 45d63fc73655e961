#!/usr/bin/env bash
# Tests everything, as CI does, on a Debian 12: run as root, it installs what is missing and builds; the tests
# themselves run as two ordinary users, one with a range of ids and one without.
#
#   scripts/test.sh             everything; prints each part with its time, and a summary
#   scripts/test.sh --fuzz      only the fuzz targets, $BRYO_FUZZ_SECONDS each
#   scripts/test.sh run tree    only these integration tests (tests/run.rs, tests/tree.rs), as both users
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
. scripts/host.sh

[ "$(id -u)" = 0 ] || { echo "run me as root: I make users and images; the tests run as those users" >&2; exit 1; }
need_cargo
# What properties draw is the same each time, so that a change is not judged by what others left: soak.sh draws anew.
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-1}
# Nothing is built twice here: what would spare a second build takes 4 GB of a disk that others share.
export CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}
logs=$(mktemp -d /var/tmp/bryo-test-logs.XXXXXX)
summary=() failed=0 began=$SECONDS

# part NAME COMMAND…: runs a part; its time and verdict go into the summary, and the next part follows either way.
part() {
    local name=$1 start=$SECONDS verdict=ok
    shift
    echo "=== $name"
    "$@" || { verdict="FAILED ($?)"; failed=1; }
    summary+=("$(printf '%5d s  %-10s %s' $((SECONDS - start)) "$verdict" "$name")")
}

# skipped NAME REASON: said in the summary too, so that nothing is left out unseen.
skipped() { summary+=("$(printf '      –  %-10s %s: %s' 'not run' "$1" "$2")"); }

# As this ordinary user, through scripts/as-user as cargo's runner.
cargo_as() {
    local user=$1
    shift
    BRYO_TEST_USER=$user CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$PWD/scripts/as-user timeout 2400 cargo "$@"
}

packages() {
    need_packages acl attr build-essential buildah bzip2 ca-certificates chromium curl docker-registry dpkg-dev fuse-overlayfs fuse3 git iperf3 \
        iproute2 jq libcap2-bin mmdebstrap nftables openssl passt podman procps python3 openssh-sftp-server skopeo slirp4netns sshfs strace uidmap umoci util-linux xz-utils zstd busybox-static
}
users() {
    make_user bryo-range range && make_user bryo-plain plain && open_devices || return
    let_crun_run || echo "podman may not run here: its crun wants all cgroup controllers in version 1"
    # What earlier runs left.
    find /var/tmp/bryo-range /var/tmp/bryo-plain -mindepth 1 -maxdepth 1 -mmin +60 -exec rm -rf {} + 2> /dev/null || true
}

# Cgroups of the users' own, for tests/limits.rs; they go when the script ends.
cgroups() {
    trap 'remove_groups bryo-range; remove_groups bryo-plain' EXIT
    if delegate_groups bryo-range 2> /dev/null && delegate_groups bryo-plain 2> /dev/null; then
        export BRYO_TEST_GROUPS=yes
    else
        skipped "limits in cgroups" "none can be made here; tests/limits.rs tests nothing"
    fi
}

# tests USER CARGO_ARGS…: a test that has waited in vain (scripts/repeats.awk) is tried once more, alone. One that passes then is
# named in the summary: whoever works on it next should know. What fails in any other way, or twice, fails.
tests() {
    local user=$1 log verdict again names failing=0
    log=$(mktemp "$logs/tests.XXXXXX")
    shift
    cargo_as "$user" test --locked -q --no-fail-fast "$@" 2>&1 | tee "$log"
    [ "${PIPESTATUS[0]}" != 0 ] || return 0
    awk -f scripts/repeats.awk "$log" > "$log.failed"
    [ -s "$log.failed" ] || return 1
    while read -r verdict again; do
        names=${again#*--exact}
        case $verdict in
            died) echo "no test of $again is named: the binary died"; failing=1; continue ;;
            failed) echo "=== failed, and not because it was late:$names"; failing=1; continue ;;
        esac
        echo "=== once more:$names"
        # shellcheck disable=SC2086
        if cargo_as "$user" test --locked -q $again < /dev/null; then
            summary+=("$(printf '      –  %-10s as %s:%s' 'passed late' "$user" "$names")")
        else
            failing=1
        fi
    done < "$log.failed"
    return $failing
}

# The users must be able to read what cargo built: a checkout below /root is copied to where they can.
reachable() {
    as_plain test -r Cargo.toml && return 0
    local copy=/var/tmp/bryo-checkout
    echo "ordinary users cannot read $PWD: testing a copy in $copy"
    mkdir -p "$copy" && chmod 755 "$copy" && tar -c --exclude=./target --exclude=./fuzz/target . | tar -x -C "$copy" && cd "$copy"
}
as_plain() { setpriv --reuid bryo-plain --regid bryo-plain --clear-groups "$@"; }

# The tests call the examples as programs, which `cargo test` builds only as tests of their own.
build_tests() {
    cargo test --locked --quiet --no-run --workspace "$@" && cargo build --locked --quiet --workspace --bins --examples
}

# POSIX's examiners, which tests/posix.rs runs in containers; dynamic, since they look users up.
posix_tools() {
    local tool
    for tool in pjdfstest@0.2.2 fsx@0.3.2; do
        [ -x "target/tools/bin/${tool%@*}" ] ||
            RUSTFLAGS="-C target-feature=-crt-static" cargo install --quiet --locked --root target/tools "$tool" || return
    done
}

install_deny() { command -v cargo-deny > /dev/null || cargo install --quiet --locked cargo-deny --version 0.20.2; }
deny() {
    install_deny || return
    cargo deny --log-level error check --hide-inclusion-graph licenses bans sources
}
advisories() {
    if timeout 20 git ls-remote -q https://github.com/rustsec/advisory-db HEAD > /dev/null 2>&1; then
        part "known vulnerabilities" cargo deny --log-level error check advisories
    else
        skipped "known vulnerabilities" "the database at github.com/rustsec is out of reach"
    fi
}

build_release() { cargo build --locked --quiet --release --bin bryo; }
static_and_small() {
    build_release || return
    local binary=target/x86_64-unknown-linux-gnu/release/bryo size
    size=$(stat -c %s "$binary")
    echo "release binary: $size bytes, $(ldd "$binary" 2>&1 | tr -d '\t')"
    [ "$size" -le 20000000 ] || { echo "more than 20 MB"; return 1; }
    ! readelf -l "$binary" | grep -q INTERP || { echo "not static"; return 1; }
}

# The compiler's own switch lets the pinned toolchain build the fuzz targets, so that no nightly is needed.
build_fuzz() {
    command -v cargo-fuzz > /dev/null || cargo install --quiet --locked cargo-fuzz --version 0.13.2 || return
    RUSTC_BOOTSTRAP=1 cargo fuzz build 2> "$logs/fuzz-build" || { tail -40 "$logs/fuzz-build"; return 1; }
}

# The parsers of what comes from outside, a minute each, two at a time.
fuzz() {
    local seconds=${BRYO_FUZZ_SECONDS:-60} target corpus
    build_fuzz || return
    RUSTC_BOOTSTRAP=1 cargo fuzz list | xargs -P 2 -I{} bash -c '
        corpus=$(mktemp -d /var/tmp/bryo-range/fuzz.XXXXXX) && chown bryo-range "$corpus" || exit 1
        seeds=(); [ ! -d fuzz/corpus/{} ] || seeds=("$PWD/fuzz/corpus/{}")
        binary=$PWD/fuzz/target/x86_64-unknown-linux-gnu/release/{}
        cd "$corpus" && BRYO_TEST_USER=bryo-range BRYO_FUZZ_STORE="$corpus.store" "$0" "$binary" -max_total_time="$1" -timeout=20 -rss_limit_mb=2048 \
            -artifact_prefix="$corpus/" "$corpus" "${seeds[@]}" > "$2/fuzz-{}" 2>&1
        code=$?
        rm -rf "$corpus.store"
        if [ $code = 0 ]; then echo "{}: $(tail -1 "$2/fuzz-{}")"; rm -r "$corpus"
        else echo "{} FAILED, its input is in $corpus:"; tail -30 "$2/fuzz-{}"; exit 1; fi
    ' "$PWD/scripts/as-user" "$seconds" "$logs"
}

# Processes that a test or a crash left behind; what is just ending may take a moment.
nothing_left() {
    local user
    for _ in {1..20}; do
        # Not the dead, which on some machines nobody reaps.
        pgrep -u bryo-range,bryo-plain -r D,R,S,T,t > /dev/null || return 0
        sleep 0.5
    done
    for user in bryo-range bryo-plain; do pgrep -u "$user" -r D,R,S,T,t -a; done
    return 1
}

if [ "${1:-}" = --fuzz ]; then
    part "users and devices" users
    part "fuzzing" fuzz
elif [ $# -gt 0 ]; then
    chosen=()
    for name in "$@"; do chosen+=(--test "$name"); done
    part "users and devices" users
    cgroups
    part "images" scripts/images.sh busybox configured debian odd debs software golang nginx workloads
    part "build" build_tests "${chosen[@]}"
    case " $* " in *" posix "*) part "pjdfstest and fsx" posix_tools ;; esac
    part "podman's trees" scripts/images.sh trees "$PWD/target/x86_64-unknown-linux-gnu/debug/examples/list-tree"
    for user in bryo-range bryo-plain; do part "as $user: $*" tests "$user" --workspace "${chosen[@]}"; done
else
    part "packages" packages
    part "users and devices" users
    cgroups
    reachable || exit 1
    scripts/images.sh busybox configured debian odd debs software golang nginx workloads > "$logs/images" 2>&1 &
    images=$!
    part "formatting" cargo fmt --all --check
    part "clippy" cargo clippy --locked --quiet --workspace --all-targets -- -D warnings
    part "build" build_tests --all-targets
    part "pjdfstest and fsx" posix_tools
    part "documentation" env RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --quiet --workspace --no-deps
    part "images (beside the build)" wait $images
    cat "$logs/images"
    part "podman's trees" scripts/images.sh trees "$PWD/target/x86_64-unknown-linux-gnu/debug/examples/list-tree"
    # The tests wait more than they work: what only the last parts need is built meanwhile, by whatever the tests leave of the cores.
    (renice -n 19 $BASHPID; build_fuzz; build_release; install_deny) > "$logs/built-beside" 2>&1 &
    built=$!
    part "unit tests, as bryo-range" tests bryo-range --workspace --lib --bins
    part "the filesystem's tests, as bryo-range" tests bryo-range -p fuse-overlay --test '*'
    part "the tool's tests, as bryo-range" tests bryo-range -p bryo --test '*'
    part "the tool's tests, as bryo-plain" tests bryo-plain -p bryo --test '*'
    part "no process is left" nothing_left
    part "what is built beside the tests" wait $built
    part "fuzzing" fuzz
    part "release binary is static and small" static_and_small
    part "the README's first command (scripts/quickstart.sh)" scripts/quickstart.sh
    BRYO_BIN=$PWD/target/x86_64-unknown-linux-gnu/release/bryo part "the release binary at work" cargo_as bryo-range test --locked -q -p bryo --test nginx --test outside
    part "licences, bans, sources" deny
    advisories
fi

echo "=== summary ($((SECONDS - began)) s)"
printf '%s\n' "${summary[@]}"
if [ $failed = 0 ]; then rm -r "$logs"; echo "all passed"; else echo "FAILED; logs are in $logs"; fi
exit $failed
