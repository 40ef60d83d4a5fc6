#!/bin/bash
# Builds imgpipe's image from its Dockerfile without Docker, and prints the id of the image. Its base is a
# Debian 13 of debootstrap under the name in the Dockerfile. It needs root, debootstrap and buildah.
. "$(dirname "$0")/environment.sh"
mkdir -p "$C"/{log,state}
# Kubeflow's own pods, which have the same base, wait for their services with netcat.
[ -e "$C/base" ] || "$PROJECT/tests/debian13/debootstrap.sh" "$C/base" netcat-openbsd
if ! images inspect $BASE >/dev/null 2>&1; then
  certificates=/etc/ssl/machine/ca-certificates.crt
  container=$(images from scratch)
  images add -q "$container" "$C/base" / >/dev/null
  images config --env PATH=/usr/sbin:/usr/bin:/sbin:/bin --env SSL_CERT_FILE=$certificates \
    --env PIP_CERT=$certificates --cmd bash "$container"
  images commit -q --rm "$container" $BASE >/dev/null
fi
images build -q --isolation chroot --pull-never --layers -t $IMAGE "$PROJECT" 2>"$C/log/image.log" \
  || { tail -n 30 "$C/log/image.log" >&2; exit 1; }
