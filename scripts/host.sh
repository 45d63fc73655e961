# What the scripts need of a Debian 12: sourced by them, run as root. Each function does nothing where all is there.

# need_packages NAME…
need_packages() {
    local missing=() name
    for name in "$@"; do
        dpkg-query -W -f '${Status}' "$name" 2> /dev/null | grep -q 'ok installed' || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "installing ${missing[*]}"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 install --no-install-recommends "${missing[@]}" > /dev/null
}

# Distributions give these to everyone; minimal systems do not.
open_devices() {
    local device
    for device in "/dev/fuse c 10 229" "/dev/net/tun c 10 200"; do
        # shellcheck disable=SC2086
        set -- $device
        mkdir -p "$(dirname "$1")"
        [ -e "$1" ] || mknod "$@"
        chmod 0666 "$1"
    done
}

# make_user NAME range|plain: an ordinary user, with 65,536 subordinate ids or with none.
make_user() {
    id "$1" > /dev/null 2>&1 || useradd --create-home --shell /bin/bash "$1"
    case $2 in
        range) grep -q "^$1:" /etc/subuid && grep -q "^$1:" /etc/subgid ||
            usermod --add-subuids 1000000-1065535 --add-subgids 1000000-1065535 "$1" ;;
        plain) sed -i "/^$1:/d" /etc/subuid /etc/subgid ;;
    esac
}

# crun 1.8, by which podman runs what the tests and benchmarks compare with, refuses a host with cgroups of both versions
# unless every controller is one of version 1.
let_crun_run() {
    local unified=/sys/fs/cgroup/unified name
    [ -r $unified/cgroup.controllers ] || return 0
    for name in $(cat $unified/cgroup.controllers); do
        mkdir -p "/sys/fs/cgroup/$name" && mount -t cgroup -o "$name" "$name" "/sys/fs/cgroup/$name" || return
    done
}

# The cgroups that this shell is in, of the controllers that containers use, and of version 2.
own_groups() {
    local names path point
    while IFS=: read -r _ names path; do
        case ,$names, in
            ,,) point=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts) ;;
            *,memory,* | *,cpu,* | *,cpuacct,* | *,cpuset,* | *,pids,* | *,freezer,*)
                point=$(awk -v names=",$names," '$3 == "cgroup" && index("," $4 ",", names) { print $2; exit }' /proc/mounts) ;;
            *) continue ;;
        esac
        [ -z "$point" ] || echo "$point${path%/}"
    done < /proc/self/cgroup
}

# delegate_groups USER: a group in each of ours that is the user's, and in it one for processes, for tests/limits.rs.
delegate_groups() {
    local own group file made=
    for own in $(own_groups); do
        for group in "$own/bryo-tests-$1" "$own/bryo-tests-$1/tests"; do
            mkdir -p "$group" 2> /dev/null || continue 2
            # In version 1 a new group has no processors.
            [ -e "$group/cgroup.controllers" ] || for file in cpuset.cpus cpuset.mems; do
                [ ! -e "$group/$file" ] || cat "$group/../$file" > "$group/$file"
            done
            chown "$1" "$group" "$group/cgroup.procs"
            [ ! -e "$group/cgroup.subtree_control" ] || chown "$1" "$group/cgroup.subtree_control"
        done
        made=yes
    done
    [ -n "$made" ]
}

# enter_groups USER: this shell goes there.
enter_groups() {
    local own
    for own in $(own_groups); do
        # Where that fails, the tests find that they are not there.
        [ ! -d "$own/bryo-tests-$1/tests" ] || echo "$BASHPID" > "$own/bryo-tests-$1/tests/cgroup.procs" || true
    done
}

# remove_groups USER: they go, with what a killed test left in them.
remove_groups() {
    local own
    for own in $(own_groups); do
        [ ! -d "$own/bryo-tests-$1" ] || find "$own/bryo-tests-$1" -depth -type d -exec rmdir {} +
    done
}

# Cargo and the pinned toolchain; rustup is the one thing Debian 12 does not have.
need_cargo() {
    [ ! -d "$HOME/.cargo/bin" ] || PATH=$HOME/.cargo/bin:$PATH
    command -v cargo > /dev/null || {
        echo "cargo is missing: install Rust 1.95 from https://rustup.rs and start again" >&2
        exit 1
    }
}

# serve_registry STORAGE readonly|writable: a docker-registry on a free loopback port, $registry, until the script ends.
serve_registry() {
    registry_dir=$(mktemp -d)
    cat > "$registry_dir/config.yml" <<YML
version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: $1}
  delete: {enabled: true}
  maintenance: {uploadpurging: {enabled: false}, readonly: {enabled: $([ "$2" = readonly ] && echo true || echo false)}}
http: {addr: "127.0.0.1:0"}
YML
    docker-registry serve "$registry_dir/config.yml" > "$registry_dir/log" 2>&1 &
    registry_pid=$!
    trap end_registry EXIT
    for _ in $(seq 100); do
        registry=$(sed -n 's/.*listening on \([0-9.:]*\)".*/\1/p' "$registry_dir/log" 2> /dev/null || true)
        [ -z "$registry" ] || return 0
        sleep 0.1
    done
    echo "docker-registry does not start:" >&2
    cat "$registry_dir/log" >&2
    return 1
}
end_registry() {
    kill "$registry_pid"
    rm -rf "$registry_dir"
}
