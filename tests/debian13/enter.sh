#!/bin/sh
# Runs a program in a Debian 13 of its own, in the folder .debian13, which is made once and kept. The
# project is at /project there. It needs root, debootstrap and a mirror of Debian: that of this machine's
# apt. `unshare` lets the mounts end with the program.
set -eu
project=$(cd "$(dirname "$0")/../.." && pwd)
root=$project/.debian13/root
if ! [ -e "$root" ]; then
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
  rm -rf "$root.new" && mkdir -p "$root.new"
  debootstrap --variant=minbase --include=python3,python3-venv,python3-dev,gcc,g++,ca-certificates,make \
    trixie "$root.new" ${mirror:+"$mirror"} >"$project/.debian13/debootstrap.log"
  # The certificates of this machine come along: a package index may be behind a proxy.
  cp /etc/ssl/certs/ca-certificates.crt "$root.new/etc/ssl/certs/"
  mkdir -p "$root.new/project" "$root.new/shared"
  mv "$root.new" "$root"
fi
cp /etc/resolv.conf "$root/etc/"
[ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/"
exec unshare --mount --pid --fork sh -eu -c '
  root=$1 project=$2; shift 2
  mount --rbind /dev "$root/dev"
  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys"
  mount --bind "$project" "$root/project"
  [ ! -e "$project/../shared" ] || mount --bind -o ro "$project/../shared" "$root/shared"
  exec chroot "$root" "$@"' enter "$root" "$project" "$@"
