"""The built-in network beside pasta and slirp4netns: throughput both ways, inward by a published port, and latency.

Each piece runs on a host of its own, a network namespace of the user's whose one cable leads nowhere, so what is measured is the
way between container and host alone; the other end is iperf3, or a program that gives each byte back. Where the processors have other
work too, iperf3 and the network process wait for each other; what the latter alone costs is a row of its own.
"""

import json
import math
import os
import shutil

from tools import BASE, Command, alternate, row

HOST, SECONDS, ROUNDS = "10.77.0.1", 4, 5000

# The process of each that carries packets, as the kernel calls it.
PROCESSES = {"bryo": "carry)", "pasta": "(pas", "slirp": "slirp4netns)"}

# Runs as root of the host's namespaces; $1 is the work.
SETUP = f"""
mount -t tmpfs tmpfs /run
ip link set lo up; ip link add cable type veth peer name end; ip link set cable up; ip link set end up
ip address add {HOST}/24 dev cable; ip route add default via 10.77.0.254
"""
SERVER = "iperf3 -s > /dev/null & until ss -tln | grep -q :5201; do sleep 0.05; done\n"
ECHO = f"""python3 -c '
import socket
server = socket.create_server(("0.0.0.0", 5201))
stream = server.accept()[0]
stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while byte := stream.recv(1): stream.sendall(byte)
' & until ss -tln | grep -q :5201; do sleep 0.05; done
"""
PING = f"""python3 -c '
import socket, statistics, sys, time
stream, times = socket.create_connection((sys.argv[1], 5201)), []
stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for _ in range({ROUNDS}):
    begin = time.perf_counter()
    stream.sendall(b"x"); stream.recv(1)
    times.append(time.perf_counter() - begin)
print(statistics.median(times))
' """


def ways(carry):
    """How each tool runs a shell's `{work}` in a network of its own, and at which address it sees the host."""
    slirp = """unshare --net sleep 1000 & inside=$!; until [ "$(readlink /proc/$inside/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
        slirp4netns --configure --mtu=65520 $inside tap0 > /dev/null 2>&1 &
        until nsenter --net=/proc/$inside/ns/net ip route | grep -q default; do sleep 0.05; done
        nsenter --net=/proc/$inside/ns/net sh -ec '{work}'"""
    return {
        "bryo": (f"{carry} {{publish}} sh -ec '{{work}}'", HOST, "-p 5202:5201"),
        # As an ordinary user of that host: as its root it cannot make the namespaces that it wants.
        "pasta": ("unshare --user --map-user=1000 --map-group=1000 pasta -q --config-net {publish} -- sh -ec '{work}' 2> /dev/null", "10.77.0.254", "-t 5202:5201"),
        "slirp": (slirp, "10.0.2.2", ""),
    }


def on_a_host(script):
    """What a script prints on a host of its own, whose processes end with it."""
    wrapped = ["--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec"]
    return Command("timeout", "60", "unshare", *wrapped, SETUP + script).run()


def seconds_per_gigabyte(output):
    return 8e9 / json.loads(output)["end"]["sum_received"]["bits_per_second"]


def bench_network(tools):
    carry = BASE / "bin/carry"
    shutil.copy(tools.carry, carry)
    found = ways(carry)

    def iperf(name, *flags):
        way, host, _ = found[name]
        client = f"iperf3 -J -t {SECONDS} -c {host} {' '.join(flags)}"
        return lambda: seconds_per_gigabyte(on_a_host(SERVER + way.replace("{work}", client).replace("{publish}", "")))

    def inward(name):
        way, _, publish = found[name]
        work = f"iperf3 -s -1 > /dev/null & until ss -tln | grep -q :5201; do sleep 0.05; done; touch /run/up; wait"
        client = f"until [ -e /run/up ]; do sleep 0.05; done; iperf3 -J -t {SECONDS} -p 5202 -c {HOST}"
        script = f"({way.replace('{work}', work).replace('{publish}', publish)}) > /dev/null 2>&1 &\n{client}"
        return lambda: seconds_per_gigabyte(on_a_host(script))

    def cpu(name, flags):
        """What the process that carries the packets uses for a gigabyte."""
        way, host, _ = found[name]
        work = f"iperf3 -J -t {SECONDS} -c {host} {flags}; cat /proc/[0-9]*/stat | grep -F \"{PROCESSES[name]}\""
        script = SERVER + way.replace("{work}", work).replace("{publish}", "")

        def measured():
            output, _, process = on_a_host(script).rpartition("}\n")
            # proc(5): times in user and kernel mode.
            ticks = sum(map(int, process.rsplit(")", 1)[1].split()[11:13]))
            carried = json.loads(output + "}")["end"]["sum_received"]["bytes"]
            return ticks / os.sysconf("SC_CLK_TCK") / (carried / 1e9)

        return measured

    def latency(name):
        way, host, _ = found[name]
        # Its quotes are within others.
        work = (PING + host).replace("'", "'\\''")
        return lambda: float(on_a_host(ECHO + way.replace("{work}", work).replace("{publish}", "")))

    def loopback(*flags):
        """Nobody between: what iperf3 and the kernel alone take of the processors."""
        client = f"iperf3 -J -t {SECONDS} -c 127.0.0.1 {' '.join(flags)}"
        return lambda: seconds_per_gigabyte(on_a_host(f"ip link set lo mtu 65520\n{SERVER}{client}"))

    rounds = max(3, tools.rounds // 3)
    # Datagrams as fast as they go in: what arrives counts.
    ways_of_iperf = {
        "TCP out of a container": (),
        "TCP into a container": ("-R",),
        "TCP out, 8 streams": ("-P", "8"),
        "TCP in, 8 streams": ("-P", "8", "-R"),
        "UDP out of a container": ("-u", "-b", "0"),
        "UDP into a container": ("-u", "-b", "0", "-R"),
    }
    for title, flags in ways_of_iperf.items():
        times = alternate(rounds, loopback=loopback(*flags), **{name: iperf(name, *flags) for name in found})
        row(f"{title}, per GB", times["bryo"], times["pasta"], "pasta", 2.0)
        row(f"{title}, per GB", times["bryo"], times["slirp"], "slirp4netns", 1 / 3)
        # Who is asked for three times what slirp4netns does may be asked for more than there is.
        row(f"{title}, per GB, nobody between", times["loopback"], times["slirp"], "slirp4netns", math.inf)
    for title, flags in (("out", ""), ("in", "-R")):
        times = alternate(rounds, **{name: cpu(name, flags) for name in found})
        row(f"CPU of the network process, {title}, per GB", times["bryo"], times["pasta"], "pasta", 1.0)
        row(f"CPU of the network process, {title}, per GB", times["bryo"], times["slirp"], "slirp4netns", 1 / 3)
    times = alternate(rounds, bryo=inward("bryo"), pasta=inward("pasta"))
    row("TCP to a published port, per GB", times["bryo"], times["pasta"], "pasta", 2.0)
    times = alternate(rounds, **{name: latency(name) for name in found})
    row("TCP, one byte there and back", times["bryo"], times["pasta"], "pasta", 1.2, "µs")
    row("TCP, one byte there and back", times["bryo"], times["slirp"], "slirp4netns", 1.0, "µs")
