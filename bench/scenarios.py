"""What is measured. Each scenario takes a running stack and a scale, and returns one row of figures."""

import json
import resource
import subprocess
import time

from stack import machine_busy, tunnels_that_fit

MIB = 1 << 20


def used_by_load():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def meter(stack, command):
    """Runs a load: what it printed, and what it cost each process and took from others."""
    before = {name: child.cpu() for name, child in stack.children.items()}
    busy, load, clock = machine_busy(), used_by_load(), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    wall = time.monotonic() - clock
    if done.returncode:
        raise RuntimeError(f"{command[1]}: {done.stderr.strip()}")
    cost = {name: child.cpu() - before[name] for name, child in stack.children.items()}
    ours = sum(cost.values()) + used_by_load() - load
    row = json.loads(done.stdout)
    row["wall_s"] = wall
    # How many processors other programs kept busy meanwhile: figures are good where this is near 0.
    row["others"] = max(0.0, (machine_busy() - busy - ours) / wall)
    for side, child in stack.proxies().items():
        row[f"{side}_cpu_s"] = cost[side]
        row[f"{side}_peak_mib"] = child.resident_kib("VmHWM") / 1024
    row["cpu_s"] = cost["client"] + cost["server"]
    return row


def bulk(direction, streams):
    def scenario(stack, scale):
        def load(each):
            return stack.load("bulk", "bulk", direction=direction, streams=streams, bytes=each)
        meter(stack, load(32 * MIB // streams))
        row = meter(stack, load(int(1024 * MIB * scale) // streams))
        gib = row["bytes"] / (1 << 30)
        for what in ("client", "server"):
            row[f"{what}_s_gib"] = row[f"{what}_cpu_s"] / gib
        return row | {"cpu_s_gib": row["cpu_s"] / gib, "gbit_s": 8 * row["bytes"] / row["seconds"] / 1e9}
    return scenario


def each(row, count):
    """CPU microseconds a thing."""
    us = {f"{side}_us": 1e6 * row[f"{side}_cpu_s"] / max(count, 1) for side in ("client", "server")}
    return row | us | {"cpu_us": sum(us.values())}


def tunnels(workers):
    def scenario(stack, scale):
        meter(stack, stack.load("tunnels", "echo", workers=workers, seconds=0.3))
        row = meter(stack, stack.load("tunnels", "echo", workers=workers, seconds=max(1, 4 * scale)))
        # What is closed late is paid for late.
        return each(row, row["done"]) | {"per_s": row["done"] / row["seconds"]}
    return scenario


def ping(size):
    def scenario(stack, scale):
        row = meter(stack, stack.load("ping", "echo", rounds=max(1000, int(20_000 * scale)), size=size))
        return each(row, row["done"] + row["warm"])
    return scenario


def idle(count):
    def scenario(stack, _scale):
        meter(stack, stack.load("tunnels", "echo", workers=1, seconds=0.3))
        time.sleep(2)
        before = {side: child.resident_kib() for side, child in stack.proxies().items()}
        load = subprocess.Popen(stack.load("idle", "echo", tunnels=count), text=True, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE)
        with load:
            row = json.loads(load.stdout.readline())
            time.sleep(2)
            cpu = {side: child.cpu() for side, child in stack.proxies().items()}
            for side, child in stack.proxies().items():
                row[f"{side}_kib"] = (child.resident_kib() - before[side]) / max(row["open"], 1)
                row[f"{side}_start_mib"] = before[side] / 1024
            time.sleep(2)
            for side, child in stack.proxies().items():
                row[f"{side}_idle_ms_s"] = 1e3 * (child.cpu() - cpu[side]) / 2
            load.stdin.close()
            return row | json.loads(load.stdout.readline())
    return scenario


def busy(count, streams):
    """Bulk on some of many tunnels: what buffers come to. Every reader is as fast as the machine allows."""
    def scenario(stack, scale):
        meter(stack, stack.load("tunnels", "echo", workers=1, seconds=0.3))
        time.sleep(2)
        before = {side: child.resident_kib() for side, child in stack.proxies().items()}
        idle_ones = tunnels_that_fit(count) - streams
        load = subprocess.Popen(stack.load("idle", "echo", tunnels=idle_ones), text=True, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE)
        with load:
            row = json.loads(load.stdout.readline())
            idle = {side: child.resident_kib() for side, child in stack.proxies().items()}
            each = int(4096 * MIB * scale) // streams
            row |= meter(stack, stack.load("bulk", "bulk", direction="down", streams=streams, bytes=each))
            for side, child in stack.proxies().items():
                row[f"{side}_idle_mib"] = (idle[side] - before[side]) / 1024
                row[f"{side}_busy_mib"] = (child.resident_kib("VmHWM") - idle[side]) / 1024
            load.stdin.close()
            return row | json.loads(load.stdout.readline())
    return scenario


def trips():
    """Round trips until an application has its first byte, from its connection to the client on."""
    def scenario(stack, _scale):
        def load(most):
            return stack.load("tunnels", "echo", workers=1, seconds=60, most=most, **{"pause-ms": 4 * WAY_MS})
        meter(stack, load(2))  # tickets come, connections are made before they are needed
        row = meter(stack, load(9))
        return row | {"trips": row["p50_us"] / 1e3 / WAY_MS}
    return scenario


def wire(direction):
    """What else than payload is on the way between client and server, below TCP's own."""
    def scenario(stack, scale):
        payload = int(256 * MIB * scale)
        row = meter(stack, stack.load("bulk", "bulk", direction=direction, streams=1, bytes=payload))
        end = time.monotonic() + 5
        while (on_the_way := stack.passed_on()[direction]) < payload and time.monotonic() < end:
            time.sleep(0.1)  # some keep a connection for a second
        if on_the_way < payload:
            raise RuntimeError("the connection has not ended")
        return row | {"overhead_percent": 100 * (on_the_way / payload - 1)}
    return scenario


WAY_MS = 100

SCENARIOS = {
    "down1": bulk("down", 1), "up1": bulk("up", 1), "down8": bulk("down", 8), "up8": bulk("up", 8),
    "conn1": tunnels(1), "conn16": tunnels(16), "ping64": ping(64), "ping1k": ping(1024),
    "idle1k": idle(1000), "idle5k": idle(5000), "busy100": busy(5_000, 100), "busy10k": busy(10_000, 100),
    "trips": trips(), "wire-down": wire("down"), "wire-up": wire("up"),
}

# How long the way between client and server is in those that have a hop there.
ROUND_TRIP_MS = {"trips": WAY_MS, "wire-down": 0, "wire-up": 0}

# The columns of the tables, by how a scenario's name begins: heading, figure, digits.
COLUMNS = {
    ("down", "up"): [("CPU-s/GiB", "cpu_s_gib", 2), ("client", "client_s_gib", 2), ("server", "server_s_gib", 2),
                     ("Gbit/s", "gbit_s", 1), ("client peak MiB", "client_peak_mib", 0),
                     ("server peak MiB", "server_peak_mib", 0), ("others", "others", 1)],
    ("conn",): [("CPU us", "cpu_us", 0), ("client", "client_us", 0), ("server", "server_us", 0),
                ("a second", "per_s", 0), ("p50 us", "p50_us", 0), ("p99 us", "p99_us", 0), ("failed", "failed", 0),
                ("others", "others", 1)],
    ("ping",): [("CPU us", "cpu_us", 1), ("client", "client_us", 1), ("server", "server_us", 1),
                ("p50 us", "p50_us", 0), ("p99 us", "p99_us", 0), ("p999 us", "p999_us", 0),
                ("others", "others", 1)],
    ("busy",): [("client idle MiB", "client_idle_mib", 0), ("client busy: more MiB", "client_busy_mib", 0),
                ("server idle MiB", "server_idle_mib", 0), ("server busy: more MiB", "server_busy_mib", 0),
                ("open", "open", 0), ("alive", "alive", 0), ("others", "others", 1)],
    ("trips",): [("round trips", "trips", 2), ("p50 us", "p50_us", 0), ("failed", "failed", 0)],
    ("wire",): [("bytes over payload, %", "overhead_percent", 2)],
    ("idle",): [("client KiB", "client_kib", 1), ("server KiB", "server_kib", 1), ("open", "open", 0),
                ("alive", "alive", 0), ("client start MiB", "client_start_mib", 0),
                ("server start MiB", "server_start_mib", 0), ("client ms/s", "client_idle_ms_s", 1),
                ("server ms/s", "server_idle_ms_s", 1)],
}


def columns(scenario):
    return next(columns for names, columns in COLUMNS.items() if scenario.startswith(names))
