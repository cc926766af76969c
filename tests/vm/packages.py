#!/usr/bin/env python3
"""The .deb and the .rpm in a Debian machine: installed, upgraded under running pods, over a power cut, and removed.

    tests/vm/packages.py [--arch amd64|arm64] [--memory MIB] [--folder FOLDER]

FOLDER and COMBO_VM_KIT are those of install.py. The .rpm is tried where COMBO_VM_RPM names a folder with Debian's packages of rpm
and what it needs. Prints what was checked; `tests/vm/packages.txt` is that of one run, kept by hand.
"""

import os
import pathlib
import subprocess
import tempfile

from install import SNAPSHOT, Installed, arguments, image, pod, same
from run import ROOT, check, kit, say

# What a package manager writes for itself.
ITS_OWN = ('/var/lib/dpkg', '/var/lib/rpm', '/root/.rpmdb')
PODS = 'find /sys/fs/cgroup -type d -name "pod*-*"; pgrep -f "[_]_shim"; ip -o link | grep -E "cmb|combo"; nft list tables | grep combo; true'


class Manager:
    def __init__(self, file, install, upgrade, remove, purge):
        self.file, self.install, self.upgrade, self.remove, self.purge = file, install, upgrade, remove, purge


def managers(packages):
    deb, rpm = (next(pathlib.Path(packages).glob(f'*.{kind}')).name for kind in ('deb', 'rpm'))
    yield Manager(deb, f'dpkg -i {deb}', f'dpkg -i {deb}', 'dpkg -r combo', 'dpkg -P combo')
    if os.environ.get('COMBO_VM_RPM'):
        # This machine's own packages are unknown to rpm.
        yield Manager(rpm, f'rpm -i --nodeps {rpm}', f'rpm -U --nodeps --force {rpm}', 'rpm -e --nodeps combo', 'rm -rf /var/lib/combo /etc/combo')


def snapshot(machine):
    lines = machine.run(SNAPSHOT + 'true').splitlines()
    return '\n'.join(line for line in lines if not line.startswith(ITS_OWN))


def passes(machine, manager, archive):
    name = manager.file.rsplit('.', 1)[1]
    before = snapshot(machine)
    say(machine.run(manager.install, timeout=300))
    started = machine.guest.run('systemctl is-enabled combo combo-agent; systemctl is-active combo combo-agent').out.split()
    check(f'{name}: nothing starts by itself', started == ['disabled', 'disabled', 'inactive', 'inactive'], started)
    machine.run('mkdir -p /var/lib/combo/agent/images')
    machine.guest.push([str(archive)], '/var/lib/combo/agent/images/')
    machine.run('systemctl enable --now combo', timeout=300)
    machine.back(f'{name}: enabled')
    machine.apply(pod('one'))
    machine.running(1)
    check(f'{name}: a pod runs', True)
    machine.guest.kill9()
    machine.guest.cold_boot()
    machine.back(f'{name}: after a power cut')
    machine.running(1)
    check(f'{name}: after a power cut it runs again, by itself', True)
    upgrade(machine, manager, name)
    machine.run(manager.remove, timeout=300)
    left = machine.run(PODS)
    check(f'{name}: after the removal nothing of the pods is left', left == '', left)
    check(f'{name}: the data stays', machine.run('ls /var/lib/combo/server/db >/dev/null && echo yes') == 'yes')
    machine.run(manager.purge, timeout=300)
    same(before, snapshot(machine))


def upgrade(machine, manager, name):
    pids, server = machine.pids(), machine.run('systemctl show -p MainPID --value combo')
    say(machine.run(manager.upgrade, timeout=300))
    machine.until('another server', lambda: machine.run('systemctl show -p MainPID --value combo') not in ('0', server))
    machine.back(f'{name}: after an upgrade')
    check(f'{name}: an upgrade makes another server and leaves the pods\' processes', machine.pids() == pids, pids)


def main():
    said = arguments(__doc__)
    packages = tempfile.mkdtemp()
    subprocess.run(['cargo', 'xtask', 'package', said.folder / 'combo', packages], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    archive = image(said.folder)
    with kit().VM.start('combo-packages', arch=said.arch, memory=said.memory, snapshot=True, ttl=7200) as guest:
        machine = Installed(guest)
        say(machine.run('. /etc/os-release; echo "$PRETTY_NAME, $(uname -rm), $(systemctl --version | head -1)"'))
        rpm = os.environ.get('COMBO_VM_RPM')
        if rpm:
            guest.push([str(path) for path in pathlib.Path(rpm).glob('*.deb')], '/root/rpm/')
            machine.run('dpkg -i --force-depends rpm/*.deb && rm -r rpm', timeout=300)
        for manager in managers(packages):
            guest.push([str(pathlib.Path(packages) / manager.file)], '/root/')
            passes(machine, manager, archive)
    say('all checks hold')


if __name__ == '__main__':
    main()
