#!/bin/bash
# fetch.sh [KERNEL]...: bring the test guest's parts into the cache and build its initramfs.
#
# KERNEL is 6.12 (the default) or 6.1, Debian's cloud kernels. Everything comes from Debian's own
# packages through private apt roots and is extracted, never installed, so the machine's own package
# state is left alone and root is not needed. Run again, it answers at once when the cache is complete.
#
#   CACHE/host           QEMU 10 (bookworm-backports), busybox-static, cpio, kmod and whatever of their libraries
#                        the machine lacks
#   CACHE/userland       nvme-cli, fio, e2fsprogs, util-linux of trixie
#   CACHE/KERNEL/        vmlinux (uncompressed, booted by PVH), modules, initramfs.cpio
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${FERRULE_GUEST_CACHE:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/ferrule-guest}
kernels=("$@")
[ ${#kernels[@]} -gt 0 ] || kernels=(6.12)

fail() {
    echo "fetch.sh: $*" >&2
    exit 1
}

# What a kernel is called in Debian: the meta package whose dependency is the image.
meta_package() {
    case $1 in
    6.12) echo linux-image-6.12-cloud-amd64 ;;
    6.1) echo linux-image-cloud-amd64 ;;
    *) fail "unknown kernel $1: known are 6.12 and 6.1" ;;
    esac
}

# The tools of CACHE/host come first; its libraries only fill gaps of the machine's own.
use_host_tools() {
    export PATH="$cache/host/usr/sbin:$cache/host/usr/bin:$cache/host/sbin:$cache/host/bin:$PATH:/usr/sbin:/sbin"
    export LD_LIBRARY_PATH="$cache/host/usr/lib/x86_64-linux-gnu:$cache/host/lib/x86_64-linux-gnu"
}

# aptroot NAME STATUSFILE COMMAND...: an apt command in the private root NAME.
aptroot() {
    local root=$cache/apt/$1 status=$2 command=$3
    shift 3
    "$command" -q -o Dir::Etc="$root/etc" -o Dir::State="$root/state" -o Dir::State::status="$status" \
        -o Dir::State::lists="$root/lists" -o Dir::Cache="$root/cache" -o APT::Sandbox::User= \
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::Retries=3 -o Debug::NoLocking=true "$@"
}

# make_root NAME SUITE...: a private root with its own sources; "security:SUITE" is of the security archive.
make_root() {
    local root=$cache/apt/$1 suite uri
    shift
    rm -rf "$root"
    mkdir -p "$root"/{etc/{preferences.d,sources.list.d,apt.conf.d},state,lists/partial,cache/archives/partial}
    : >"$root/state/status"
    for suite; do
        uri=$mirror
        case $suite in security:*) uri=$security suite=${suite#security:} ;; esac
        echo "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main"
    done >"$root/etc/sources.list"
}

# The mirror is the one that the machine's own apt uses.
find_mirror() {
    local uris
    uris=$(apt-get indextargets --no-release-info --format '$(REPO_URI)' | sort -u)
    mirror=$(grep -E '/debian/?$' <<<"$uris" | head -1 || true)
    security=$(grep -E '/debian-security/?$' <<<"$uris" | head -1 || true)
    [ -n "$mirror" ] || fail "apt knows no Debian archive: check the machine's apt sources"
    [ -n "$security" ] || security=${mirror/%\/debian*/\/debian-security}
}

# extract INTO DEB...: unpack packages into a folder of their own.
extract() {
    local into=$1 deb
    shift
    rm -rf "$into.new"
    mkdir -p "$into.new"
    for deb; do [ ! -e "$deb" ] || dpkg-deb -x "$deb" "$into.new"; done
    rm -rf "$into"
    mv "$into.new" "$into"
    # The packages themselves are not needed again.
    rm -f "$@"
}

