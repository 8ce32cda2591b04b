"""What is done to each program, and what it must come to. A case yields (row, figure, met): `met` judges wsray alone."""

import json
import os
import signal
import statistics
import subprocess
import time
import uuid

import wire
from life_cases import drain, reload
from rig import ID, PATH, Rig, download, ends_of, open_files, together
from stack import tunnels_that_fit

MIB = 1 << 20


class Setting:
    """What a case is given: the program, the profile, how much of it, and the peers for mixed pairs."""

    def __init__(self, work, peer, profile, scale, peers, loadgen):
        self.work, self.peer, self.profile, self.scale, self.peers, self.loadgen = work, peer, profile, scale, peers, loadgen

    def rig(self, client=True, **more):
        sides = {"server": self.peer} | ({"client": self.peer} if client else {})
        return Rig(self.work, self.profile, sides, **more)

    def many(self, count):
        return max(4, int(count * self.scale))


def seconds(values):
    values = [value for value in values if value is not None]
    return f"{min(values):.1f}-{max(values):.1f} s" if values else "never"


# Rows 1 and 2: openings that never come to their end -----------------------------------------------------------------

KEY = wire.command_key(ID)

STAGES = {
    "TCP only": None,
    "half a request line": lambda made: made.sendall(b"GET /ben"),
    "a header a second": "drip",
    "upgraded, silent": "upgrade",
    "half a frame": lambda made: made.sendall(b"\x82\xfe"),
    "an auth id": lambda made: made.sendall(wire.frame(wire.auth_id(KEY))),
}

LIMIT = 80


def slow_openings(setting):
    count = setting.many(2000)
    gates = {"TCP only": 4, "half a request line": 4, "a header a second": 4}
    for stage, say in STAGES.items():
        if setting.profile.tls and stage != "TCP only":
            gates[stage] = 8
        with setting.rig(client=False) as rig:
            wire.connect(rig.hop).close()
            time.sleep(0.5)
            held, refused, sizes = [], 0, []
            for number in range(count):
                # What the first ones cost once, for all, is not theirs: threads, tables, a heap that begins.
                if number == count // 4:
                    time.sleep(0.5)
                    sizes.append((rig.server.resident_kib(), open_files(rig.server)))
                try:
                    tls = rig.tls and stage != "TCP only"
                    upgraded = stage in ("upgraded, silent", "half a frame", "an auth id")
                    made = rig.upgraded() if upgraded else wire.connect(rig.hop, tls)
                    if callable(say):
                        say(made)
                    elif say == "drip":
                        made.sendall(f"GET {PATH} HTTP/1.1\r\n".encode())
                    held.append(made)
                except OSError:
                    refused += 1
            time.sleep(0.5)
            sizes.append((rig.server.resident_kib(), open_files(rig.server)))
            (less, fewer), (more, all_of_them) = sizes
            each = (more - less) / max(1, all_of_them - fewer)
            if say == "drip":
                ends = drip(held, LIMIT)
            else:
                ends = ends_of(held, LIMIT)
            cut = [after for after, how, _ in ends if how]
            for made in held:
                made.close()
            yield (f"{stage}: cut of {count}", f"{len(cut) + refused} at {seconds(cut)}"
                   + (f", {refused} refused at once" if refused else ""), len(cut) + refused == count and max(cut, default=0) <= 61)
            yield f"{stage}: KiB for each one more", f"{each:.1f}", each <= gates.get(stage, 8)


def drip(held, limit):
    """One header line a second on each, until it is cut."""
    ends, alive, started = [], list(held), time.monotonic()
    while alive and time.monotonic() - started < limit:
        found = ends_of(alive, 1.0)
        still = []
        for made, end in zip(alive, found):
            if end[1]:
                ends.append((time.monotonic() - started, *end[1:]))
                continue
            try:
                made.send(b"X-Slow: 1\r\n")
                still.append(made)
            except OSError:
                ends.append((time.monotonic() - started, "reset", b""))
        alive = still
    return ends + [(None, None, b"") for _ in alive]


# Rows 3 and 4: many sessions -----------------------------------------------------------------------------------------


# 0.25 ms where sing-box needs 1.84 CPU-s for a GiB upwards; here it needs 1.65 times as much.
MOST_MS_A_SESSION = 0.25 * 1.65


