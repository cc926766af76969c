#!/usr/bin/env python3
"""Power cuts in the middle of install.sh: what is there is whole, a second run makes it complete, and all of it comes off again.

    tests/vm/interrupted.py [--arch amd64|arm64] [--memory MIB] [--folder FOLDER]

FOLDER and COMBO_VM_KIT are those of install.py. Prints what was checked; `tests/vm/interrupted.txt` is that of one run, kept by hand.
"""

import time

from install import SNAPSHOT, Installed, arguments, bundle, same
from run import check, kit, say

# Cut when this has appeared: the record, the unit, the start.
MOMENTS = {
    'the record': '/etc/combo/install/combo.json',
    'the unit': '/etc/systemd/system/combo.service',
    'the data folder': '/var/lib/combo/server',
}
MADE = '/etc/combo /usr/local/bin/combo /etc/systemd/system/combo.service'


def cut_at(machine, install, moment, path):
    machine.run(f'({install}) >/dev/null 2>&1 &')
    machine.until(moment, lambda: machine.guest.run(f'until [ -e {path} ]; do sleep 0.05; done', timeout=300).code == 0)
    machine.guest.kill9()
    machine.guest.cold_boot()
    empty = machine.run(f'find {MADE} -type f -size 0 2>/dev/null; true')
    check(f'after a power cut at {moment} no file is empty', empty == '', empty)
    runs = machine.guest.run('/usr/local/bin/combo --version').out.strip() or 'no binary yet'
    enabled = machine.guest.run('systemctl is-enabled combo').out.strip() or 'no unit yet'
    check('and the service is either not there or as it should be', enabled in ('enabled', 'disabled', 'no unit yet'), f'{runs}, {enabled}')


def main():
    said = arguments(__doc__)
    path = bundle(said.folder, said.arch)
    with kit().VM.start('combo-interrupted', arch=said.arch, memory=said.memory, snapshot=True, ttl=7200) as guest:
        machine = Installed(guest)
        before = machine.run(SNAPSHOT + 'true')
        guest.push([str(path)], '/root/')
        machine.run(f'tar -xf /root/{path.name} -C /root install.sh && sync')
        install = f'INSTALL_COMBO_BUNDLE=/root/{path.name} sh /root/install.sh server'
        for moment, appeared in MOMENTS.items():
            cut_at(machine, install, moment, appeared)
            say(machine.run(install, timeout=600))
            started = time.monotonic()
            machine.back(f'after {moment}')
            check('a second run makes it complete', True, f'Ready {time.monotonic() - started:.1f} s later, emulated')
            machine.run('combo uninstall --yes', timeout=600)
        machine.run('rm -f /root/*.tar /root/install.sh')
        same(before, machine.run(SNAPSHOT + 'true'))
    say('all checks hold')


if __name__ == '__main__':
    main()
