#!/usr/bin/env python3
"""install.sh in a Debian machine with no network: from a bundle, over power cuts, and off again.

    tests/vm/install.py [--arch amd64|arm64] [--memory MIB] [--folder FOLDER]

FOLDER has the binaries `combo` and `webserver` for the machine's processor; without it those of the release. COMBO_VM_KIT names
the folder of the kit that boots machines (its module is `vm`). Prints what was checked; `tests/vm/install-ARCH.txt` are those of
one run each, kept by hand.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import tempfile
import time

from run import ROOT, Machine, check, kit, say

HERE = {'x86_64': 'amd64', 'aarch64': 'arm64'}[platform.machine()]
TARGETS = {'amd64': 'x86_64-unknown-linux-musl', 'arm64': 'aarch64-unknown-linux-musl'}
IMAGE = 'combo.io/test/webserver:1'
PORT = 8080
# What the machine writes by itself between two looks.
OWN = '/var/lib/systemd|/var/lib/dbus|/var/lib/private|/etc/machine-id|/etc/hostname|/etc/resolv.conf|/etc/adjtime'

SNAPSHOT = f'''
ip -o link | sed 's/qlen [0-9]*//; s/ permaddr [0-9a-f:]*//'; ip -o address | sed 's/valid_lft.*//'; ip route show table all; ip -6 route show table all | grep -v expires
nft list ruleset
cut -d ' ' -f 4- /proc/self/mountinfo | sed 's/ shared:[0-9]*//; s/,pipe_ino=[0-9]*//'
for family in core ipv4 ipv6; do grep -rs . /proc/sys/net/$family; done | grep -v 'stable_secret\\|/route/flush\\|tcp_mem\\|udp_mem\\|/neigh/' | sort
find /etc /usr /opt /boot /root /var/lib -xdev ! -type d -printf '%p %m %U %s %l\\n' -o -type d -printf '%p %m %U\\n' | grep -Ev '^({OWN})' | sort
ls -d /run/combo* 2>/dev/null; ls /sys/fs/cgroup
'''


def pod(name, **more):
    container = {'name': 'main', 'image': IMAGE, 'imagePullPolicy': 'Never', **more}
    return {'apiVersion': 'v1', 'kind': 'Pod', 'metadata': {'name': name, 'labels': {'app': name}},
            'spec': {'terminationGracePeriodSeconds': 1, 'containers': [container]}}


DEPLOYMENT = {
    'apiVersion': 'apps/v1', 'kind': 'Deployment', 'metadata': {'name': 'load'},
    'spec': {'replicas': 3, 'selector': {'matchLabels': {'app': 'load'}},
             'template': {'metadata': {'labels': {'app': 'load'}}, 'spec': pod('load')['spec']}}}
SERVICE = {'apiVersion': 'v1', 'kind': 'Service', 'metadata': {'name': 'one'},
           'spec': {'selector': {'app': 'one'}, 'ports': [{'port': 80, 'targetPort': PORT}]}}


class Installed(Machine):
    def back(self, what):
        """The service is there without anybody's doing."""
        self.until(f'{what}: the unit is active', lambda: self.guest.run('systemctl is-active combo').out.strip() == 'active')
        self.until(f'{what}: the node is Ready', lambda: ' Ready ' in self.guest.run('combo kubectl get nodes').out)

    def apply(self, *objects):
        self.guest.run('cat > /tmp/objects.json', stdin=json.dumps({'apiVersion': 'v1', 'kind': 'List', 'items': objects}).encode())
        self.kubectl('apply -f /tmp/objects.json')

    def running(self, count):
        def all_run():
            pods = self.get('pods')['items']
            ready = [pod for pod in pods if any(c['type'] == 'Ready' and c['status'] == 'True' for c in pod['status'].get('conditions', []))]
            return len(pods) == len(ready) == count and {pod['metadata']['name']: pod for pod in pods}
        return self.until(f'{count} pods run', all_run, seconds=30)

    def answers(self):
        address = self.get('service one')['spec']['clusterIP']
        return self.until('the Service answers', lambda: self.guest.run(f'curl -sS -m 10 http://{address}/').out.strip())

    def memory(self):
        """Of the service and of each shim: what is theirs alone, and their share of what several have; and what the machine has."""
        script = """for pid in $(pgrep -x combo) $(pgrep -f '[_]_shim'); do
            tr '\\0' ' ' < /proc/$pid/cmdline | awk '{printf "%-7s", $2 == "_" "_shim" ? "shim" : $2}'
            awk '/^(Rss|Pss|Pss_Shmem|Private_Clean|Private_Dirty):/ {printf " %s %5d kB ", $1, $2}' /proc/$pid/smaps_rollup; echo
            done | sort; grep -E '^(MemTotal|MemAvailable|Shmem):' /proc/meminfo"""
        say(self.run(script))