def sessions(setting):
    count = setting.many(100_000)
    with setting.rig() as rig:
        for _ in range(200):
            rig.echoes()
        time.sleep(1)
        before = {side: rig.children[side].resident_kib() for side in ("client", "server")}
        files = {side: open_files(rig.children[side]) for side in before}
        cpu = {side: rig.children[side].cpu() for side in before}
        # The far end of loadgen is quicker than ours.
        done = failed = 0
        endpoint = rig_endpoint(setting, rig)
        try:
            while done + failed < count:
                command = [setting.loadgen, "tunnels", "--to", endpoint[1], "--proxy", f"127.0.0.1:{rig.socks}", "--workers",
                           "16", "--seconds", "600", "--most", str(count - done - failed)]
                told = subprocess.run(command, capture_output=True, text=True, timeout=1200)
                row = json.loads(told.stdout)
                done, failed = done + row["done"], failed + row["failed"]
        finally:
            endpoint[0].stop()
        time.sleep(3)
        grown = {side: (rig.children[side].resident_kib() - before[side]) / 1024 for side in before}
        each = sum(rig.children[side].cpu() - cpu[side] for side in before) * 1000 / max(1, done)
        leaked = {side: open_files(rig.children[side]) - files[side] for side in before}
        yield f"{count} sessions: refused", str(failed), failed == 0
        yield f"{count} sessions: RSS growth, client / server", f"{grown['client']:.1f} / {grown['server']:.1f} MiB", max(grown.values()) <= 8
        yield "CPU a session, both processes", f"{each:.3f} ms", each <= MOST_MS_A_SESSION
        yield "files left open, client / server", f"{leaked['client']} / {leaked['server']}", max(leaked.values()) <= 1


def rig_endpoint(setting, rig):
    from stack import Child, free_ports
    echo, bulk = free_ports(2)
    command = [setting.loadgen, "endpoint", "--echo", f"127.0.0.1:{echo}", "--bulk", f"127.0.0.1:{bulk}"]
    return Child(command, bulk, rig.path("endpoint.log")), f"127.0.0.1:{echo}"


# Row 5: replay -------------------------------------------------------------------------------------------------------


def replay(setting):
    with setting.rig(client=False) as rig:
        # Servers that refuse what is dated before their start need a moment for the first to pass.
        time.sleep(2)
        opening = wire.opening(ID, rig.origin) + wire.chunk(b"echo\nhello")

        def served():
            with rig.upgraded() as made:
                made.settimeout(3)
                made.sendall(wire.frame(opening))
                try:
                    return len(made.recv(64)) > 4
                except OSError:
                    return False

        first, again = served(), served()
        rig.stop("server", signal.SIGKILL)
        time.sleep(2)
        rig.start("server")
        restarted = served()
        say = {True: "served", False: "refused"}
        yield "the first opening", say[first], first
        yield "replay, same run / after a restart", f"{say[again]} / {say[restarted]}", not (again or restarted)


# Row 6: half-close ---------------------------------------------------------------------------------------------------


def half_close(setting):
    pauses = [0, 0.5, 2, 5, 20, 40]
    with setting.rig() as rig:
        def late(number):
            with rig.through(f"late {int(pauses[number] * 1000)} 100000") as made:
                made.sendall(b"x" * 1000)
                made.shutdown(1)
                made.settimeout(60)
                return download(made)
        got = together(len(pauses), late)
        whole = sum(one == (100_000, "fin") for one in got)
        yield "answers whole after FIN and 0 to 40 s of silence", f"{whole} of {len(pauses)}", whole == len(pauses)


# Rows 7, 8, 10: ends -------------------------------------------------------------------------------------------------


def killed(setting):
    count = setting.many(100)
    for name, how in (("TERM", signal.SIGTERM), ("KILL", signal.SIGKILL)):
        with setting.rig() as rig:
            made = [rig.through(f"send {1 << 30}") for _ in range(count)]
            for one in made:
                wire.exactly(one, 100_000)
            if how == signal.SIGTERM:
                # Who drains ends when its sessions do, or when its grace is over.
                child = rig.children.pop("server")
                child.process.send_signal(how)
            else:
                child = None
                rig.stop("server", how)
            ends = together(count, lambda number: (made[number].settimeout(60), download(made[number], 1 << 34))[1])
            if child:
                child.stop()
            silent = sum(how == "fin" for _, how in ends)
            hang = sum(how not in ("fin", "reset") for _, how in ends)
            yield (f"server {name} in the middle of {count}: silent truncations",
                   f"{silent}" + (f", {hang} hang" if hang else ""), silent == 0 and hang == 0)


