#!/bin/sh
# debootstrap.sh FOLDER PACKAGE,...: a Debian 13 in a folder, with these packages, from the mirror of this
# machine's apt. It needs root and debootstrap.
set -eu
root=$1 packages=$2
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
rm -rf "$root.new" && mkdir -p "$root.new"
debootstrap --variant=minbase --include="$packages" trixie "$root.new" ${mirror:+"$mirror"} >"$root.log"
rm -f "$root.new"/var/cache/apt/archives/*.deb
# The certificates of this machine come along: a package index may be behind a proxy.
mkdir -p "$root.new/etc/ssl/machine"
cp /etc/ssl/certs/ca-certificates.crt "$root.new/etc/ssl/machine/"
[ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$root.new/etc/"
mv "$root.new" "$root"
