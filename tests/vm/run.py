#!/usr/bin/env python3
"""Combo as a service of systemd, in a Debian machine with cgroup v2.

A pod with limits and device rules, an OOM kill that is reported as one, and a restart of the unit under running pods.
COMBO_VM_KIT names the folder of the kit that boots machines (its module is `vm`); the release binary must be built, and Debian's
busybox-static be installed. Prints what was checked; `tests/vm/log.txt` is that of one run, kept by hand.
"""

import json
import os
import pathlib
import platform
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
RELEASE = ROOT / 'target' / f'{platform.machine()}-unknown-linux-musl' / 'release'
IMAGE = 'combo.io/test/busybox:1'
# An emulated processor is about this many times slower.
SLOW = 20
KUBECONFIG = '/etc/combo/combo.yaml'


def pod(name, script, **more):
    container = {'name': 'main', 'image': IMAGE, 'imagePullPolicy': 'IfNotPresent', 'command': ['/busybox', 'sh', '-c', script],
                 **more.pop('container', {})}
    return {'apiVersion': 'v1', 'kind': 'Pod', 'metadata': {'name': name},
            'spec': {'terminationGracePeriodSeconds': 1, 'containers': [container], **more}}


LIMITS = {'resources': {'requests': {'cpu': '50m', 'memory': '16Mi'}, 'limits': {'cpu': '250m', 'memory': '32Mi'}}}
# The disk of the machine; a container may make the node, and the rules of its group decide about opening it.
OPEN_DISK = '/busybox mknod /tmp-disk b 254 0; if /busybox dd if=/tmp-disk of=/dev/null bs=512 count=1; then echo opened; else echo refused; fi'
PODS = [
    pod('limited', f'echo zero > /dev/null && {OPEN_DISK}; exec /busybox sleep 100000', container=LIMITS),
    pod('privileged', f'{OPEN_DISK}; exec /busybox sleep 100000', container={'securityContext': {'privileged': True}}),
    pod('hungry', '/busybox sleep 1; exec /busybox dd if=/dev/zero of=/dev/null bs=200M count=1', restartPolicy='Never', container=LIMITS),
]


class Machine:
    def __init__(self, guest):
        self.guest = guest

    def run(self, command, timeout=120):
        done = self.guest.run(command, timeout=timeout)
        if done.code:
            raise SystemExit(f'$ {command}\n{done.out}{done.err}\nexit code {done.code}\n{self.journal()}')
        return done.out.strip()

    def journal(self):
        return self.guest.run('systemctl status combo --no-pager; journalctl -u combo --no-pager | tail -60', timeout=120).out

    def kubectl(self, words):
        return self.run(f'combo kubectl --kubeconfig {KUBECONFIG} {words}')

    def get(self, what):
        return json.loads(self.kubectl(f'get {what} -o json'))

    def until(self, what, condition, seconds=15):
        deadline = time.monotonic() + seconds * SLOW
        while True:
            found = condition()
            if found:
                return found
            if time.monotonic() > deadline:
                pods = self.guest.run(f'combo kubectl --kubeconfig {KUBECONFIG} get pods -o yaml')
                raise SystemExit(f'not in time: {what}\n{pods.out}{pods.err}\n{self.journal()}')
            time.sleep(1)

    def group(self, name):
        """The control group of a pod, below the root of the hierarchy."""
        uid = self.get(f'pod {name}')['metadata']['uid']
        return self.run(f'find /sys/fs/cgroup -type d -name "pod{uid}"')

    def pids(self):
        """Every process of every pod, and the shims."""
        groups = self.run('find /sys/fs/cgroup -type d \\( -name "pod*-*" -o -name shims \\)').split()
        return sorted(map(int, self.run(f'find {" ".join(groups)} -name cgroup.procs -exec cat {{}} +').split()))


def kit():
    """The module that boots machines."""
    folder = os.environ.get('COMBO_VM_KIT')
    if not folder:
        sys.exit('COMBO_VM_KIT names no folder: machines are booted by a kit that is not part of this tree')
    sys.path.insert(0, folder)
    import vm
    return vm


def say(text):
    print(text, flush=True)


def check(what, holds, found=''):
    say(f'{"ok" if holds else "FAILED"}: {what}{f" ({found})" if found != "" else ""}')
    if not holds:
        raise SystemExit(1)


