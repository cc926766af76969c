#!/usr/bin/env python3
"""Clocks that are wrong, in two machines with no source of time: a server with a node, and an agent.

    tests/vm/clock.py [--binary COMBO]

Three years ahead, a day behind, 1970: it is told in the log and in Events of the Node, pods keep running as the processes they are, nodes
are Ready, and nothing of it is left when the clock is right. COMBO_VM_KIT names the folder of the kit that boots machines (its module is
`vm`). Prints what was checked; `tests/vm/clock.txt` is that of one run, kept by hand.
"""

import argparse
import json
import pathlib
import subprocess
import time

from run import IMAGE, RELEASE, ROOT, Machine, check, kit, pod, say

YEAR, DAY = 365 * 86400, 86400
NODES = ('edge-server', 'edge-agent')
# No readiness is waited for: with a clock that is wrong that is what is looked at.
UNIT = '''[Unit]
Description=Combo
[Service]
Type=exec
Delegate=yes
KillMode=process
Restart=always
TimeoutStopSec=600
ExecStart=/usr/bin/combo %s
[Install]
WantedBy=multi-user.target
'''


class Clocked(Machine):
    def serve(self, binary, archive, words):
        self.guest.push([str(binary)], '/usr/bin/combo')
        self.guest.push([str(archive)], '/root/image.tar')
        self.guest.run('cat > /etc/systemd/system/combo.service', stdin=(UNIT % words).encode())
        self.run('chmod 755 /usr/bin/combo && systemctl daemon-reload && combo image import /root/image.tar', timeout=600)
        self.start()

    def start(self):
        self.run('systemctl start combo', timeout=600)

    def stop(self):
        self.run('systemctl stop combo', timeout=600)

    def set(self, seconds):
        """Sets the clock to this many seconds from the right time."""
        self.run(f'date -s @{int(time.time()) + seconds}')

    def set_to_1970(self):
        """To its first day: a kernel takes no time that is shorter than it has run."""
        self.run('date -s @$(( $(cut -d. -f1 /proc/uptime) + 60 ))')

    def told(self, text):
        self.until(f'the log says {text!r}', lambda: text in self.guest.run(f'journalctl -u combo --no-pager -o cat | grep -F "{text}" | tail -1').out)
        line = self.run(f'journalctl -u combo --no-pager -o cat | grep -F "{text}" | tail -1')
        check('the log tells it', True, line[-230:])

    def shims(self):
        return self.run("pgrep -f '[_]_shim' | sort")


class Cluster:
    def __init__(self, server, agent):
        self.server, self.agent = server, agent
        self.before = None

    def objects(self, kind):
        return self.server.get(kind)['items']

    def ready(self, what):
        def all_ready():
            done = self.server.guest.run('combo kubectl get nodes -o json', timeout=120)
            if done.code:
                return False
            conditions = [{c['type']: c['status'] for c in node['status'].get('conditions', [])} for node in json.loads(done.out)['items']]
            return len(conditions) == len(NODES) and all(one.get('Ready') == 'True' for one in conditions)
        self.server.until(f'{what}: both nodes are Ready', all_ready, seconds=30)

    def signs(self, what):
        """Leases are renewed, twice, on both nodes."""
        def renewals():
            done = self.server.guest.run('combo kubectl get leases -n kube-node-lease -o json', timeout=120)
            return {lease['metadata']['name']: lease['spec']['renewTime'] for lease in json.loads(done.out)['items']} if not done.code else {}
        first = self.server.until(f'{what}: leases', renewals)
        self.server.until(f'{what}: both renew their leases', lambda: all(renewals().get(node) not in (None, first.get(node)) for node in NODES), seconds=10)
        self.ready(what)

    def same(self, what):
        found = {one['metadata']['name']: (one['metadata']['uid'], one['status']['containerStatuses'][0]['restartCount'],
                                           one['status']['containerStatuses'][0]['containerID']) for one in self.objects('pods')
                 if one['metadata']['name'].startswith('kept')}
        shims = (self.server.shims(), self.agent.shims())
        if self.before is None:
            self.before = (found, shims)
        check(f'{what}: the pods and their processes are the same', (found, shims) == self.before and len(found) == 2, ', '.join(sorted(found)))

    def event(self, what, node, reason):
        def find():
            events = [event for event in self.objects('events -A') if event['reason'] == reason and event['involvedObject']['name'] == node]
            return events and events[-1]['message']
        check(f'{what}: an Event of the node {node} tells it', True, f'{reason}: {self.server.until(f"the Event {reason}", find, seconds=30)[:160]}')

    def works(self, what, name):
        """A pod on the agent's node is made, runs, and is reached by exec; and its token is taken."""
        made = pod(name, 'exec /busybox sleep 1000000', nodeName='edge-agent')
        self.server.guest.run('cat > /root/one.json', stdin=json.dumps(made).encode())
        self.server.kubectl('apply -f /root/one.json')
        self.server.until(f'{what}: a fresh pod runs', lambda: self.server.get(f'pod {name}')['status'].get('phase') == 'Running', seconds=30)
        self.server.until(f'{what}: exec', lambda: 'hello' in self.server.guest.run(f'combo kubectl exec {name} -- /busybox echo hello', timeout=240).out)
        token = self.server.kubectl(f'exec {name} -- /busybox cat /var/run/secrets/kubernetes.io/serviceaccount/token')
        answer = self.server.run(f'curl -sk -o /dev/null -w "%{{http_code}}" -H "Authorization: Bearer {token}" https://127.0.0.1:6443/apis')
        check(f'{what}: a fresh pod runs, exec reaches it, and its token is taken', answer == '200', answer)
        self.server.kubectl(f'delete pod {name} --wait=false')

    def days_left(self):
        ends = self.server.run('openssl x509 -noout -enddate -in /var/lib/combo/server/tls/serving-kube-apiserver.crt | cut -d= -f2')
        return (int(self.server.run(f'date -d "{ends}" +%s')) - time.time()) / DAY


