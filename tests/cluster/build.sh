#!/bin/bash
# Builds the programs of Kubernetes, Argo and Kubeflow Pipelines, and the images of their pods. What is
# there is kept: remove a folder below .cluster to have it built again.
. "$(dirname "$0")/environment.sh"
KUBERNETES=v1.34.4 STAGING=v0.34.4 ETCD=v3.6.13 ARGO=v4.0.5 KFP=2.17.0 GOFAKES3=v1.2.0
mkdir -p "$C"/{bin,log,run,state,etc}
packages=(containerd runc containernetworking-plugins nftables conntrack iproute2 debootstrap buildah
  dnsmasq-base mariadb-server-core mariadb-client-core jq openssl)
if ! dpkg -s "${packages[@]}" >/dev/null 2>&1; then
  apt-get update -q && apt-get install -qy --no-install-recommends "${packages[@]}"
fi
build() { CGO_ENABLED=0 go build -trimpath "$@"; }

if ! [ -e "$C/bin/etcd" ]; then
  mkdir -p "$C/src/etcd" && cd "$C/src/etcd"
  [ -e go.mod ] || go mod init cluster
  go get go.etcd.io/etcd/server/v3@$ETCD
  build -mod=mod -ldflags '-s -w' -o "$C/bin/etcd" go.etcd.io/etcd/server/v3
fi
[ -e "$C/bin/gofakes3" ] || CGO_ENABLED=0 GOBIN=$C/bin go install github.com/johannesboyne/gofakes3/cmd/gofakes3@$GOFAKES3

if ! [ -e "$C/bin/kubelet" ]; then    # a module that requires Kubernetes, with the modules of its own tree
  mkdir -p "$C/src/kubernetes" && cd "$C/src/kubernetes"
  go mod download k8s.io/kubernetes@$KUBERNETES
  theirs=$(go env GOMODCACHE)/cache/download/k8s.io/kubernetes/@v/$KUBERNETES.mod
  [ -e go.mod ] || go mod init cluster
  go mod edit -require k8s.io/kubernetes@$KUBERNETES
  grep -oE '^\s+k8s.io/[a-z0-9-]+ => \./staging' "$theirs" | while read -r module _; do
    go mod edit -replace "$module=$module@$STAGING"
  done
  programs=(kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubectl kubelet)
  packages=("${programs[@]/#/k8s.io/kubernetes/cmd/}")
  go get "${packages[@]/%/@$KUBERNETES}"
  version=k8s.io/component-base/version
  build -mod=mod -o "$C/bin/" -ldflags "-s -w -X $version.gitVersion=$KUBERNETES -X $version.gitMajor=1 -X $version.gitMinor=34" \
    "${packages[@]}"
fi

# sources NAME VERSION REPOSITORY FOLDER: from a folder of this machine, if there is one.
sources() {
  [ ! -e "$C/src/$1" ] || return 0
  if [ -n "$4" ]; then cp -r "$4" "$C/src/$1"; else git clone -q --depth 1 --branch "$2" "$3" "$C/src/$1"; fi
}
sources argo $ARGO https://github.com/argoproj/argo-workflows "${ARGO_SOURCE:-}"
sources kfp $KFP https://github.com/kubeflow/pipelines "${KFP_SOURCE:-}"
mkdir -p "$C/bin/pods"
if ! [ -e "$C/bin/pods/apiserver" ]; then
  cd "$C/src/argo"
  build -mod=mod -ldflags "-s -w -X github.com/argoproj/argo-workflows/v4.version=$ARGO" -o "$C/bin/pods/" \
    ./cmd/workflow-controller ./cmd/argoexec
  cd "$C/src/kfp"
  go mod edit -replace github.com/argoproj/argo-workflows/v4="$C/src/argo"
  build -mod=mod -ldflags '-s -w' -o "$C/bin/pods/" \
    ./backend/src/v2/cmd/driver ./backend/src/v2/cmd/launcher-v2 ./backend/src/agent/persistence
  # The API server needs cgo for SQLite.
  CGO_ENABLED=1 go build -mod=mod -trimpath -tags netgo,osusergo -ldflags '-s -w -linkmode external -extldflags -static' \
    -o "$C/bin/pods/" ./backend/src/apiserver
fi

# It makes the base of all images, too.
id=$("$HERE/image.sh")

# One image with all programs, under each name in the manifests, with its options.
if ! [ -e "$C/images/programs" ]; then
  mkdir -p "$C/samples" && echo '{"pipelines": []}' >"$C/samples/sample_config.json"
  container=$(images from --pull-never $BASE)
  images add -q "$container" "$C/bin/pods" /usr/bin/ >/dev/null
  images add -q "$container" "$C/src/kfp/backend/src/apiserver/config" /config >/dev/null
  images add -q "$container" "$C/samples" /config >/dev/null
  images commit -q --rm "$container" localhost/programs >/dev/null
  named() {
    local name=$1; shift
    container=$(images from --pull-never localhost/programs)
    images config --env PATH=/usr/bin:/bin "$@" "$container" 2>/dev/null
    images commit -q --rm "$container" "$name" >/dev/null
    images push -q --disable-compression "$name" "oci:$C/images/programs.new:$name"
  }
  mkdir -p "$C/images" && rm -rf "$C/images/programs.new"
  named docker.io/library/alpine:3.23 --cmd /bin/sh
  named registry.k8s.io/pause:3.10.1 --entrypoint '["/bin/sleep", "infinity"]' --cmd ''
  named quay.io/argoproj/workflow-controller:$ARGO --user 8737 --entrypoint '["workflow-controller"]' --cmd ''
  named quay.io/argoproj/argoexec:$ARGO --entrypoint '["argoexec"]' --cmd ''
  named ghcr.io/kubeflow/kfp-driver:$KFP --user 1000 --entrypoint '["/bin/driver"]' --cmd ''
  named ghcr.io/kubeflow/kfp-launcher:$KFP --user 1000 --entrypoint '["/bin/launcher-v2"]' --cmd ''
  named ghcr.io/kubeflow/kfp-api-server:$KFP --user 1000 \
    --cmd '/bin/apiserver --config=/config --sampleconfig=/config/sample_config.json -logtostderr=true'
  named ghcr.io/kubeflow/kfp-persistence-agent:$KFP --user 1000 \
    --cmd '/bin/persistence --logtostderr=true --namespace=kubeflow --numWorker 2 --executionType Workflow'
  mv "$C/images/programs.new" "$C/images/programs"
fi

# imgpipe's own image, and the same for another user.
if [ "$(cat "$C/images/imgpipe.id" 2>/dev/null)" != "$id" ]; then
  rm -rf "$C/images/imgpipe"
  container=$(images from --pull-never $IMAGE)
  images config --user 2000 "$container"
  images commit -q --rm "$container" docker.io/registry/imgpipe:other >/dev/null
  for name in $IMAGE docker.io/registry/imgpipe:other; do
    images push -q --disable-compression $name "oci:$C/images/imgpipe:$name"
  done
  echo "$id" >"$C/images/imgpipe.id"
fi
