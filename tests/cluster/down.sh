#!/bin/bash
# Ends what up.sh started, by the ids that it wrote, with the pods, and removes what they kept.
. "$(dirname "$0")/environment.sh"
set +e
ended() {
  for name in "$@"; do
    id=$(cat "$C/run/$name.pid" 2>/dev/null) || continue
    # After a restart of the machine, the id may be that of another program.
    [ "/proc/$id/ns/net" -ef /run/netns/$NETWORK ] || continue
    kill "$id" 2>/dev/null
    for _ in $(seq 60); do kill -0 "$id" 2>/dev/null || break; sleep 0.5; done
    rm -f "$C/run/$name.pid"
  done
}
ended forward kubelet proxy scheduler controller-manager
for task in $(ctr tasks ls -q); do ctr tasks kill -s KILL "$task"; done
sleep 2
for container in $(ctr containers ls -q); do ctr tasks rm -f "$container"; ctr containers rm "$container"; done >/dev/null 2>&1
ended names metadata s3 mysql apiserver containerd etcd
grep -oE " $C/(kubelet|state)[^ ]*" /proc/mounts | sort -r | xargs -r umount
ip netns del $NETWORK
ip netns list | grep -o '^cni-[^ ]*' | xargs -r -n1 ip netns del
rm -rf "$C"/{etcd,kubelet,mysql,objects,volume,metadata.sqlite,pki,run,log,etc/hosts} "$C"/state/{addresses,containerd}