def three_years_ahead(cluster):
    server, agent = cluster.server, cluster.agent
    say('## the server\'s clock, three years ahead')
    server.set(3 * YEAR)
    server.told('the machine\'s clock was set from')
    cluster.signs('server +3 years')
    cluster.event('server +3 years', 'edge-server', 'ClockSet')
    cluster.same('server +3 years')
    check('certificates that had ended are made anew', cluster.days_left() > 3 * 365, f'{cluster.days_left():.0f} days')
    cluster.works('server +3 years', 'ahead')
    server.set(0)
    cluster.signs('server right again')
    server.until('certificates of the future are made anew', lambda: 360 < cluster.days_left() < 367)
    check('certificates of the future are made anew', True, f'{cluster.days_left():.0f} days')
    cluster.same('server right again')
    cluster.works('server right again', 'right')
    say('## the agent\'s clock, three years ahead')
    agent.set(3 * YEAR)
    agent.told('and the server says that it is')
    cluster.signs('agent +3 years')
    cluster.event('agent +3 years', 'edge-agent', 'ClockOff')
    cluster.works('agent +3 years', 'agent-ahead')
    agent.stop()
    agent.start()
    cluster.signs('agent +3 years, started again')
    cluster.same('agent +3 years, started again')
    agent.set(0)
    cluster.signs('agent right again')


def a_day_behind(cluster):
    server, agent = cluster.server, cluster.agent
    for machine, node in ((server, 'edge-server'), (agent, 'edge-agent')):
        say(f'## the clock of {node}, a day behind')
        machine.set(-DAY)
        machine.told('the machine\'s clock')
        cluster.signs(f'{node} −1 day')
        cluster.same(f'{node} −1 day')
        cluster.works(f'{node} −1 day', f'behind-{node}')
        machine.set(0)
        cluster.signs(f'{node} right again')
    cluster.same('right again')


def nineteen_seventy(cluster):
    server, agent = cluster.server, cluster.agent
    say('## both clocks begin at 1970')
    for machine in (agent, server):
        machine.stop()
    for machine in (server, agent):
        machine.set_to_1970()
        machine.start()
        machine.told('the machine\'s clock shows 1970-01-01T')
    cluster.signs('1970')
    for node in NODES:
        cluster.event('1970', node, 'ClockBehind')
    cluster.same('1970')
    cluster.works('1970', 'seventies')
    made = server.kubectl("create configmap made -o jsonpath='{.metadata.creationTimestamp}'")
    check('what is made has a time of now', made > time.strftime('%Y-%m-%dT', time.gmtime(time.time() - DAY)), made)
    for machine in (server, agent):
        machine.set(0)
    cluster.signs('right again')
    cluster.same('right again')
    cluster.works('right again', 'nineties')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--binary', type=pathlib.Path, default=RELEASE / 'combo')
    binary = parser.parse_args().binary
    vm = kit()
    archive = ROOT / 'target/vm-clock.tar'
    subprocess.run(['cargo', 'xtask', 'image', '/bin/busybox', IMAGE, str(archive)], cwd=ROOT, check=True)
    with vm.Net.start('clock') as lan, vm.VM.start('combo-clock-server', memory=768, snapshot=True, net='clock', ttl=7200) as one, \
            vm.VM.start('combo-clock-agent', memory=512, snapshot=True, net='clock', ttl=7200) as two:
        server, agent = Clocked(one), Clocked(two)
        address = lan.address('combo-clock-server').split('/')[0]
        for machine in (server, agent):
            machine.run('systemctl disable --now systemd-timesyncd 2>/dev/null || true')
            machine.set(0)
        server.serve(binary, archive, 'server --node-name edge-server')
        cluster = Cluster(server, agent)
        server.until('the server has a token', lambda: server.guest.run('cat /var/lib/combo/server/agent-token').out.strip())
        agent.guest.run('cat > /root/token', stdin=server.run('cat /var/lib/combo/server/agent-token').encode())
        agent.serve(binary, archive, f'agent --node-name edge-agent --server https://{address}:6443 --token-file /root/token')
        cluster.ready('at first')
        for node in NODES:
            kept = pod(f'kept-on-{node}', 'exec /busybox sleep 1000000', nodeName=node)
            server.guest.run('cat > /root/one.json', stdin=json.dumps(kept).encode())
            server.kubectl('apply -f /root/one.json')
        server.until('both pods run', lambda: [one['status'].get('phase') for one in cluster.objects('pods')] == ['Running'] * 2, seconds=30)
        cluster.same('at first')
        try:
            three_years_ahead(cluster)
            a_day_behind(cluster)
            nineteen_seventy(cluster)
        except SystemExit:
            say(agent.journal())
            raise
    say('all checks hold')


if __name__ == '__main__':
    main()
