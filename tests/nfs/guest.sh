#!/bin/bash
# The first process of the guest: makes an NFS server and two clients of it, runs a command, tells its status.
#
# The kernel's command line names $RIG_ROOM, a directory that rig.py made on the host. All else of the host can be read only.
# In the room are `memory`, where the guest puts a memory file system, and `host`, the one place that the guest may write to
# on the host: it has the command, and gets `ready` when the mounts are there, `told` with what setting up said, and `status`.
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
memory=$RIG_ROOM/memory host=$RIG_ROOM/host
export HOME=$memory/home TMPDIR=$memory/tmp LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
export NFS_EXPORT=$memory/export NFS_A=$memory/a NFS_B=$memory/b NFS_SERVER="rpc.nfsd -N 3 -V 4"

mount -t proc proc /proc
mount -t hostfs host "$host" -o "$host"
(
  set -ex
  mount -t sysfs sys /sys
  mount -t tmpfs memory "$memory"
  mkdir -p "$HOME" "$TMPDIR" "$NFS_EXPORT" "$NFS_A" "$NFS_B" "$memory/lib/modules"
  mount -t tmpfs -o mode=755 run /run
  mount -t tmpfs state /var/lib/nfs
  if [ -d /dev/shm ] || mkdir /dev/shm; then mount -t tmpfs shm /dev/shm; fi
  ip link set lo up
  hostname rig

  ln -s "/usr/lib/uml/modules/$(uname -r)" "$memory/lib/modules/"
  for module in nfsd nfsv4; do modprobe -d "$memory" "$module"; done

  # The server. What it knows of its clients has to outlive it, so that they may go on with what they had open.
  mkdir /var/lib/nfs/v4recovery
  touch /var/lib/nfs/etab /var/lib/nfs/rmtab
  mount -t nfsd nfsd /proc/fs/nfsd
  for time in nfsv4leasetime nfsv4gracetime; do echo 10 >"/proc/fs/nfsd/$time"; done # [s]; 90 is usual
  mount -t tmpfs -o size="${RIG_EXPORT:-256M}" export "$NFS_EXPORT"
  exportfs -o rw,no_root_squash,no_subtree_check,insecure,fsid=0 "*:$NFS_EXPORT"
  rpc.mountd -N 3
  $NFS_SERVER 4

  # Two clients that are two hosts to the server too: it takes them for one, and never calls back what it delegated to the
  # other, where they have the same name, or ask for the same address.
  for number in 1 2; do
    client=$NFS_A
    if [ $number = 2 ]; then client=$NFS_B; fi
    options=vers=4.2,addr=127.0.0.$number,clientaddr=127.0.0.1,nosharecache
    for attempt in 1 2 3 4 5; do
      if unshare --uts sh -exc 'hostname "host$1"; mount -i -t nfs4 -o "$2" "127.0.0.$1:/" "$3"' sh $number "$options" "$client"; then break; fi
      sleep $attempt
    done
    grep -q " $client nfs4 " /proc/mounts
  done
  [ "$(ls /proc/fs/nfsd/clients | wc -l)" = 2 ]
) >"$host/told" 2>&1
# shellcheck disable=SC2181 # `if (...)` would have it go on after errors
if [ $? = 0 ]; then
  touch "$host/ready"
  cd "$(cat "$host/directory")" && bash "$host/command"
  echo $? >"$host/status"
fi
touch "$host/end"
echo o >/proc/sysrq-trigger # switches the guest off
while sleep 60; do :; done # where it does not, rig.py does: without its first process the kernel would panic
