#!/bin/bash
# mkinitramfs.sh KERNEL USERLAND BUSYBOX OUT: build the guest's uncompressed initramfs.
#
# KERNEL and USERLAND are folders of extracted packages. Each program brings the libraries that the
# userland's own loader lists for it; each module brings its dependencies, decompressed. No root is needed:
# the kernel's built-in archive already has /dev/console, and cpio writes root as every file's owner.
set -euo pipefail

kernel=$1 userland=$2 busybox=$3 out=$4
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
programs=(usr/sbin/nvme usr/bin/fio usr/sbin/mke2fs usr/sbin/e2fsck usr/sbin/blkdiscard usr/bin/lsblk usr/sbin/ip
    usr/bin/ss usr/bin/taskset)
modules=(virtio_pci virtio_net virtio_console virtio_blk nvme nvme_tcp nvmet nvmet_tcp null_blk brd loop configfs
    ext4 crc32c_generic crc32c_intel libcrc32c)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
libraries=$userland/usr/lib/x86_64-linux-gnu
loader=$libraries/ld-linux-x86-64.so.2

mkdir -p "$root"/{proc,sys,dev,etc/nvme,root,tmp,run,mnt} "$root"/usr/{bin,sbin,lib64,lib/x86_64-linux-gnu}
for folder in bin sbin lib lib64; do ln -s usr/$folder "$root/$folder"; done
install -m755 "$busybox" "$root/usr/bin/busybox"
ln -s busybox "$root/usr/bin/sh"
cp -L "$loader" "$root/usr/lib64/ld-linux-x86-64.so.2"
install -m755 "$here/init" "$root/init"
install -m755 "$here/agent" "$root/usr/sbin/agent"
cp "$userland/etc/mke2fs.conf" "$root/etc/"
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"

for program in "${programs[@]}"; do
    # Debian moves a program between sbin and bin now and then: take it from where it is.
    source=$(find "$userland/usr/bin" "$userland/usr/sbin" "$userland/bin" "$userland/sbin" \
        -name "${program##*/}" 2>/dev/null | head -1 || true)
    [ -n "$source" ] || { echo "mkinitramfs.sh: no ${program##*/} in $userland" >&2; exit 1; }
    install -D -m755 "$(readlink -f "$source")" "$root/$program"
    "$loader" --library-path "$libraries:$libraries/ceph:$libraries/systemd" --list "$source" |
        awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | while read -r library; do
        name=${library##*/}
        case $name in ld-linux*) continue ;; esac
        [ -e "$root/usr/lib/x86_64-linux-gnu/$name" ] || cp -L "$library" "$root/usr/lib/x86_64-linux-gnu/$name"
    done
done
ln -s mke2fs "$root/usr/sbin/mkfs.ext4"

tree=$(find "$kernel/lib/modules" "$kernel/usr/lib/modules" -mindepth 1 -maxdepth 1 2>/dev/null | head -1 || true)
[ -n "$tree" ] || { echo "mkinitramfs.sh: no modules in $kernel" >&2; exit 1; }
version=${tree##*/}
mkdir -p "$work/all/lib/modules"
cp -a "$tree" "$work/all/lib/modules/$version"
depmod -b "$work/all" "$version"
target=$root/usr/lib/modules/$version
mkdir -p "$target"
for module in "${modules[@]}"; do
    # A module that is built in, or that this kernel does not have, names no file.
    modprobe -d "$work/all" -S "$version" --show-depends "$module" 2>/dev/null || true
done | awk '$1 == "insmod" { print $2 }' | sort -u | while read -r file; do
    place=$target/${file#"$work/all/lib/modules/$version/"}
    place=${place%.xz}
    mkdir -p "${place%/*}"
    case $file in *.xz) xz -dc "$file" >"$place" ;; *) cp "$file" "$place" ;; esac
done
cp "$tree"/modules.builtin* "$tree/modules.order" "$target/"
depmod -b "$root" "$version"

(cd "$root" && find . | LC_ALL=C sort | cpio -o -H newc --quiet --reproducible -R 0:0) >"$out.new"
mv "$out.new" "$out"
ls -l "$out"
