#!/bin/bash
# run.sh FOLDER PROGRAM WORD...: runs a program in imgpipe's image without a cluster, as the user of the
# image. The folder is /data there.
. "$(dirname "$0")/environment.sh"
container=$(images from --pull-never $IMAGE)
trap 'images rm "$container" >/dev/null' EXIT
images run --isolation chroot -v "$1:/data" "$container" -- "${@:2}"
