#!/usr/bin/env python3
"""Two Debian machines on one network, installed from a bundle, whose pods reach each other through WireGuard.

    tests/vm/wireguard.py [--arch amd64|arm64] [--memory MIB] [--folder FOLDER]

FOLDER and COMBO_VM_KIT are those of install.py. Prints what was checked; `tests/vm/wireguard.txt` is that of one run, kept by hand.
"""

import ipaddress

from install import PORT, SERVICE, Installed, arguments, bundle, pod
from run import check, kit, say

# What leaves by the wire: pods' packets as they are, and those of the tunnel.
PROBE = '''
nft add table inet probe
nft 'add chain inet probe out { type filter hook postrouting priority 300; }'
nft 'add rule inet probe out oifname eth0 ip daddr 10.42.0.0/16 counter'
nft 'add rule inet probe out oifname eth0 udp dport 51820 counter'
'''


class Node(Installed):
    def install(self, path, words, **variables):
        self.guest.push([str(path)], '/root/')
        self.run(f'tar -xf /root/{path.name} -C /root install.sh')
        said = ' '.join(f'{name}={value}' for name, value in variables.items())
        say(self.run(f'{said} INSTALL_COMBO_BUNDLE=/root/{path.name} sh /root/install.sh {words}', timeout=600))

    def inside(self, pod, command, timeout=120):
        """What a program of this machine prints in the network of a pod that runs here."""
        group = self.run(f'find /sys/fs/cgroup -type d -name "pod{pod["metadata"]["uid"]}"')
        pid = self.run(f'find {group} -name cgroup.procs -exec cat {{}} + | head -1')
        return self.guest.run(f'nsenter -t {pid} -n {command}', timeout=timeout)

    def counted(self):
        """Packets that left as they are, and in the tunnel."""
        lines = self.run('nft list chain inet probe out').splitlines()
        return [int(line.split('packets ')[1].split()[0]) for line in lines if 'packets' in line]


def on(node, name):
    placed = pod(name)
    placed['spec']['nodeName'] = node
    return placed


def loss(text):
    return next((line for line in text.splitlines() if 'packet loss' in line), text)


def talk(nodes, pods):
    """Every pod asks every pod of the other machine, and each machine too."""
    for name, other in (('one', 'two'), ('two', 'one')):
        address = pods[other]['status']['podIP']
        answer = nodes[name].until(f'{name} reaches {other}', lambda: nodes[name].inside(
            pods[name], f'curl -sS -m 5 http://{address}:{PORT}/hostname').out.strip())
        check(f'pod {name} reaches pod {other}', answer == other, answer)
        big = nodes[name].inside(pods[name], f'ping -c 2 -M do -s 1392 -W 10 {address}')
        check(f'packets of 1420 bytes go from {name} to {other} whole', ' 0% packet loss' in big.out, loss(big.out))
        answer = nodes[name].run(f'curl -sS -m 20 http://{address}:{PORT}/hostname')
        check(f'machine {name} reaches pod {other}', answer == other, answer)


def both_ready(server):
    server.until('both nodes are Ready', lambda: server.kubectl('get nodes').count(' Ready ') == 2, seconds=30)


def tunnels(nodes):
    for name, node in nodes.items():
        link = node.run('ip -o link show type wireguard')
        check(f'{name} has one WireGuard link, for packets of 1420 bytes', link.count('\n') == 0 and 'mtu 1420' in link)
        say(node.run("wg show all | sed 's/\\(preshared key\\|private key\\):.*/\\1: -/'; ip route show | grep cmbwg"))


def main():
    said = arguments(__doc__)
    VM, Net = (getattr(kit(), name) for name in ('VM', 'Net'))
    path = bundle(said.folder, said.arch)
    more = {'arch': said.arch, 'memory': said.memory, 'snapshot': True, 'net': 'combo-wireguard', 'ttl': 7200}
    with Net.start('combo-wireguard', ttl=7200) as lan, VM.start('one', **more) as first, VM.start('two', **more) as second:
        one, two = Node(first), Node(second)
        nodes = {'one': one, 'two': two}
        address = ipaddress.ip_interface(one.run("ip -o -4 address show eth0 | awk '{print $4}'")).ip
        say(one.run('. /etc/os-release; echo "two machines: $PRETTY_NAME, $(uname -rm)"'))
        one.install(path, 'server --flannel-backend=wireguard')
        one.back('the server')
        token = one.run('combo token create --ttl 1h')
        two.install(path, '', COMBO_URL=f'https://{address}:6443', COMBO_TOKEN=token)
        both_ready(one)
        say(one.kubectl('get nodes -o wide'))
        one.apply(on('one', 'one'), on('two', 'two'), SERVICE)
        pods = one.running(2)
        for node in nodes.values():
            node.run(PROBE)
        talk(nodes, pods)
        tunnels(nodes)
        service = one.get('service one')['spec']['clusterIP']
        answer = two.inside(pods['two'], f'curl -sS -m 20 http://{service}/hostname')
        check('pod two reaches the Service of pod one', answer.out.strip() == 'one', answer.out.strip() or answer.err)
        for name, node in nodes.items():
            plain, sealed = node.counted()
            check(f'{name} sent nothing of pods in the open, and packets in the tunnel', plain == 0 < sealed, f'{plain}, {sealed}')
        for node in nodes.values():
            node.memory()
        key = two.run('wg show all public-key')
        second.kill9()
        second.cold_boot()
        both_ready(one)
        pods = one.running(2)
        talk(nodes, pods)
        check('after a power cut the node has the same key', two.run('wg show all public-key') == key)
        say(two.run('combo uninstall', timeout=600))
        left = two.run('ip -o link show type wireguard; ip route show | grep cmbwg || true')
        check('uninstall takes the link and its routes away', not left, left)
    say('all checks hold')


if __name__ == '__main__':
    main()
