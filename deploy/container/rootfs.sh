#!/bin/sh
# Lays out all that the image holds: the program, the libraries it names, certificates of public authorities, and a
# user. No shell, no package manager, nothing else. Usage: rootfs.sh PROGRAM FOLDER
set -eu
program=$1
root=$2

mkdir -p "$root/usr/bin" "$root/etc/ssl/certs" "$root/etc/revolve" "$root/var/lib/revolve" "$root/tmp"
cp "$program" "$root/usr/bin/revolve"
chmod 0755 "$root/usr/bin/revolve"

# `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, and the loader: `/lib64/ld-linux-x86-64.so.2 (0x…)`.
ldd "$program" | sed -n 's/^\t\(.* => \)\{0,1\}\(\/[^ ]*\) (.*$/\2/p' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done

cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
printf 'revolve:x:65532:65532:revolve:/var/lib/revolve:/nonexistent\n' > "$root/etc/passwd"
printf 'revolve:x:65532:\n' > "$root/etc/group"
# Without it the resolver asks DNS before /etc/hosts.
printf 'hosts: files dns\n' > "$root/etc/nsswitch.conf"
chmod 0755 "$root"
chmod 0700 "$root/var/lib/revolve"
chmod 1777 "$root/tmp"