fetch_host_tools() {
    local archives=$cache/apt/host/cache/archives
    make_root host bookworm bookworm-updates security:bookworm-security bookworm-backports
    aptroot host /var/lib/dpkg/status apt-get update
    # With the machine's own status apt names only what the machine lacks.
    aptroot host /var/lib/dpkg/status apt-get -y --download-only --no-install-recommends \
        -t bookworm-backports install qemu-system-x86
    aptroot host /var/lib/dpkg/status apt-get -y --download-only --no-install-recommends \
        install busybox-static cpio kmod lz4 xz-utils zstd
    extract "$cache/host" "$archives"/*.deb
    use_host_tools
    # The kmod package's links are absolute: they would name the machine's own.
    if [ -x "$cache/host/bin/kmod" ]; then
        for name in depmod modprobe; do ln -sf ../bin/kmod "$cache/host/sbin/$name"; done
    fi
    # Already installed on the machine: then the machine's own is used.
    mkdir -p "$cache/host/bin" "$cache/host/usr/bin"
    [ -x "$cache/host/bin/busybox" ] || cp "$(command -v busybox)" "$cache/host/bin/busybox"
    [ -x "$cache/host/usr/bin/qemu-system-x86_64" ] ||
        ln -s "$(command -v qemu-system-x86_64)" "$cache/host/usr/bin/qemu-system-x86_64"
    qemu-system-x86_64 --version | grep -q 'version 10\.' || fail "QEMU 10 does not run from $cache/host"
}

fetch_userland() {
    make_root userland trixie security:trixie-security
    aptroot userland "$cache/apt/userland/state/status" apt-get update
    aptroot userland "$cache/apt/userland/state/status" apt-get -y --download-only --no-install-recommends \
        install nvme-cli e2fsprogs util-linux fio iproute2
    extract "$cache/userland" "$cache"/apt/userland/cache/archives/*.deb
}

# unpack_vmlinux BZIMAGE OUT: the ELF kernel inside a bzImage. Offsets: Linux x86 boot protocol, setup_sects
# (1F1h), payload_offset (248h) and payload_length (24Ch).
unpack_vmlinux() {
    local image=$1 out=$2 sectors offset length magic tool
    sectors=$(od -An -j $((0x1f1)) -N1 -tu1 "$image")
    offset=$(od -An -j $((0x248)) -N4 -tu4 "$image")
    length=$(od -An -j $((0x24c)) -N4 -tu4 "$image")
    [ "$((sectors))" -ne 0 ] || sectors=4
    offset=$(((sectors + 1) * 512 + offset))
    magic=$(od -An -j "$offset" -N4 -tx1 "$image" | tr -d ' ')
    case $magic in
    28b52ffd) tool="zstd -dcq" ;;
    02214c18) tool="lz4 -dcq" ;;
    fd377a58) tool="xz -dcq --single-stream" ;;
    1f8b*) tool="gzip -dcq" ;;
    *) fail "$image: unknown compression $magic" ;;
    esac
    # The payload ends with its uncompressed length, which the tools take for trailing rubbish.
    tail -c +$((offset + 1)) "$image" | head -c $((length - 4)) | $tool >"$out" || true
    [ "$(head -c 4 "$out" | od -An -tx1 | tr -d ' ')" = 7f454c46 ] || fail "$image: no ELF kernel inside"
}

fetch_kernel() {
    local kernel=$1 root=kernel-$1 meta image status
    meta=$(meta_package "$kernel")
    status=$cache/apt/$root/state/status
    make_root "$root" bookworm security:bookworm-security
    aptroot "$root" "$status" apt-get update
    image=$(aptroot "$root" "$status" apt-cache depends "$meta" |
        awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ { print $2; exit }')
    [ -n "$image" ] || fail "$meta names no kernel image"
    (cd "$cache/apt/$root" && aptroot "$root" "$status" apt-get download "$image")
    extract "$cache/$kernel" "$cache/apt/$root/$image"_*.deb
    unpack_vmlinux "$cache/$kernel"/boot/vmlinuz-* "$cache/$kernel/vmlinux"
}

# step STAMP KEY COMMAND...: run once for each key, say how long it took, leave the log beside the stamp.
step() {
    local name=$1 stamp=$cache/$1.done key=$2 log=$cache/$1.log begin=$SECONDS
    shift 2
    [ "$(cat "$stamp" 2>/dev/null || true)" != "$key" ] || return 0
    rm -f "$stamp"
    # In a subshell of its own, so that errexit holds inside it.
    set +e
    (
        set -e
        "$@"
    ) >"$log" 2>&1
    local status=$?
    set -e
    [ $status -eq 0 ] || { tail -25 "$log" >&2; fail "$name failed; the whole log: $log"; }
    echo "$key" >"$stamp"
    echo "guest: $name took $((SECONDS - begin)) s" >&2
}

. /etc/os-release
[ "${VERSION_CODENAME:-}" = bookworm ] && [ "$(uname -m)" = x86_64 ] ||
    fail "the guest's parts are Debian 12 packages for x86_64; this is ${PRETTY_NAME:-unknown} on $(uname -m)"
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9 || fail "cannot lock $cache/lock"

own=$(sha256sum <"$here/fetch.sh" | cut -c1-16)
parts=$(cat "$here"/{mkinitramfs.sh,init,agent} | sha256sum | cut -c1-16)
mirror='' security=''
fetching() {
    [ -n "$mirror" ] || find_mirror
    "$@"
}
# The machine's own QEMU may have been all that CACHE/host pointed to.
[ -x "$cache/host/usr/bin/qemu-system-x86_64" ] || rm -f "$cache/host.done"
step host "$own" fetching fetch_host_tools
use_host_tools
step userland "$own" fetching fetch_userland
for kernel in "${kernels[@]}"; do
    step "kernel-$kernel" "$own" fetching fetch_kernel "$kernel"
    step "initramfs-$kernel" "$own-$parts" "$here/mkinitramfs.sh" "$cache/$kernel" "$cache/userland" \
        "$cache/host/bin/busybox" "$cache/$kernel/initramfs.cpio"
done
echo "$cache"