def origin_reset(setting):
    with setting.rig() as rig:
        def one(_):
            with rig.through(f"reset {MIB}") as made:
                got = wire.exactly(made, 1000)
                size, how = download(made, 1 << 34) if got else (0, "")
                return time.monotonic() - started, how
        started = time.monotonic()
        ends = together(20, one)
        seen = [after for after, how in ends if how == "reset"]
        yield ("origin resets after 1 MiB: the application sees it", f"{len(seen)} of 20 at {seconds(seen)}"
               + "".join(f", {sum(h == k for _, h in ends)} {k}" for k in sorted({h for _, h in ends} - {"reset"})),
               len(seen) == 20 and max(seen) <= 1)


# Row 9: downloads in every pairing -----------------------------------------------------------------------------------


def downloads(setting):
    others = [peer for name, peer in setting.peers.items() if name in ("v2ray-4.45", "sing-box")]
    pairs = [(setting.peer, setting.peer)]
    if setting.peer.name == "wsray":
        pairs += [(setting.peer, other) for other in others] + [(other, setting.peer) for other in others]
    else:
        pairs += [(setting.peer, other) for other in others if other is not setting.peer]
    for client, server in pairs:
        for size in (20_000, 2_000_000):
            with Rig(setting.work, setting.profile, {"server": server, "client": client}) as rig:
                def one(_):
                    with rig.through(f"give {size}") as made:
                        return download(made)
                whole = sum(got == (size, "fin") for got in together(40, one))
                yield (f"{client.name} to {server.name}: 40 downloads of {size // 1000} KB", f"{whole} whole", whole == 40)


# Row 14: slow readers ------------------------------------------------------------------------------------------------


def slow_readers(setting):
    count, size = setting.many(50), 50_000_000
    with setting.rig() as rig:
        rig.echoes()
        time.sleep(0.5)
        before = {side: rig.children[side].resident_kib() for side in ("client", "server")}
        rig_reset_peaks(rig)
        made = [rig.through(f"give {size}") for _ in range(count)]
        for one in made:
            wire.exactly(one, 100_000)
        cpu = None
        time.sleep(5)
        cpu = {side: rig.children[side].cpu() for side in before}
        alone = [rig.echoes() for _ in range(5)]
        time.sleep(5)
        busy = sum(rig.children[side].cpu() - cpu[side] for side in before)
        held = {side: (rig.children[side].resident_kib() - before[side]) / count for side in before}

        def rest(number):
            at, right = 100_000, True
            import origin
            while piece := made[number].recv(262_144):
                right = right and piece == origin.pattern(at, len(piece))
                at += len(piece)
            return (at if right else -1), "fin"

        whole = sum(got == (size, "fin") for got in together(count, rest))
        peak = {side: (rig.children[side].resident_kib("VmHWM") - before[side]) / count for side in before}
        yield f"{count} stalled: KiB each, server / client", f"{held['server']:.0f} / {held['client']:.0f}", max(held.values()) <= 96
        yield "the same, peak until all is read", f"{peak['server']:.0f} / {peak['client']:.0f}", max(peak.values()) <= 96
        yield "read on: whole", f"{whole} of {count}", whole == count
        yield "CPU in 5 s of stalling", f"{busy:.2f} s", busy < 0.3
        worst = max((value if isinstance(value, float) else 9 for value in alone), default=0)
        yield "another tunnel beside them", f"{worst * 1000:.0f} ms", worst < 0.5


def rig_reset_peaks(rig):
    for side in ("client", "server"):
        try:
            with open(f"/proc/{rig.children[side].process.pid}/clear_refs", "w") as f:
                f.write("5")
        except OSError:
            pass


# Row 15: no file descriptors -----------------------------------------------------------------------------------------


