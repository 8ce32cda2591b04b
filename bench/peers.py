"""The programs that are measured: how each is configured and started. To add one, subclass Peer and list it in PEERS."""

import json
import os
from dataclasses import dataclass

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ID = "b831381d-6324-4d53-ad4f-8cda48b30811"
PATH = "/bench"
NAME = "bench.test"
EARLY_DATA = "Sec-WebSocket-Protocol"


@dataclass(frozen=True)
class Profile:
    name: str
    security: str | None  # None: SOCKS to SOCKS, no VMess
    tls: bool = False
    early_data: bool = False
    preconnect: int = 0  # wsray's: connections made before they are needed
    resumption: bool = False
    tls_early_data: bool = False  # wsray's


PROFILES = {p.name: p for p in [
    Profile("plain", None),
    Profile("ws-gcm", "aes-128-gcm"),
    Profile("ws-chacha", "chacha20-poly1305"),
    Profile("ws-none", "none"),
    Profile("ws-zero", "zero"),
    Profile("ws-ed", "aes-128-gcm", early_data=True),
    Profile("wss-gcm", "aes-128-gcm", tls=True),
    Profile("wss-chacha", "chacha20-poly1305", tls=True),
    Profile("wss-none", "none", tls=True),
    Profile("wss-zero", "zero", tls=True),
    Profile("wss-ed", "aes-128-gcm", tls=True, early_data=True),
    Profile("wss-resumed", "aes-128-gcm", tls=True, resumption=True),
    Profile("wss-ed0", "aes-128-gcm", tls=True, early_data=True, resumption=True, tls_early_data=True),
    Profile("ws-ready", "aes-128-gcm", preconnect=2),
    Profile("wss-ready", "aes-128-gcm", tls=True, preconnect=2),
]}


@dataclass(frozen=True)
class Link:
    """The client listens on port `socks` and asks the server on port `hop`; both on 127.0.0.1."""
    socks: int
    hop: int
    certificate: str
    key: str


# What no other program can do, or what wsray alone is asked for here.
WSRAYS = frozenset({"wss-resumed", "wss-ed0", "ws-ready", "wss-ready"})


class Peer:
    lacks = WSRAYS | {"plain"}  # profiles that it cannot do
    takes_listeners = False  # from systemd

    def __init__(self, name, binary, lacks=()):
        self.name, self.binary = name, binary
        self.lacks = type(self).lacks | frozenset(lacks)

    def document(self, side, link, profile):
        """The text of its configuration."""
        raise NotImplementedError

    def command(self, side, link, config):
        return [self.binary, "run", "-c", config]

    def version(self):
        """What to run to be told its version."""
        return [self.binary, "version"]


class V2Ray(Peer):
    def command(self, side, link, config):
        return [self.binary, "-config", config]

    def version(self):
        return [self.binary, "-version"]

    def document(self, side, link, profile):
        if side == "client":
            inbound = {"listen": "127.0.0.1", "port": link.socks, "protocol": "socks",
                       "settings": {"auth": "noauth"}}
            user = {"id": ID, "alterId": 0, "security": profile.security}
            server = {"address": "127.0.0.1", "port": link.hop, "users": [user]}
            outbound = {"protocol": "vmess", "settings": {"vnext": [server]},
                        "streamSettings": self.stream(side, link, profile)}
        else:
            inbound = {"listen": "127.0.0.1", "port": link.hop, "protocol": "vmess",
                       "settings": {"clients": [{"id": ID, "alterId": 0}]},
                       "streamSettings": self.stream(side, link, profile)}
            outbound = {"protocol": "freedom"}
        return json.dumps({"log": {"access": "none", "loglevel": "none"}, "inbounds": [inbound], "outbounds": [outbound]}, indent=1)

    def stream(self, side, link, profile):
        ws = {"path": PATH}
        if profile.early_data:
            ws |= {"maxEarlyData": 2048, "earlyDataHeaderName": EARLY_DATA}
        stream = {"network": "ws", "wsSettings": ws}
        if profile.tls:
            certificate = {"certificateFile": link.certificate, "keyFile": link.key}
            stream["security"] = "tls"
            stream["tlsSettings"] = ({"serverName": NAME, "allowInsecure": True} if side == "client" else
                                     {"certificates": [certificate]})
        return stream