def install(machine, archive):
    machine.guest.push([str(RELEASE / 'combo')], '/usr/bin/')
    machine.guest.push([str(ROOT / 'systemd/combo.service')], '/etc/systemd/system/')
    machine.guest.push([str(archive)], '/root/image.tar')
    machine.run('chmod 755 /usr/bin/combo && systemctl daemon-reload')
    machine.run('combo image import /root/image.tar', timeout=300)
    started = time.monotonic()
    machine.run('systemctl enable --now combo', timeout=300)
    check('systemctl start returns when the server says READY=1', True, f'{time.monotonic() - started:.1f} s, emulated')
    check('the unit is active', machine.run('systemctl is-active combo') == 'active')
    machine.until('the node is Ready', lambda: ' Ready ' in machine.kubectl('get nodes'))


def limits(machine):
    for name in ('limited', 'privileged'):
        machine.until(f'{name} runs', lambda: machine.get(f'pod {name}')['status'].get('phase') == 'Running')
    group = machine.group('limited')
    say(f'the group of the pod: {group}')
    # A pod's container has a group of its own below the pod's; both carry the limits.
    check('memory.max is 32Mi', machine.run(f'cat {group}/memory.max') == str(32 << 20))
    check('cpu.max is a quarter of a core', machine.run(f'cat {group}/cpu.max') == '25000 100000')
    for name, wanted in (('limited', 'refused'), ('privileged', 'opened')):
        log = machine.until(f'the log of {name}', lambda: machine.kubectl(f'logs {name}'))
        check(f'the {name} pod opens the disk of the host: {wanted}', log.splitlines()[-1] == wanted, log.splitlines()[0])


def oom_kill(machine):
    def ended():
        statuses = machine.get('pod hungry')['status'].get('containerStatuses', [{}])
        return statuses[0].get('state', {}).get('terminated')
    state = machine.until('the hungry pod ends', ended)
    check('the hungry container is OOMKilled, exit code 137', (state['reason'], state['exitCode']) == ('OOMKilled', 137), state)


def restart(machine):
    before, server = machine.pids(), machine.run('systemctl show -p MainPID --value combo')
    machine.run('systemctl restart combo', timeout=300)
    after = machine.run('systemctl show -p MainPID --value combo')
    check('a restart of the unit makes another server', server != after, f'{server}, {after}')
    machine.until('the node is Ready', lambda: ' Ready ' in machine.kubectl('get nodes'))
    check('the processes of pods are the same', machine.pids() == before, before)
    machine.run('systemctl kill --kill-whom=main --signal=KILL combo')
    machine.until('systemd starts it again', lambda: machine.guest.run('systemctl is-active combo').out.strip() == 'active'
                  and machine.run('systemctl show -p MainPID --value combo') not in ('0', after))
    check('after kill -9 of the server too', machine.pids() == before)
    restarts = machine.get('pod limited')['status']['containerStatuses'][0]['restartCount']
    check('no container was started again', restarts == 0)


def clean(machine):
    machine.run('systemctl stop combo', timeout=300)
    machine.run('combo killall', timeout=300)
    left = machine.run('find /sys/fs/cgroup -type d -name "pod*-*"; pgrep -f "[_]_shim" || true')
    check('after combo killall nothing of the pods is left', left == '', left)


def main():
    archive = ROOT / 'target/vm-image.tar'
    subprocess.run(['cargo', 'xtask', 'image', '/bin/busybox', IMAGE, str(archive)], cwd=ROOT, check=True)
    arch = {'x86_64': 'amd64', 'aarch64': 'arm64'}[platform.machine()]
    with kit().VM.start('combo-systemd', arch=arch, memory=1024, snapshot=True) as guest:
        machine = Machine(guest)
        say(machine.run('. /etc/os-release; echo "$PRETTY_NAME, kernel $(uname -r), $(systemctl --version | head -1)"'))
        check('cgroup v2', machine.run('stat -fc %T /sys/fs/cgroup') == 'cgroup2fs')
        install(machine, archive)
        guest.run('cat > /root/pods.json', stdin=json.dumps({'apiVersion': 'v1', 'kind': 'List', 'items': PODS}).encode())
        say(machine.kubectl('apply -f /root/pods.json'))
        limits(machine)
        oom_kill(machine)
        restart(machine)
        clean(machine)
    say('all checks hold')


if __name__ == '__main__':
    main()