def starved(setting):
    with setting.rig(open_files=256) as rig:
        live = rig.through("echo")
        live.sendall(b"before")
        wire.exactly(live, 6)
        attackers = []
        for _ in range(500):
            try:
                made = wire.connect(rig.hop, timeout=2)
                made.sendall(wire.request(PATH))
                attackers.append(made)
            except OSError:
                pass
        time.sleep(1)
        cpu, files = rig.server.cpu(), open_files(rig.server)
        moved = []
        for _ in range(20):
            started = time.monotonic()
            live.sendall(b"still")
            wire.exactly(live, 5)
            moved.append(time.monotonic() - started)
            time.sleep(0.1)
        spin = (rig.server.cpu() - cpu) / 2
        fresh = rig.echoes(10)
        for made in attackers:
            made.close()
        released = time.monotonic()
        again = rig.echoes(10)
        while not isinstance(again, float) and time.monotonic() - released < 20:
            again = rig.echoes(10)
        recovered = time.monotonic() - released
        yield f"files open of 256; CPU meanwhile", f"{files}; {spin:.2f}", spin < 0.1
        yield "the live session moves", f"{max(moved) * 1000:.0f} ms", max(moved) < 0.5
        yield "a new session meanwhile", f"served in {fresh:.2f} s" if isinstance(fresh, float) else f"refused: {fresh}", \
            isinstance(fresh, float) or float(fresh.split()[-2]) < 2
        yield "served again after the release", f"{recovered:.2f} s", recovered <= 1
    for files in (256, 257):  # A session has two: the last one finds one or none.
        with setting.rig(open_files=files) as rig:
            users, waited = [], []
            while len(waited) < 10:
                started = time.monotonic()
                try:
                    users.append(rig.through("echo"))
                    users[-1].settimeout(10)
                    users[-1].sendall(b"here")
                    wire.exactly(users[-1], 4)
                except OSError:
                    waited.append(time.monotonic() - started)
            yield f"users have all of {files} files: ten newcomers are refused after", seconds(waited), max(waited) < 2


# Row 16: many users --------------------------------------------------------------------------------------------------


def users(setting):
    count = setting.many(10_000)

    def more(side, document):
        inbound = document["inbounds"][0]
        if "settings" in inbound:
            inbound["settings"]["clients"] += [{"id": str(uuid.uuid4()), "alterId": 0} for _ in range(count)]
        else:
            inbound["users"] += [{"uuid": str(uuid.uuid4()), "alterId": 0} for _ in range(count)]

    costs = []
    for probing in (True, False):
        with setting.rig(client=False, change=more) as rig:
            resident = rig.server.resident_kib() / 1024
            probes, made = 200, []
            cpu = rig.server.cpu()
            for _ in range(probes):
                made.append(rig.upgraded())
                made[-1].sendall(wire.frame(os.urandom(16) if probing else b"x"))
            time.sleep(1)
            costs.append((rig.server.cpu() - cpu) * 1000 / probes)
            for one in made:
                one.close()
    each = max(0.0, costs[0] - costs[1])
    yield f"{count} users: ms for an unknown id (the upgrade not counted)", f"{each:.2f}", each <= 0.5
    yield f"{count} users: RSS", f"{resident:.0f} MiB", resident <= 20


# Row 17: mux ---------------------------------------------------------------------------------------------------------


def mux_bomb(setting):
    with setting.rig(client=False) as rig:
        before = open_files(rig.server)
        with rig.upgraded() as made:
            made.sendall(wire.frame(wire.opening(ID, command=wire.MUX)))
            for session in range(1, 2001):
                made.sendall(wire.frame(wire.chunk(wire.mux_new(session, rig.origin))))
            time.sleep(2)
            most = open_files(rig.server) - before
        time.sleep(1)
        left = open_files(rig.server) - before
        yield "2,000 mux sessions on one connection: files", str(most), most <= 300
        yield "a second after it closed", str(left), left <= 1


# Row 18: strangers ---------------------------------------------------------------------------------------------------