class Wsray(V2Ray):
    """V2Ray's document with some more, its own command line."""
    lacks = frozenset({"plain"})
    takes_listeners = True
    command = Peer.command
    version = Peer.version

    def stream(self, side, link, profile):
        stream = super().stream(side, link, profile)
        if profile.preconnect and side == "client":
            stream["wsSettings"]["preconnect"] = profile.preconnect
        if profile.resumption:
            stream["tlsSettings"]["enableSessionResumption"] = True
        if profile.tls_early_data:
            stream["tlsSettings"]["enableEarlyData"] = True
        return stream


class SingBox(Peer):
    def document(self, side, link, profile):
        ws = {"type": "ws", "path": PATH}
        if profile.early_data:
            ws |= {"max_early_data": 2048, "early_data_header_name": EARLY_DATA}
        if side == "client":
            inbound = {"type": "socks", "listen": "127.0.0.1", "listen_port": link.socks}
            outbound = {"type": "vmess", "server": "127.0.0.1", "server_port": link.hop, "uuid": ID,
                        "security": profile.security, "transport": ws}
            if profile.tls:
                outbound["tls"] = {"enabled": True, "server_name": NAME, "insecure": True}
        else:
            inbound = {"type": "vmess", "listen": "127.0.0.1", "listen_port": link.hop,
                       "users": [{"uuid": ID, "alterId": 0}], "transport": ws}
            if profile.tls:
                inbound["tls"] = {"enabled": True, "certificate_path": link.certificate, "key_path": link.key}
            outbound = {"type": "direct"}
        return json.dumps({"log": {"disabled": True}, "inbounds": [inbound], "outbounds": [outbound]}, indent=1)


class Shoes(Peer):
    """Its configuration is YAML, which JSON is a part of."""

    def command(self, side, link, config):
        return [self.binary, "--no-reload", config]

    def version(self):
        return [self.binary, "--version"]

    def document(self, side, link, profile):
        client = side == "client"
        inner = {"type": "vmess", "cipher": profile.security if client else "any", "user_id": ID}
        target = {"matching_path": PATH, "protocol": inner}
        # Without it, it sends no Host, which others refuse.
        inner = ({"type": "websocket", **target, "matching_headers": {"Host": NAME}} if client else
                 {"type": "websocket", "targets": [target]})
        if profile.tls:
            target = {"cert": link.certificate, "key": link.key, "protocol": inner}
            inner = ({"type": "tls", "verify": False, "sni_hostname": NAME, "protocol": inner} if client else
                     {"type": "tls", "default_target": target})
        rule = {"masks": "0.0.0.0/0", "action": "allow"}
        server = f"127.0.0.1:{link.hop}"
        if client:
            rule["client_chain"] = {"address": server, "protocol": inner}
            document = {"address": f"127.0.0.1:{link.socks}", "protocol": {"type": "socks"}}
        else:
            document = {"address": server, "protocol": inner}
        return json.dumps([{**document, "transport": "tcp", "rules": [rule]}], indent=1)


class Relay(Peer):
    """loadgen's two copying hops: what two processes cost that do nothing else."""
    lacks = frozenset(PROFILES) - {"plain"}

    def document(self, side, link, profile):
        return ""

    def command(self, side, link, config):
        if side == "client":
            return [self.binary, "relay", "--listen", f"127.0.0.1:{link.socks}", "--to", f"127.0.0.1:{link.hop}"]
        return [self.binary, "relay", "--listen", f"127.0.0.1:{link.hop}"]

    def version(self):
        return None


def peers(given, loadgen):
    """Those whose programs are here; `given` maps names to programs."""
    fetched = os.path.join(os.environ.get("WSRAY_PEERS", os.path.join(ROOT, "target", "peers")), "bin")
    built = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    early_data = {"ws-ed", "wss-ed"}
    zero = {"ws-zero", "wss-zero"}
    known = [
        Relay("relay", loadgen),
        Wsray("wsray", given.get("wsray", os.path.join(built, "release", "wsray"))),
        SingBox("sing-box", given.get("sing-box", os.path.join(fetched, "sing-box"))),
        Shoes("shoes", given.get("shoes", ""), lacks=early_data | zero),
        V2Ray("v2ray-4.45", given.get("v2ray-4.45", os.path.join(fetched, "v2ray-4.45"))),
        V2Ray("v2ray-4.34", given.get("v2ray-4.34", os.path.join(fetched, "v2ray-4.34")), lacks=early_data | zero),
    ]
    # Any other name: another build of wsray, to be compared with this one.
    names = {p.name for p in known}
    known += [Wsray(name, binary) for name, binary in given.items() if name not in names]
    return {p.name: p for p in known if p.binary and os.access(p.binary, os.X_OK)}
