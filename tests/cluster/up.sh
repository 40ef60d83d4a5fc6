#!/bin/bash
# Starts Kubernetes with Kubeflow Pipelines in a network namespace of its own.
. "$(dirname "$0")/environment.sh"
# What a test left that was killed.
[ ! -e /run/netns/$NETWORK ] || "$HERE/down.sh"
mkdir -p "$C"/{log,run,pki,etc,cni,state,containerd,kubelet,objects,volume,mysql}
ip netns add $NETWORK
inside ip link set lo up
inside ip link add node0 type bridge
inside ip addr add $NODE/24 dev node0
inside ip link set node0 up
inside ip route add default dev node0    # the API server and kube-proxy want a default route
inside sysctl -qw net.ipv4.ip_forward=1

# Certificates and kubeconfigs.
certificate() {    # NAME SUBJECT NAMES
  openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" 2>/dev/null \
    -extfile <(printf 'extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=%s\n' "${3:-DNS:$1}")
}
configured() {    # NAME: the kubeconfig of a certificate
  local config=("$C/bin/kubectl" config --kubeconfig="$1.kubeconfig")
  "${config[@]}" set-cluster c --server=https://$NODE:6443 --certificate-authority=ca.crt --embed-certs
  "${config[@]}" set-credentials u --client-certificate="$1.crt" --client-key="$1.key" --embed-certs
  "${config[@]}" set-context x --cluster=c --user=u
  "${config[@]}" use-context x
}
cd "$C/pki"
if ! [ -e admin.kubeconfig ]; then
  openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -subj /CN=imgpipe -days 30 -out ca.crt 2>/dev/null
  openssl genrsa -out accounts.key 2048 2>/dev/null
  certificate apiserver /CN=kube-apiserver "DNS:kubernetes.default.svc,DNS:localhost,IP:127.0.0.1,IP:10.96.0.1,IP:$NODE"
  certificate kubelet /O=system:nodes/CN=system:node:node1 "DNS:node1,IP:$NODE"
  certificate api-client /O=system:masters/CN=api-client
  for name in controller-manager scheduler proxy; do certificate $name /CN=system:kube-$name; done
  certificate admin /O=system:masters/CN=admin
  for name in controller-manager scheduler proxy kubelet admin; do configured $name >/dev/null; done
fi

cat >"$C/etc/containerd.toml" <<X
version = 2
root = "$C/containerd"
state = "$C/state/containerd"
[grpc]
  address = "$SOCKET"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.10.1"
  disable_apparmor = true
  restrict_oom_score_adj = true    # for machines without CAP_SYS_RESOURCE
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$C/cni"
X
cat >"$C/cni/pods.conflist" <<X
{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true,
  "hairpinMode": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "$PODS"}]],
  "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "$C/state/addresses"}}]}
X
cat >"$C/etc/kubelet.yaml" <<X
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $C/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $C/pki/kubelet.crt
tlsPrivateKeyFile: $C/pki/kubelet.key
containerRuntimeEndpoint: unix://$SOCKET
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
clusterDNS: [$NODE]
clusterDomain: cluster.local
resolvConf: ""
podLogsDir: $C/kubelet/logs
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
X
cat >"$C/etc/proxy.yaml" <<X
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $C/pki/proxy.kubeconfig}
mode: nftables
clusterCIDR: $PODS
hostnameOverride: node1
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nftables: {masqueradeAll: true}
X

start etcd etcd --data-dir "$C/etcd" --unsafe-no-fsync
start apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 --advertise-address=$NODE \
  --service-cluster-ip-range=10.96.0.0/16 --authorization-mode=Node,RBAC --allow-privileged=true \
  --client-ca-file="$C/pki/ca.crt" --tls-cert-file="$C/pki/apiserver.crt" --tls-private-key-file="$C/pki/apiserver.key" \
  --kubelet-client-certificate="$C/pki/api-client.crt" --kubelet-client-key="$C/pki/api-client.key" \
  --kubelet-certificate-authority="$C/pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
  --service-account-key-file="$C/pki/accounts.key" --service-account-signing-key-file="$C/pki/accounts.key" \
  --service-account-issuer=https://kubernetes.default.svc.cluster.local