def strangers(setting):
    """What can be told apart by bytes, time and ending when an opening is wrong."""
    now = time.time()
    old = wire.opening(ID)
    identity = wire.auth_id(KEY)
    kinds = {
        "16 random bytes": lambda: os.urandom(16),
        "100 random bytes": lambda: os.urandom(100),
        "4000 random bytes": lambda: os.urandom(4000),
        "a wrong id": lambda: wire.opening(str(uuid.uuid4())),
        "a wrong sum": lambda: wire.opening(ID, right_sum=False),
        "125 s late": lambda: wire.opening(ID, at=now - 125 - 10),
        "125 s early": lambda: wire.opening(ID, at=time.time() + 125),
        "the length's tag": lambda: flipped(wire.opening(ID), 20),
        "the nonce": lambda: flipped(wire.opening(ID), 36),
        "the header's tag": lambda: flipped(wire.opening(ID), -1),
        "a wrong hash": lambda: wire.opening(ID, right_hash=False),
        "version 2": lambda: wire.opening(ID, version=2),
        "command 9": lambda: wire.opening(ID, command=9),
        "an old auth id, another header": lambda: wire.opening(ID, identity=identity),
        "a replay": lambda: old,
    }
    count = setting.many(100)

    def quick(side, document):
        document.setdefault("policy", {"levels": {"0": {"handshake": 4}}}) if "outbounds" in document and "route" not in document else None

    change = quick if "sing" not in setting.peer.name else None
    seen = {}
    with setting.rig(client=False, change=change) as rig:
        with rig.upgraded() as made:  # So that the replay is one, and so is the old auth id.
            made.sendall(wire.frame(old))
            time.sleep(0.2)
        with rig.upgraded() as made:
            made.sendall(wire.frame(wire.opening(ID, identity=identity)))
            time.sleep(0.2)
        for name, make in kinds.items():
            held, born, payloads = [], [], [make() for _ in range(count)]
            for payload in payloads:
                born.append(time.monotonic())
                held.append(rig.upgraded())
                held[-1].sendall(wire.frame(payload))
            waiting = time.monotonic()
            ends = ends_of(held, 8 if change else 3)
            for made in held:
                made.close()
            seen[name] = [(waiting + after - began if how else None, how, got) for began, (after, how, got) in zip(born, ends)]
    shapes = {name: {(how, got) for _, how, got in ends} for name, ends in seen.items()}
    times = {name: statistics.median(after if after is not None else 99.0 for after, _, _ in ends) for name, ends in seen.items()}
    first = shapes["16 random bytes"]
    apart = sorted(name for name, shape in shapes.items() if shape != first)
    spread = max(times.values()) - min(times.values())
    described = ", ".join(sorted(f"{how or 'open'} after {got[:4].hex() or 'nothing'}" for how, got in first))
    yield (f"{len(kinds)} kinds x {count}: endings that differ from those of noise", f"{len(apart)}"
           + (f" ({', '.join(apart)})" if apart else ""), not apart)
    yield "how noise ends", described, True
    yield "medians of the time, range", f"{min(times.values()):.2f}-{max(times.values()):.2f} s", spread < 0.5


def flipped(opening, at):
    changed = bytearray(opening)
    changed[at] ^= 1
    return bytes(changed)


# Tunnels -------------------------------------------------------------------------------------------------------------


