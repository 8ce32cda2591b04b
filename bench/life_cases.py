"""What becomes of sessions and newcomers when a server is stopped, reloaded or replaced."""

import contextlib
import json
import signal
import socket
import threading
import time
import uuid

from rig import download, together

PIECE = 1000  # of the origin's `drip`


def drain(setting):
    """SIGTERM: what fits into the grace period ends as it should, the rest is cut and seen to be."""
    count = setting.many(20)
    with setting.rig() as rig:
        soon, late = 30, 600  # tenths of a second
        made = [rig.through(f"drip 100 {lasts}") for lasts in [soon] * count + [late] * count]
        time.sleep(0.5)
        child = rig.children.pop("server")
        started = time.monotonic()
        child.process.send_signal(signal.SIGTERM)
        try:
            ends = together(len(made), lambda number: (made[number].settimeout(30), download(made[number]))[1])
            code = child.process.wait(30)
            took = time.monotonic() - started
        finally:
            child.stop()
        whole = sum(end == (soon * PIECE, "fin") for end in ends[:count])
        cut, silent = (sum(how == one for _, how in ends[count:]) for one in ("reset", "fin"))
        yield "SIGTERM: downloads with 3 s to go that end whole", f"{whole} of {count}", whole == count
        yield "with a minute to go: cut / taken for whole", f"{cut} / {silent} of {count}", cut == count
        yield "the process ended after; exit code", f"{took:.1f} s; {code}", took <= 12 and code == 0


class Newcomers:
    """Context manager: four threads that connect and upgrade, one connection after the other."""

    def __init__(self, rig):
        self.rig, self.done, self.refused, self.over = rig, 0, [], threading.Event()
        self.threads = [threading.Thread(target=self.come, daemon=True) for _ in range(4)]

    def come(self):
        while not self.over.wait(0.005):
            try:
                self.rig.upgraded().close()
                self.done += 1
            except OSError as error:
                self.refused.append(type(error).__name__)
                self.over.wait(0.02)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def told(self):
        why = f": {', '.join(sorted(set(self.refused)))}" if self.refused else ""
        return f"{len(self.refused)} of {self.done + len(self.refused)}{why}"


def one_more_user(rig):
    """So that there is something to reload."""
    name = rig.path(f"fault-{rig.sides['server'].name}-server.json")
    with open(name) as f:
        document = json.load(f)
    inbound = document["inbounds"][0]
    if "settings" in inbound:
        inbound["settings"]["clients"].append({"id": str(uuid.uuid4()), "alterId": 0})
    else:
        inbound["users"].append({"uuid": str(uuid.uuid4()), "alterId": 0})
    with open(name, "w") as f:
        json.dump(document, f)


def reload(setting):
    """SIGHUP with a changed configuration, five times; then another process in the place of the first."""
    count = setting.many(20)
    with setting.rig() as rig:
        made = [rig.through("drip 100 40") for _ in range(count)]
        with Newcomers(rig) as newcomers:
            for _ in range(5):
                time.sleep(0.5)
                one_more_user(rig)
                with contextlib.suppress(ProcessLookupError):
                    rig.server.process.send_signal(signal.SIGHUP)
            time.sleep(0.5)
        alive = rig.server.process.poll() is None
        ends = together(count, lambda number: (made[number].settimeout(20), download(made[number]))[1])
        whole = sum(end == (40 * PIECE, "fin") for end in ends)
        yield "five SIGHUP: running downloads that end whole", f"{whole} of {count}", whole == count
        yield "newcomers refused meanwhile", newcomers.told() + ("" if alive else " (it has ended)"), \
            alive and not newcomers.refused
    with setting.rig(client=False, handed_over=setting.peer.takes_listeners) as rig, Newcomers(rig) as newcomers:
        time.sleep(0.5)
        rig.stop("server")
        rig.start("server")
        time.sleep(1)
        newcomers.__exit__()
        yield "another process in its place (takes over the listener if it can): newcomers refused", newcomers.told(), \
            not newcomers.refused
