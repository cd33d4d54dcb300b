#!/bin/sh
# Runs lab/tests/namespaces.rs on a kernel that has netem: Debian's cloud kernel under qemu without KVM, about
# ten seconds. Needs the packages qemu-system-x86, linux-image-cloud-amd64, busybox-static, cpio, kmod; skips,
# saying so, where they are not.
#
#   lab/ci/full-kernel.sh [netem|user]
set -eu
backend=${1:-netem}
cd "$(dirname "$0")/../.."

kernel=$(ls /boot/vmlinuz-*-cloud-amd64 2>/dev/null | sort -V | tail -1)
for need in qemu-system-x86_64 cpio modprobe /bin/busybox; do
    command -v "$need" >/dev/null || { echo "skipped: $need is not installed"; exit 0; }
done
[ -n "$kernel" ] || { echo "skipped: linux-image-cloud-amd64 is not installed"; exit 0; }
version=${kernel#/boot/vmlinuz-}

test=$(cargo test -p tollway-lab --test namespaces --no-run --message-format=json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*namespaces-[^"]*\)".*/\1/p' | tail -1)
[ -x "$test" ] || { echo "cannot build lab/tests/namespaces.rs"; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root/bin" "$root/proc" "$root/sys" "$root/dev" "$root/modules"
cp /bin/busybox "$root/bin/"
for tool in sh mount insmod ip poweroff sleep uname; do ln -s busybox "$root/bin/$tool"; done
cp "$test" "$root/bin/namespaces"
ldd "$test" | grep -o '/[^ ]*' | sort -u | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done

{
    echo '#!/bin/sh'
    echo 'mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev'
    for module in af_packet veth bridge sch_htb sch_netem; do
        modprobe -S "$version" --show-depends "$module" 2>/dev/null | awk '/^insmod/ { print $2 }'
    done | awk '!seen[$0]++' | while read -r file; do
        cp "$file" "$root/modules/"
        echo "insmod /modules/$(basename "$file")"
    done
    echo 'ip link set lo up; uname -r'
    echo "LAB_BACKEND=$backend /bin/namespaces; echo \"EXIT \$?\""
    echo 'poweroff -f'
} > "$root/init"
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc 2>/dev/null) | gzip -1 > "$work/initrd.gz"

timeout 120 qemu-system-x86_64 -accel tcg -m 1024 -nographic -no-reboot -kernel "$kernel" \
    -initrd "$work/initrd.gz" -append "console=ttyS0 quiet panic=-1 rdinit=/init" < /dev/null > "$work/log" 2>&1 || true
sed -n '/^test /,$p' "$work/log"
grep -q '^EXIT 0' "$work/log"