def tunnels(setting):
    count = tunnels_that_fit(setting.many(10_000))
    with setting.rig() as rig:
        rig.echoes()
        before = {side: rig.children[side].resident_kib() for side in ("client", "server")}
        held, failed = [], 0
        for _ in range(count):
            try:
                made = rig.through("echo")
                held.append(made)
            except OSError:
                failed += 1
                if failed > 50:
                    break
        time.sleep(2)
        cpu = {side: rig.children[side].cpu() for side in before}
        taken, started = [], time.monotonic()
        busy = held[:max(1, len(held) // 100)]
        while time.monotonic() - started < 5:
            for made in busy:
                begun = time.monotonic()
                made.sendall(b"ping")
                wire.exactly(made, 4)
                taken.append(time.monotonic() - begun)
        used = sum(rig.children[side].cpu() - cpu[side] for side in before)
        alive = 0
        for made in held:
            try:
                made.sendall(b"late")
                alive += wire.exactly(made, 4) == b"late"
            except OSError:
                pass
        each = {side: (rig.children[side].resident_kib() - before[side]) / max(1, len(held)) for side in before}
        yield f"{count} tunnels: open / alive", f"{len(held)} / {alive}", len(held) == alive == count
        yield "KiB each, client / server", f"{each['client']:.1f} / {each['server']:.1f}", max(each.values()) <= 12
        taken.sort()
        p50, p99 = (taken[int(len(taken) * at)] * 1e6 for at in (0.5, 0.99))
        yield "1 % busy: p50 / p99 of an echo", f"{p50:.0f} / {p99:.0f} us", p99 < 20_000
        yield "CPU for an echo, both", f"{used * 1e6 / len(taken):.0f} us", True


# A soak --------------------------------------------------------------------------------------------------------------


def soak(setting):
    """Half an hour of everything at once; nothing may be left of it."""
    lasts = 1800 * setting.scale
    with setting.rig() as rig:
        for _ in range(50):
            rig.echoes()
        time.sleep(2)
        sides = ("client", "server")
        before = {side: (rig.children[side].resident_kib(), open_files(rig.children[side])) for side in sides}
        end, done, wrong = time.monotonic() + lasts, {}, []

        def churn(number):
            import random
            dice = random.Random(number)
            kinds = [visit, fetch, leave, reset, half, strange]
            while time.monotonic() < end:
                kind = dice.choice(kinds)
                try:
                    kind(dice)
                except OSError as error:
                    wrong.append(f"{kind.__name__}: {type(error).__name__}: {error}")
                done[kind.__name__] = done.get(kind.__name__, 0) + 1
            return 0, ""

        def visit(_):
            if not isinstance(took := rig.echoes(), float):
                raise OSError(took)

        def fetch(dice):
            size = dice.choice([0, 1, 20_000, 300_000, 4_000_000])
            with rig.through(f"give {size}") as made:
                if download(made) != (size, "fin"):
                    raise OSError(f"{size} bytes did not come whole")

        def leave(dice):
            with rig.through("send 8000000") as made:
                wire.exactly(made, dice.randrange(1, 200_000))

        def reset(_):
            with rig.through("reset 100000") as made:
                got = download(made, 1 << 34)
                if got[1] != "reset":
                    raise OSError(f"a reset came as {got}")

        def half(dice):
            with rig.through(f"late {dice.randrange(300)} 5000") as made:
                made.shutdown(1)
                if download(made) != (5000, "fin"):
                    raise OSError("the answer after a half-close did not come whole")

        def strange(dice):
            with wire.connect(rig.hop, rig.tls) as made:
                made.sendall(dice.choice([b"", b"GET /", wire.request("/other"), wire.request(PATH), dice.randbytes(300)]))
                time.sleep(dice.random())

        middle = {}

        def watch(_):
            time.sleep(lasts / 2)
            middle.update({side: rig.children[side].resident_kib() for side in sides})
            return 0, ""

        together(13, lambda number: watch(0) if number == 12 else churn(number))
        time.sleep(12)
        total = sum(done.values())
        yield f"{lasts / 60:.0f} minutes of churn: what was done", f"{total} ({', '.join(f'{n} {k}' for k, n in sorted(done.items()))})", total > 0
        yield "what went wrong", f"{len(wrong)}" + (f": {wrong[0]}" if wrong else ""), not wrong
        grown = {side: (rig.children[side].resident_kib() - before[side][0]) / 1024 for side in sides}
        late = {side: (rig.children[side].resident_kib() - middle[side]) / 1024 for side in sides}
        left = {side: open_files(rig.children[side]) - before[side][1] for side in sides}
        yield "RSS growth, client / server", f"{grown['client']:.1f} / {grown['server']:.1f} MiB", max(grown.values()) <= 12
        yield "of it in the second half", f"{late['client']:.1f} / {late['server']:.1f} MiB", max(late.values()) <= 2
        yield "files left open, client / server", f"{left['client']} / {left['server']}", max(left.values()) <= 1


CASES = {
    "slow-openings": slow_openings, "sessions": sessions, "replay": replay, "half-close": half_close, "killed": killed,
    "origin-reset": origin_reset, "downloads": downloads, "slow-readers": slow_readers, "starved": starved, "users": users,
    "mux-bomb": mux_bomb, "strangers": strangers, "drain": drain, "reload": reload, "tunnels": tunnels, "soak": soak,
}