def image(folder):
    """The sample workload as an archive."""
    path = pathlib.Path(tempfile.mkdtemp()) / 'webserver.tar'
    subprocess.run(['cargo', 'xtask', 'image', str(folder / 'webserver'), IMAGE, str(path)], cwd=ROOT, check=True)
    return path


def bundle(folder, arch):
    archive = image(folder)
    path = archive.parent / f'combo-{arch}.tar'
    own = ROOT / 'target' / TARGETS[HERE] / 'release' / 'combo'
    maker = folder / 'combo' if arch == HERE else os.environ.get('COMBO_VM_MAKER', own)
    subprocess.run([maker, 'airgap', 'bundle', '--arch', arch, '--binary', folder / 'combo', '--image', archive, '--output', path], check=True)
    return path


def cut(machine, what):
    machine.guest.kill9()
    machine.guest.cold_boot()
    machine.back(f'after a power cut {what}')
    check(f'after a power cut {what} the unit is active and the node Ready, by itself', True)


def install(machine, path):
    machine.guest.push([str(path)], '/root/')
    machine.run(f'tar -xf /root/{path.name} -C /root install.sh')
    name = f'/root/{path.name}'
    refused = machine.guest.run(f'head -c -100000 {name} > /root/bad.tar; INSTALL_COMBO_BUNDLE=/root/bad.tar sh /root/install.sh server', timeout=300)
    check('a bundle that is cut short is refused', refused.code != 0 and 'cut short in' in refused.err, refused.err.strip().splitlines()[0])
    machine.run('rm /root/bad.tar')
    started = time.monotonic()
    say(machine.run(f'INSTALL_COMBO_BUNDLE={name} sh /root/install.sh server --node-label kept=yes', timeout=600))
    check('install.sh returns when the server says READY=1', True, f'{time.monotonic() - started:.1f} s, emulated')


def load(machine):
    """Power is cut while pods start and objects are written; what was acknowledged is there afterwards."""
    machine.apply(DEPLOYMENT)
    writer = 'i=0; while combo kubectl create configmap acknowledged-$i --from-literal=n=$i >/dev/null 2>&1; do echo $i; i=$((i+1)); [ $i -lt 25 ] || break; done'
    written = machine.run(writer, timeout=600).split()
    cut(machine, 'under load')
    there = {item['metadata']['name'] for item in machine.get('configmaps')['items']}
    missing = [number for number in written if f'acknowledged-{number}' not in there]
    check('no acknowledged object is lost', written and not missing, f'{len(written)} written, {missing} missing')
    machine.running(4)
    check('the pods run again', True, sorted(machine.get('pods')['items'], key=str)[0]['metadata']['name'])
    say(f'the Service says: {machine.answers()}')


def upgrade(machine, path):
    before = machine.pids()
    say(machine.run(f'INSTALL_COMBO_FORCE_RESTART=true INSTALL_COMBO_BUNDLE=/root/{path.name} sh /root/install.sh', timeout=600))
    machine.back('after an upgrade')
    check('an upgrade in place leaves the pods\' processes', machine.pids() == before, before)
    labels = machine.get('nodes')['items'][0]['metadata']['labels']
    check('and keeps the flags', labels.get('kept') == 'yes')


def same(before, after):
    before, after = before.splitlines(), after.splitlines()
    missing, more = sorted(set(before) - set(after)), sorted(set(after) - set(before))
    check(f'afterwards the machine is as before ({len(before)} lines: links, routes, nftables, mounts, sysctls, files)',
          not missing and not more, f'missing {missing[:20]}, more {more[:20]}' if missing or more else '')


def arguments(about):
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument('--arch', default=HERE, choices=TARGETS)
    parser.add_argument('--memory', type=int, default=512)
    parser.add_argument('--folder', type=pathlib.Path)
    said = parser.parse_args()
    said.folder = (said.folder or ROOT / 'target' / TARGETS[said.arch] / 'release').resolve()
    return said


def main():
    said = arguments(__doc__)
    VM = kit().VM
    path = bundle(said.folder, said.arch)
    with VM.start(f'combo-install-{said.arch}', arch=said.arch, memory=said.memory, snapshot=True, ttl=7200) as guest:
        machine = Installed(guest)
        say(machine.run('. /etc/os-release; echo "$PRETTY_NAME, $(uname -rm), $(systemctl --version | head -1)"; free -m | sed -n 2p'))
        before = machine.run(SNAPSHOT + 'true')
        install(machine, path)
        cut(machine, 'right after install.sh')
        say(machine.run('combo check', timeout=120))
        machine.apply(pod('one'), SERVICE)
        machine.running(1)
        say(f'the Service says: {machine.answers()}')
        machine.memory()
        load(machine)
        upgrade(machine, path)
        machine.memory()
        say(machine.run('combo status', timeout=120))
        say(machine.run('combo uninstall; rm -f /root/*.tar /root/install.sh', timeout=600))
        same(before, machine.run(SNAPSHOT + 'true'))
    say('all checks hold')


if __name__ == '__main__':
    main()
