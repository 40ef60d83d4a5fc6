# Paths and names of the cluster; the other scripts source it.
set -euo pipefail
HERE=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
PROJECT=$(realpath "$HERE/../..")
C=$(realpath -m "${IMGPIPE_CLUSTER:-$PROJECT/.cluster}")
export PATH=$C/bin:$PATH
export KUBECONFIG=$C/pki/admin.kubeconfig
NETWORK=imgpipe-cluster    # a network namespace, with no way out of this machine
NODE=10.77.0.1
PODS=10.244.0.0/24
SOCKET=$C/state/containerd.sock
inside() { nsenter --net=/run/netns/$NETWORK -- "$@"; }
kubectl() { inside "$C/bin/kubectl" "$@"; }
ctr() { command ctr -a "$SOCKET" -n k8s.io "$@"; }
BASE=docker.io/library/debian:trixie-slim    # in the Dockerfile
IMAGE=docker.io/registry/imgpipe:1
images() { buildah --root "$C/storage" --runroot "$C/state/storage" --storage-driver overlay "$@"; }
# start NAME COMMAND...: a process in the network namespace; its id and its log have its name.
start() {
  local name=$1; shift
  setsid nsenter --net=/run/netns/$NETWORK -- "$@" >"$C/log/$name.log" 2>&1 </dev/null &
  echo $! >"$C/run/$name.pid"
}
# until_true SECONDS COMMAND...: wait until a command succeeds.
until_true() {
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { echo "not in time: $*; see $C/log" >&2; return 1; }
    sleep 0.5
  done
}
