#!/bin/sh
# The first process of the test guest: makes a system with pure cgroup v2 of a bare root, runs one command, powers off.
# The disks are named on the kernel's command line: guest.in=DEV (a tar with /run.sh and the checkout), guest.out=DEV.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
export PATH HOME LANG
mount -t proc proc /proc
mount -t sysfs sys /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mark() { read -r up idle </proc/uptime; echo "@minicontainer-guest $1 $up $2"; }
mark userspace
echo 1 >/proc/sys/kernel/printk
for word in $(cat /proc/cmdline); do
    case $word in guest.in=*) in=${word#*=} ;; guest.out=*) out=${word#*=} ;; esac
done
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=1777,size=50% tmp /tmp
mount -t tmpfs run /run
mount -t tmpfs -o size=50% guest /guest
# As systemd does: the root group is left to nobody, and all controllers are handed on.
mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
mkdir /sys/fs/cgroup/init
for pid in $(cat /sys/fs/cgroup/cgroup.procs); do echo "$pid" >/sys/fs/cgroup/init/cgroup.procs 2>/dev/null; done
for name in $(cat /sys/fs/cgroup/cgroup.controllers); do echo "+$name" >/sys/fs/cgroup/cgroup.subtree_control; done
ip link set lo up
hostname guest
tar -xf "$in" -C /guest
mkdir -p /guest/out
cd /guest/checkout || exit 1
mark run
setsid -w sh /guest/run.sh </dev/null 2>&1
code=$?
tar -cf "$out" -C /guest/out .
sync
mark exit "$code 0"
poweroff -ff 2>/dev/null || busybox poweroff -f
