"""Client, server and origin of one fault, and what becomes of many connections at once."""

import json
import os
import select
import signal
import socket
import sys
import threading
import time

import origin
import wire
from peers import ID, PATH, Link
from stack import Child, certificate, free_ports

HERE = os.path.dirname(os.path.abspath(__file__))


class Rig:
    """Context manager: `sides` maps "server", and "client" if there is one, to peers. `change` may rewrite a side's document;
    `handed_over`: the server gets its listener from here, as from systemd."""

    def __init__(self, work, profile, sides, change=None, open_files=None, handed_over=False):
        self.work, self.profile, self.sides = work, profile, sides
        self.change, self.open_files = change or (lambda side, document: None), open_files
        self.socks, self.hop, self.origin_port = free_ports(3)
        self.origin = ("127.0.0.1", self.origin_port)
        self.listener = socket.create_server(("127.0.0.1", self.hop), backlog=4096) if handed_over else None
        self.children = {}

    def __enter__(self):
        try:
            # Not before the processes are there: a child inherits the limit.
            self.children["origin"] = Child([sys.executable, os.path.join(HERE, "origin.py"), str(self.origin_port)],
                                            self.origin_port, self.path("origin.log"))
            for side in self.sides:
                self.start(side)
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self, side):
        peer, link = self.sides[side], Link(self.socks, self.hop, *certificate(self.work))
        document = json.loads(peer.document(side, link, self.profile))
        self.change(side, document)
        config = self.path(f"fault-{peer.name}-{side}.json")
        with open(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
            json.dump(document, f)
        command = peer.command(side, link, config)
        if side == "server" and self.open_files:
            command = ["sh", "-c", f'ulimit -n {self.open_files}; exec "$@"', "sh", *command]
        if side == "server" and self.listener:
            given = ('exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "sh")  # sd_listen_fds(3)
            command = ["sh", "-c", *given, *command]
        port = self.socks if side == "client" else self.hop
        self.children[side] = Child(command, port, self.path(f"fault-{peer.name}-{side}.log"),
                                    self.listener if side == "server" else None)

    def stop(self, side, how=signal.SIGTERM):
        """Ends it; the seconds that took and its exit code."""
        child, started = self.children.pop(side), time.monotonic()
        child.process.send_signal(how)
        try:
            code = child.process.wait(20)
        except Exception:
            child.process.kill()
            raise
        return time.monotonic() - started, code

    def __exit__(self, *_):
        for side in list(self.children):
            self.children.pop(side).stop()
        if self.listener:
            self.listener.close()
        for name in os.listdir(self.work):
            if name.startswith(f"{os.getpid()}-"):
                os.remove(os.path.join(self.work, name))

    def path(self, name):
        # Two runs at a time must not share files: wsray reloads when its own changes.
        return os.path.join(self.work, f"{os.getpid()}-{name}")

    @property
    def server(self):
        return self.children["server"]

    @property
    def tls(self):
        return self.profile.tls

    def upgraded(self):
        return wire.upgraded(self.hop, PATH, self.tls)

    def through(self, command=None):
        """A tunnel to the origin; `command` has been said."""
        made = wire.socks(self.socks, self.origin)
        if command:
            made.sendall(command.encode() + b"\n")
        return made

    def echoes(self, limit=5):
        """Seconds until a new tunnel echoes, or what went wrong."""
        started = time.monotonic()
        try:
            with wire.socks(self.socks, self.origin, limit) as made:
                made.sendall(b"echo\nhello")
                if wire.exactly(made, 5) == b"hello":
                    return time.monotonic() - started
                return "another echo"
        except OSError as error:
            return f"{type(error).__name__} after {time.monotonic() - started:.2f} s"


def open_files(child):
    return len(os.listdir(f"/proc/{child.process.pid}/fd"))


def ends_of(sockets, limit):
    """For each: seconds until it ended and how ("fin", "reset", None: still open), what it got, at most `limit` seconds."""
    poll, found, started = select.epoll(), {}, time.monotonic()
    by_number = {made.fileno(): made for made in sockets}
    got = {number: b"" for number in by_number}
    for number, made in by_number.items():
        made.setblocking(False)
        poll.register(number, select.EPOLLIN | select.EPOLLRDHUP)
    while len(found) < len(by_number) and (left := limit - (time.monotonic() - started)) > 0:
        for number, _ in poll.poll(min(left, 1.0)):
            how = None
            try:
                while piece := by_number[number].recv(65_536):
                    if len(got[number]) < 4096:
                        got[number] += piece
                how = "fin"
            except (BlockingIOError, InterruptedError):
                continue
            except OSError as error:
                # TLS libraries have an error of their own for "not now" and for an end without close_notify.
                name = type(error).__name__
                if name in ("SSLWantReadError", "SSLWantWriteError"):
                    continue
                how = "fin" if name in ("SSLEOFError", "SSLZeroReturnError") else "reset"
            found[number] = (time.monotonic() - started, how)
            poll.unregister(number)
    poll.close()
    return [(*found.get(number, (None, None)), got[number]) for number in by_number]


def download(made, size=None, pause=None):
    """Reads to the end: bytes that are right from the start on, and how it ended. `pause`: (after bytes, seconds)."""
    at, right = 0, True
    try:
        while size is None or at < size:
            piece = made.recv(262_144)
            if not piece:
                return at if right else -1, "fin"
            right = right and piece == origin.pattern(at, len(piece))
            at += len(piece)
            if pause and at >= pause[0]:
                time.sleep(pause[1])
                pause = None
        return at if right else -1, "whole"
    except ConnectionResetError:
        return at if right else -1, "reset"
    except OSError as error:
        return at if right else -1, type(error).__name__


def together(count, work):
    """Runs `work(number)` in as many threads; the results."""
    results = [None] * count

    def run(number):
        try:
            results[number] = work(number)
        except OSError as error:
            results[number] = (0, type(error).__name__)

    threads = [threading.Thread(target=run, args=[number], daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
