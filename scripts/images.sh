#!/usr/bin/env bash
# Makes the images that tests, quickstart and benches use, out of Debian's packages and with other people's tools
# (mmdebstrap, buildah, podman, skopeo), and keeps them as the storage of a docker-registry.
#
#   images.sh busybox debian odd software …   makes what is missing, as root; see the make_ functions for what each is
#   images.sh trees PROGRAM                   writes what podman shows of an image, as examples/list-tree lists it
#
# They stay under $BRYO_TEST_IMAGES (default /var/cache/bryo-tests), readable by everyone: `registry` is the
# storage directory, `*.tree` are podman's listings, `debs` is an apt repository. Delete the directory to start anew.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/host.sh"
cache=${BRYO_TEST_IMAGES:-/var/cache/bryo-tests}
work=$cache/work # root's own: buildah's and podman's storage, pristine tars
export CONTAINERS_STORAGE_CONF=$work/storage.conf
registry= # host:port, once it is up
debian_mirror=${BRYO_DEBIAN_MIRROR:-http://deb.debian.org/debian}

say() { echo "images: $*" >&2; }

# push LOCAL-IMAGE NAME:TAG FORMAT COMPRESSION
push() {
    [ -n "$registry" ] || serve_registry "$cache/registry" writable
    skopeo copy --quiet --format "$3" --dest-compress-format "$4" --dest-tls-verify=false \
        "containers-storage:localhost/$1" "docker://$registry/$2"
}

push_all_forms() { # of image $1: as Docker's own tools, as OCI, as OCI with zstd
    push "$1" "$1:latest" v2s2 gzip
    push "$1" "$1:oci" oci gzip
    push "$1" "$1:zstd" oci zstd
}

# --- the images ---

# One static program and the places where a runtime mounts: the smallest thing that runs.
make_busybox() {
    local c m
    c=$(buildah from scratch); m=$(buildah mount "$c")
    mkdir -p "$m"/{bin,dev,etc,home,proc,root,run,sys,tmp,usr/bin,var/tmp}
    chmod 1777 "$m/tmp" "$m/var/tmp"; chmod 700 "$m/root"
    cp /bin/busybox "$m/bin/busybox"
    "$m/bin/busybox" --list | grep -vx busybox | while read -r applet; do ln -s busybox "$m/bin/$applet"; done
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nuser:x:1000:1000::/home:/bin/sh\n' > "$m/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\nuser:x:1000:\nextra:x:2000:user\n' > "$m/etc/group"
    touch "$m"/etc/{hosts,hostname,resolv.conf}
    buildah umount "$c" > /dev/null
    buildah config --cmd /bin/sh --env PATH=/bin:/usr/bin "$c"
    buildah commit --quiet --rm "$c" localhost/busybox > /dev/null
    push_all_forms busybox
    # The same image as files.
    rm -f "$cache"/busybox.*.tar
    skopeo copy --quiet "docker://$registry/busybox:oci" --src-tls-verify=false "oci-archive:$cache/busybox.oci.tar:busybox:oci"
    skopeo copy --quiet "docker://$registry/busybox:latest" --src-tls-verify=false "docker-archive:$cache/busybox.docker.tar:busybox:latest"
    rm -rf "$cache/busybox.oci"
    skopeo copy --quiet "docker://$registry/busybox:oci" --src-tls-verify=false "oci:$cache/busybox.oci:latest"
}

# Everything that an image's config can say; and an index of two platforms.
make_configured() {
    local c
    c=$(buildah from localhost/busybox)
    buildah config --cmd "from cmd" --entrypoint '["/bin/echo","entry"]' --env GREETING=hello --env EMPTY= \
        --user 1000:2000 --workingdir /made/by/config --label maker=images.sh --port 80/tcp --volume /data \
        --stop-signal SIGUSR1 "$c"
    buildah commit --quiet --rm "$c" localhost/configured > /dev/null
    push configured configured:latest v2s2 gzip
    push configured configured:oci oci gzip
    local list
    ! podman manifest exists localhost/platforms || podman manifest rm localhost/platforms > /dev/null
    list=$(buildah manifest create localhost/platforms)
    for arch in arm64 amd64; do
        c=$(buildah from localhost/busybox)
        buildah config --arch "$arch" --env "MADE_FOR=$arch" "$c"
        buildah commit --quiet --rm "$c" "localhost/platform-$arch" > /dev/null
        buildah manifest add --arch "$arch" --os linux localhost/platforms "containers-storage:localhost/platform-$arch" > /dev/null
    done
    buildah manifest push --all --tls-verify=false "$list" "docker://$registry/platforms:latest" > /dev/null 2>&1
}

# Debian as it installs itself, nothing more.
make_debian() {
    mmdebstrap --quiet --variant=minbase --customize-hook='for f in hosts hostname resolv.conf; do : > "$1/etc/$f"; done' \
        bookworm "$work/debian.tar" "$debian_mirror"
    podman import --quiet --change 'CMD ["/bin/bash"]' \
        --change ENV=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$work/debian.tar" localhost/debian > /dev/null
    rm "$work/debian.tar"
    push debian debian:12 oci gzip
    push debian debian:zstd oci zstd
}

# Real software in four layers, about 1.3 GB, with a git repository: what tests/software.rs uses and the benches pull.
make_software() {
    local c step previous=debian
    for step in \
        "gcc g++ make libc6-dev git ca-certificates" \
        "python3 python3-pip python3-venv python3-numpy python3-scipy python3-pandas" \
        "sqlite3 nginx-light curl procps llvm-14"; do
        c=$(buildah from "localhost/$previous")
        buildah run --isolation chroot --network host "$c" -- sh -ec "
            export DEBIAN_FRONTEND=noninteractive
            apt-get -q update; apt-get -qy install --no-install-recommends $step
            apt-get clean; rm -rf /var/lib/apt/lists/*
            [ ! -e /usr/sbin/nginx ] || {
                git init -q /srv/repo; cd /srv/repo; cp -r /usr/include /usr/lib/python3.11 .
                git add -A; git -c user.name=a -c user.email=a commit -qm all
            }" > "$work/software.log" 2>&1 || { tail -20 "$work/software.log" >&2; exit 1; }
        previous=software
        buildah commit --quiet --rm "$c" localhost/software > /dev/null
    done
    push software software:latest oci gzip
}

# Databases, package managers and compilers that tests/workloads.rs works with.
make_workloads() {
    local c
    c=$(buildah from localhost/software)
    buildah run --isolation chroot --network host "$c" -- sh -ec "
        export DEBIAN_FRONTEND=noninteractive
        mkdir /etc/postgresql-common; echo create_main_cluster = false > /etc/postgresql-common/createcluster.conf
        apt-get -q update
        apt-get -qy -o DPkg::Options::=--force-unsafe-io -o DPkg::Options::=--force-confold install --no-install-recommends \
            postgresql redis-server python3-psycopg2 python3-redis rpm npm cargo rsync acl attr libcap2-bin uidmap
        apt-get clean; rm -rf /var/lib/apt/lists/*
    " > "$work/workloads.log" 2>&1 || { tail -20 "$work/workloads.log" >&2; exit 1; }
    buildah commit --quiet --rm "$c" localhost/workloads > /dev/null
    push workloads workloads:latest oci zstd
}

# What Docker's `golang` is, of Debian's Go (a later one than its tag says), with one module in place of a network's:
# tests/build/go needs it, and its go.sum holds what these very bytes hash to.
make_golang() {
    local c m module=example.com/greet v1
    c=$(buildah from localhost/debian)
    buildah run --isolation chroot --network host "$c" -- sh -ec "
        export DEBIAN_FRONTEND=noninteractive
        apt-get -q update; apt-get -qy install --no-install-recommends golang-go
        apt-get clean; rm -rf /var/lib/apt/lists/*" > "$work/golang.log" 2>&1 || { tail -20 "$work/golang.log" >&2; exit 1; }
    m=$(buildah mount "$c")
    v1=$m/srv/goproxy/$module/@v
    mkdir -p "$v1" "$work/module/$module@v1.0.0"
    (
        cd "$work/module"
        printf 'module %s\n\ngo 1.18\n' $module | tee "$v1/v1.0.0.mod" > $module@v1.0.0/go.mod
        printf 'package greet\n\nfunc Greet(name string) string { return "hello, " + name }\n' > $module@v1.0.0/greet.go
        python3 -c 'import sys, zipfile; zip = zipfile.ZipFile(sys.argv[1], "w"); [zip.write(name) for name in sys.argv[2:]]; zip.close()' \
            "$v1/v1.0.0.zip" $module@v1.0.0/go.mod $module@v1.0.0/greet.go
        echo v1.0.0 > "$v1/list"
        echo '{"Version": "v1.0.0", "Time": "2022-03-15T00:00:00Z"}' > "$v1/v1.0.0.info"
    )
    rm -r "$work/module"
    buildah umount "$c" > /dev/null
    buildah config --cmd bash --workingdir /go --env GOPATH=/go --env PATH=/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        --env CGO_ENABLED=0 --env GOPROXY=file:///srv/goproxy --env GOSUMDB=off "$c"
    buildah commit --quiet --rm "$c" localhost/golang > /dev/null
    push golang library/golang:1.18 oci gzip
}

# What Docker's `nginx` is, of Debian's nginx: a server that logs to its streams and listens on an exposed port 80.
make_nginx() {
    local c
    c=$(buildah from localhost/debian)
    buildah run --isolation chroot --network host "$c" -- sh -ec "
        export DEBIAN_FRONTEND=noninteractive
        apt-get -q update; apt-get -qy install --no-install-recommends nginx-light
        apt-get clean; rm -rf /var/lib/apt/lists/*
        ln -sf /dev/stdout /var/log/nginx/access.log; ln -sf /dev/stderr /var/log/nginx/error.log
        " > "$work/nginx.log" 2>&1 || { tail -20 "$work/nginx.log" >&2; exit 1; }
    buildah config --cmd '["nginx","-g","daemon off;"]' --port 80/tcp --stop-signal SIGQUIT "$c"
    buildah commit --quiet --rm "$c" localhost/nginx > /dev/null
    push nginx library/nginx:latest oci gzip
}

# Programs and sources that the benches write with: fio, PostgreSQL, 20 packages to install and wheels, all offline.
make_bench() {
    local c wheels=$work/wheels
    rm -rf "$wheels"
    python3 -m pip -q download --only-binary :all: --python-version 3.11 --platform manylinux2014_x86_64 \
        --dest "$wheels" django flask requests
    c=$(buildah from localhost/software)
    buildah run --isolation chroot --network host "$c" -- sh -ec "
        export DEBIAN_FRONTEND=noninteractive
        apt-get -q update; apt-get -qy install --no-install-recommends fio postgresql dpkg-dev
        apt-get clean
        apt-get -qy install --no-install-recommends --download-only $(bench_packages)
        mkdir -p /srv/debs; mv /var/cache/apt/archives/*.deb /srv/debs
        (cd /srv/debs; dpkg-scanpackages -m . > Packages; gzip -k Packages)
        bench_packages='$(bench_packages)'; echo \$bench_packages > /srv/debs/names
        rm -rf /var/lib/apt/lists/*
        # 7,500 files, about 150 MB, to unpack
        (find /usr/include /usr/lib/gcc /usr/lib/python3 /usr/lib/python3.11 -type f -size -300k | sort | head -7500) |
            tar -C / -cf /srv/files.tar --verbatim-files-from -T - 2> /dev/null
    " > "$work/bench.log" 2>&1 || { tail -20 "$work/bench.log" >&2; exit 1; }
    buildah copy -q "$c" "$wheels" /srv/wheels > /dev/null
    buildah commit --quiet --rm "$c" localhost/bench > /dev/null
    push bench bench:latest oci gzip
}
bench_packages() {
    echo jq tree less rsync file vim-tiny nano bc zip unzip xz-utils bzip2 patch strace lsof socat netcat-openbsd wget screen tmux
}

# Everything a layer can hold, in five layers; see odd_layer_1 and on.
make_odd() {
    local c m n
    c=$(buildah from localhost/busybox)
    for n in 1 2 3 4; do
        m=$(buildah mount "$c"); mkdir -p "$m/odd"
        (cd "$m/odd" && "odd_layer_$n")
        buildah umount "$c" > /dev/null
        buildah commit --quiet --rm "$c" localhost/odd > /dev/null
        c=$(buildah from localhost/odd)
    done
    buildah rm "$c" > /dev/null
    push_all_forms odd
}

odd_layer_1() {
    umask 022
    # kinds
    mkdir kinds; mkfifo kinds/fifo; mknod kinds/char c 1 7; mknod kinds/block b 7 200; mknod -m 600 kinds/null c 1 3
    : > kinds/empty; head -c 5000000 /dev/urandom > kinds/big; truncate -s 3M kinds/sparse
    printf x | dd of=kinds/sparse bs=1 seek=1500000 conv=notrunc status=none
    ln -s ../kinds/big kinds/relative; ln -s /odd/kinds/big kinds/absolute; ln -s /nowhere kinds/dangling; ln -s loop kinds/loop
    ln -s "$(printf 'x%.0s' $(seq 4000))" kinds/long-target
    # names
    mkdir names; (cd names && touch -- ' ' '-rf' '.hidden' 'back\slash' $'new\nline' $'tab\t' '"quoted"' $'latin-\xff\xfe' 'ünïcode' '*' "$(printf 'n%.0s' $(seq 255))")
    (cd names && for _ in $(seq 30); do mkdir long-directory-name; cd long-directory-name; done; echo deep > file)
    # modes and owners
    mkdir modes; for mode in 0000 0400 0755 1755 2755 4755 6755 7777; do echo "$mode" > modes/$mode; mkdir modes/dir-$mode; chmod $mode modes/$mode modes/dir-$mode; done
    mkdir owners; for id in 1:1 1000:1000 12345:54321 0:65000 65534:65534; do touch "owners/$id"; chown "$id" "owners/$id"; done
    # times
    mkdir times; touch -d @0 times/epoch; touch -d '1965-01-02 03:04:05 UTC' times/before; touch -d '2040-05-06 07:08:09.123456789 UTC' times/after; touch -h -d @1.5 times/epoch
    # attributes
    mkdir attributes; echo a > attributes/capable; setcap cap_net_raw,cap_sys_admin+ep attributes/capable
    echo u > attributes/user; setfattr -n user.comment -v 'hello there' attributes/user; setfattr -n user.bytes -v 0x00ff0a attributes/user
    setfattr -n user.dir -v d attributes; setfattr -n user.large -v "$(printf 'v%.0s' $(seq 3000))" attributes/user
    # hard links
    mkdir -p links/sub; echo linked > links/a; ln links/a links/b; ln links/a links/sub/c; ln -s a links/soft; ln links/soft links/soft-too 2> /dev/null || true
    mkfifo links/fifo; ln links/fifo links/fifo-too; echo lower > links/lower
    # what the layers above will change
    mkdir -p gone/dir/deep opaque/dir/deep changed stays moved/sub again
    for f in gone/file gone/dir/file gone/dir/deep/file opaque/old opaque/dir/old opaque/dir/deep/old stays/file moved/file moved/sub/file again/file; do echo "1 $f" > $f; done
    echo file > changed/file-to-dir; mkdir changed/dir-to-file; echo x > changed/dir-to-file/x; ln -s /odd changed/link-to-dir
    mkdir changed/dir-to-link; echo x > changed/dir-to-link/x; echo s > changed/setuid; chmod 4755 changed/setuid; mkfifo changed/fifo-to-file
    mkdir -m 700 changed/dir-mode; echo below > changed/dir-mode/below
}

odd_layer_2() {
    rm gone/file; rm -r gone/dir; rm -r opaque; mkdir opaque; echo 2 > opaque/new
    rm changed/file-to-dir; mkdir changed/file-to-dir; echo in > changed/file-to-dir/in
    rm -r changed/dir-to-file; echo now > changed/dir-to-file
    rm changed/link-to-dir; mkdir changed/link-to-dir; echo in > changed/link-to-dir/in
    rm -r changed/dir-to-link; ln -s stays changed/dir-to-link
    chmod 0711 changed/setuid; rm changed/fifo-to-file; echo file > changed/fifo-to-file
    chown 1000:1000 changed/dir-mode; chmod 1750 changed/dir-mode; touch -d @1000000000 changed/dir-mode
    rm -r again; ln links/a links/from-above; ln links/lower links/lower-too; rm links/b
    mkdir -p opaque/dir; echo 2 > opaque/dir/new
}

odd_layer_3() {
    mkdir again; echo 3 > again/other; mv moved renamed; echo 3 > gone/file
    rm -r opaque/dir; mkdir opaque/dir; echo 3 > opaque/dir/newer
    setcap cap_net_bind_service+p attributes/capable; setfattr -x user.bytes attributes/user; setfattr -n user.third -v 3 attributes/user
    rm -r changed/file-to-dir; echo file-again > changed/file-to-dir; rm -r names/long-directory-name/long-directory-name/long-directory-name
    echo more >> kinds/big; chown 12345:54321 kinds/sparse
}

odd_layer_4() {
    rm -r again renamed/sub; mkdir -p renamed/sub; echo 4 > renamed/sub/file; chmod 0444 stays/file
    rm changed/dir-to-file; mkdir changed/dir-to-file; rm links/sub/c; ln links/from-above links/sub/c
}

# A small apt repository, so that tests install packages without a network.
make_debs() {
    rm -rf "$cache/debs"; mkdir -p "$cache/debs"
    (cd "$cache/debs" && apt-get -q -o APT::Sandbox::User=root download hello jq libjq1 libonig5 > /dev/null && dpkg-scanpackages -m . 2> /dev/null > Packages && gzip -k Packages)
}

# For the benches: 1,000 and 1,000,000 files over busybox.
make_many() { make_files many 1000; }
make_few() { make_files few 1; }
make_files() { # NAME THOUSANDS
    local c m d
    c=$(buildah from localhost/busybox); m=$(buildah mount "$c")
    for d in $(seq "$2"); do mkdir -p "$m/files/$d"; (cd "$m/files/$d" && seq 1000 | xargs touch); done
    buildah umount "$c" > /dev/null
    buildah commit --quiet --rm "$c" "localhost/$1" > /dev/null
    push "$1" "$1:latest" oci gzip
}

needs() { # what an image is made from
    case $1 in odd | configured | many | few) echo busybox ;; software | golang | nginx) echo debian ;; bench | workloads) echo software ;; esac
}

# Makes one image unless it was made by these very lines, over the same base.
make() {
    local before stamp
    declare -F "make_$1" > /dev/null || { say "there is no image $1"; exit 2; }
    for before in $(needs "$1"); do make "$before"; done
    stamp=$( {
        declare -f "make_$1"
        [ "$1" != odd ] || declare -f odd_layer_1 odd_layer_2 odd_layer_3 odd_layer_4
        [ "$1" != bench ] || declare -f bench_packages
        for before in $(needs "$1"); do cat "$work/$before.made"; done
    } | sha256sum | cut -c1-64)
    [ "$(cat "$work/$1.made" 2> /dev/null)" != "$stamp" ] || return 0
    local start=$SECONDS
    "make_$1"
    rm -f "$cache/$1.tree"
    # What no image stands on and no listing shows is in the registry now: no need to keep it unpacked (1.1 GB).
    case $1 in golang | nginx | workloads) buildah rmi "localhost/$1" > /dev/null ;; esac
    echo "$stamp" > "$work/$1.made"
    say "$1 made in $((SECONDS - start)) s"
}

# What podman shows of IMAGE (the kernel's overlayfs over its unpacked layers), as the given lister prints it.
tree() { # IMAGE LISTER
    [ ! -e "$cache/$1.tree" ] || [ "$2" -nt "$cache/$1.tree" ] || return 0
    local m
    m=$(podman image mount "localhost/$1")
    "$2" "$m" > "$work/$1.tree"
    podman image unmount "localhost/$1" > /dev/null
    mv "$work/$1.tree" "$cache/$1.tree"
}

[ "$(id -u)" = 0 ] || { say "run me as root: device nodes and foreign owners are part of the images"; exit 1; }
umask 022
mkdir -p "$work" "$cache/registry"
chmod 700 "$work"
printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' "$work/storage" "$work/runroot" > "$CONTAINERS_STORAGE_CONF"
exec 9> "$cache/lock"
flock 9
if [ "${1:-}" = trees ]; then
    for image in odd debian software; do tree "$image" "$2"; done
else
    for image in "$@"; do make "$image"; done
fi