until_true 120 kubectl get --raw /readyz
start controller-manager kube-controller-manager --kubeconfig="$C/pki/controller-manager.kubeconfig" \
  --use-service-account-credentials --service-account-private-key-file="$C/pki/accounts.key" \
  --root-ca-file="$C/pki/ca.crt" --leader-elect=false
start scheduler kube-scheduler --kubeconfig="$C/pki/scheduler.kubeconfig" --leader-elect=false
start proxy kube-proxy --config="$C/etc/proxy.yaml"
start containerd containerd --config "$C/etc/containerd.toml"
until_true 60 ctr version
for folder in programs imgpipe; do
  tar -C "$C/images/$folder" -cf - . | ctr images import --snapshotter overlayfs - >>"$C/log/import.log"
done
start kubelet kubelet --config="$C/etc/kubelet.yaml" --kubeconfig="$C/pki/kubelet.kubeconfig" \
  --root-dir="$C/kubelet" --hostname-override=node1 --node-ip=$NODE --cert-dir="$C/kubelet/pki"
until_true 120 eval 'kubectl get node node1 | grep -q " Ready"'

# What Kubeflow Pipelines keeps its records in runs beside it: S3, MySQL (MariaDB) and ML Metadata.
[ -e "$C/mysql/mysql" ] || mariadb-install-db --no-defaults --user=root --datadir="$C/mysql" --skip-test-db \
  --auth-root-authentication-method=normal >"$C/log/mysql-install.log"
cat >"$C/etc/mysql.sql" <<X
CREATE USER IF NOT EXISTS root@'%' IDENTIFIED BY '';
GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;
X
start mysql mariadbd --no-defaults --user=root --datadir="$C/mysql" --socket="$C/mysql/socket" \
  --pid-file="$C/mysql/pid" --bind-address=$NODE --skip-name-resolve --init-file="$C/etc/mysql.sql"
start s3 gofakes3 -host $NODE:9000 -backend fs -fs.path "$C/objects/data" -fs.meta "$C/objects/meta" -fs.create -initialbucket mlpipeline
start metadata "$PROJECT/.venv/bin/python" "$HERE/metadata.py" $NODE:8080 "$C/metadata.sqlite"

# Kubeflow Pipelines from its own manifests, which name Argo's by their address on the network.
manifests=$C/src/kfp/manifests/kustomize
for file in $(grep -rl argoproj/argo-workflows/manifests "$manifests" --include=kustomization.yaml); do
  sed -Ei "s#https://github.com/argoproj/argo-workflows/([^?]*)[?].*#$(realpath --relative-to="$(dirname "$file")" "$C/src/argo")/\\1#" "$file"
done
mkdir -p "$C/etc/overlay" && sed "s#FOLDER#$C#" "$HERE/volume.yaml" >"$C/etc/volume.yaml"
sed "s#MANIFESTS#$(realpath --relative-to="$C/etc/overlay" "$manifests")#" "$HERE/kustomization.yaml" >"$C/etc/overlay/kustomization.yaml"
kubectl apply -k "$manifests/cluster-scoped-resources" >/dev/null
kubectl wait --for condition=established --timeout=60s crd/workflows.argoproj.io >/dev/null
kubectl apply -k "$C/etc/overlay" >/dev/null
kubectl apply -f "$C/etc/volume.yaml" >/dev/null

# Names: those of the services have their addresses, those of the three beside it have the node's.
kubectl get services -A -o jsonpath='{range .items[*]}{.spec.clusterIP} {.metadata.name} {.metadata.namespace}{"\n"}{end}' |
  cat - <(printf "$NODE %s kubeflow\n" mysql seaweedfs metadata-grpc-service) |
  while read -r address name namespace; do
    echo "$address $name $name.$namespace $name.$namespace.svc $name.$namespace.svc.cluster.local"
  done >"$C/etc/hosts"
start names dnsmasq --keep-in-foreground --user=root --no-resolv --no-hosts --addn-hosts="$C/etc/hosts" \
  --listen-address=$NODE --bind-interfaces --address=/#/
for name in workflow-controller ml-pipeline ml-pipeline-persistenceagent; do
  kubectl -n kubeflow rollout status deployment/$name --timeout=300s
done
start forward kubectl port-forward -n kubeflow svc/ml-pipeline 8888
