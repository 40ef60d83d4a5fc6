#!/bin/sh
# Runs a program in a Debian 13 of its own, in the folder .debian13, which is made once and kept. The
# project is at /project there. It needs root and debootstrap. `unshare` lets the mounts end with the
# program.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
root=$project/.debian13/root
if ! [ -e "$root" ]; then
  mkdir -p "$project/.debian13"
  "$here/debootstrap.sh" "$root" ca-certificates,python3,python3-venv,python3-dev,gcc,g++,make
fi
mkdir -p "$root/project" "$root/shared"
cp /etc/resolv.conf "$root/etc/"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
exec unshare --mount --pid --fork sh -eu -c '
  root=$1 project=$2; shift 2
  mount --rbind /dev "$root/dev"
  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys"
  mount --bind "$project" "$root/project"
  [ ! -e "$project/../shared" ] || mount --bind -o ro "$project/../shared" "$root/shared"
  exec chroot "$root" "$@"' enter "$root" "$project" "$@"
