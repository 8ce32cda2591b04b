"""A running stack: load -> SOCKS -> client -> server -> endpoint, and what each process has used."""

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import time

from peers import NAME, Link

TICK = os.sysconf("SC_CLK_TCK")


class Child:
    """A process that listens on `port`; stopped by its id."""

    def __init__(self, command, port, log, given=None):
        """`given`: its standard input."""
        with open(log, "ab") as output:
            self.process = subprocess.Popen(command, stdin=given or subprocess.DEVNULL, stdout=output, stderr=output)
        end = time.monotonic() + 15
        while not listening(port):
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"did not start: {' '.join(command)}: see {log}")
            time.sleep(0.05)

    def cpu(self):
        """CPU seconds used so far."""
        return time.clock_gettime((~self.process.pid << 3) | 2)  # the process's CPU clock, see clock_getcpuclockid(3)

    def resident_kib(self, which="VmRSS"):
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith(which + ":"))

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Stack:
    """Context manager."""

    def __init__(self, loadgen, work, client, server, profile, round_trip_ms=None):
        """`round_trip_ms`: there is a hop between client and server, which counts bytes, and is so long."""
        self.loadgen, self.work, self.profile, self.round_trip_ms = loadgen, work, profile, round_trip_ms
        self.sides = {"server": server, "client": client}
        self.children = {}

    def __enter__(self):
        socks, hop, echo, bulk, way = free_ports(5)
        self.targets = {"echo": f"127.0.0.1:{echo}", "bulk": f"127.0.0.1:{bulk}"}
        self.proxy = f"127.0.0.1:{socks}"
        link = Link(socks, hop, *certificate(self.work))
        links = {"server": link, "client": link}
        try:
            endpoint = [self.loadgen, "endpoint", "--echo", self.targets["echo"], "--bulk", self.targets["bulk"]]
            self.children["endpoint"] = Child(endpoint, bulk, self.path("endpoint.log"))
            if self.round_trip_ms is not None:
                links["client"] = Link(socks, way, link.certificate, link.key)
                passing = [self.loadgen, "hop", "--listen", f"127.0.0.1:{way}", "--to", f"127.0.0.1:{hop}",
                           "--round-trip-ms", str(self.round_trip_ms)]
                with contextlib.suppress(FileNotFoundError):
                    os.remove(self.path("hop.log"))
                self.children["hop"] = Child(passing, way, self.path("hop.log"))
            for side, peer in self.sides.items():
                config = self.path(f"{peer.name}-{side}-{self.profile.name}.json")
                with open(config, "w") as f:
                    f.write(peer.document(side, links[side], self.profile))
                port = socks if side == "client" else hop
                self.children[side] = Child(peer.command(side, links[side], config), port,
                                            self.path(f"{peer.name}-{side}.log"))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for side in ("client", "server", "hop", "endpoint"):
            if side in self.children:
                self.children.pop(side).stop()

    def path(self, name):
        return os.path.join(self.work, name)

    def proxies(self):
        return {side: self.children[side] for side in ("client", "server")}

    def passed_on(self):
        """What the hop has passed on, up to the last connection that has ended."""
        with open(self.path("hop.log")) as f:
            lines = f.read().splitlines()
        return json.loads(lines[-1]) if lines else {"up": 0, "down": 0}

    def load(self, command, target, **options):
        """The command line of a load."""
        words = [self.loadgen, command, "--to", self.targets[target], "--proxy", self.proxy]
        for name, value in options.items():
            words += [f"--{name}", str(value)]
        return words


def raise_limit():
    """As many open files as may be; who may raise the limit gets what twenty thousand tunnels need."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for most in (max(hard, 65_536), hard):
        with contextlib.suppress(ValueError, OSError):
            return resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def tunnels_that_fit(count):
    """`count`, or as many as one process may have files for: two each, and a few for itself."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = (files - 64) // 2
    if count > most:
        print(f"{count} tunnels need {2 * count + 64} open files in each program and {files} are allowed (ulimit -Hn): "
              f"{most} are opened", file=sys.stderr)
    return min(count, most)


def free_ports(count):
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [s.getsockname()[1] for s in sockets]


def listening(port):
    """Looked up, not tried: a connection would be counted."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError), open(table) as f:
            for fields in map(str.split, f):
                if fields[1].endswith(f":{port:04X}") and fields[3] == "0A":
                    return True
    return False


def certificate(work):
    found = os.path.join(work, "certificate.pem"), os.path.join(work, "key.pem")
    if not os.path.exists(found[0]):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-days", "30", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}",
                        "-out", found[0], "-keyout", found[1]], check=True, capture_output=True)
    return found


def machine_busy():
    """Seconds that all processors together have worked since the start of the machine."""
    with open("/proc/stat") as f:
        user, nice, system, _idle, _wait, irq, softirq, stolen = map(int, f.readline().split()[1:9])
    return (user + nice + system + irq + softirq + stolen) / TICK
