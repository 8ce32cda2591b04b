"""VMess openings and WebSocket frames, written from the protocol and not from wsray's code, so that they can be wrong on purpose.

The cipher is the plain textbook one: good for a few thousand headers, not for traffic.
"""

import hashlib
import os
import ssl
import socket
import struct
import time
import uuid
import zlib

# AES-128 and GCM (FIPS 197, NIST SP 800-38D) -------------------------------------------------------------------------


def _double(value):
    return ((value << 1) ^ 0x1B) & 0xFF if value & 0x80 else value << 1


def _make_sbox():
    box, p, q = [0x63] * 256, 1, 1
    while True:
        p ^= _double(p)
        for shift in (1, 2, 4):
            q ^= (q << shift) & 0xFF
        if q & 0x80:
            q ^= 0x09
        rotated = q ^ (q << 1 | q >> 7) ^ (q << 2 | q >> 6) ^ (q << 3 | q >> 5) ^ (q << 4 | q >> 4)
        box[p] = (rotated & 0xFF) ^ 0x63
        if p == 1:
            return box


SBOX = _make_sbox()
DOUBLE = [_double(value) for value in range(256)]


def aes_round_keys(key):
    words, constant = [list(key[i:i + 4]) for i in range(0, 16, 4)], 1
    for i in range(4, 44):
        word = words[i - 1]
        if i % 4 == 0:
            word = [SBOX[b] for b in word[1:] + word[:1]]
            word[0] ^= constant
            constant = _double(constant)
        words.append([a ^ b for a, b in zip(words[i - 4], word)])
    return [sum(words[i:i + 4], []) for i in range(0, 44, 4)]


def aes_encrypt(round_keys, block):
    state = [a ^ b for a, b in zip(block, round_keys[0])]
    for number, key in enumerate(round_keys[1:], 1):
        state = [SBOX[state[(i + 4 * (i % 4)) % 16]] for i in range(16)]
        if number < 10:
            mixed = []
            for c in range(0, 16, 4):
                column = state[c:c + 4]
                every = column[0] ^ column[1] ^ column[2] ^ column[3]
                mixed += [column[i] ^ every ^ DOUBLE[column[i] ^ column[(i + 1) % 4]] for i in range(4)]
            state = mixed
        state = [a ^ b for a, b in zip(state, key)]
    return bytes(state)


def gcm_seal(key, nonce, plain, associated):
    keys = aes_round_keys(key)
    subkey = int.from_bytes(aes_encrypt(keys, bytes(16)), "big")

    def multiply(x):
        product, v = 0, subkey
        for bit in range(127, -1, -1):
            if x >> bit & 1:
                product ^= v
            v = v >> 1 ^ (0xE1 << 120 if v & 1 else 0)
        return product

    sealed = b""
    for number in range(0, len(plain), 16):
        stream = aes_encrypt(keys, nonce + struct.pack(">I", number // 16 + 2))
        sealed += bytes(a ^ b for a, b in zip(plain[number:number + 16], stream))
    hashed = 0
    for part in (associated, sealed):
        for start in range(0, len(part), 16):
            hashed = multiply(hashed ^ int.from_bytes(part[start:start + 16].ljust(16, b"\0"), "big"))
    hashed = multiply(hashed ^ (len(associated) * 8 << 64 | len(sealed) * 8))
    tag = hashed ^ int.from_bytes(aes_encrypt(keys, nonce + b"\0\0\0\1"), "big")
    return sealed + tag.to_bytes(16, "big")


# VMess (v2fly/v2ray-core proxy/vmess/aead) ---------------------------------------------------------------------------


def kdf(key, *path):
    def keyed(inner, salt):
        salt = salt.ljust(64, b"\0")
        first, second = bytes(b ^ 0x36 for b in salt), bytes(b ^ 0x5C for b in salt)
        return lambda data: inner(second + inner(first + data))

    digest = lambda data: hashlib.sha256(data).digest()
    for salt in (b"VMess AEAD KDF", *path):
        digest = keyed(digest, salt)
    return digest(key)


def command_key(user):
    return hashlib.md5(uuid.UUID(user).bytes + b"c48619fe-8f02-49e0-b9e9-edf763e17e21").digest()


def auth_id(key, at=None, right_sum=True):
    plain = struct.pack(">q", int(time.time() if at is None else at)) + os.urandom(4)
    plain += struct.pack(">I", zlib.crc32(plain) ^ (0 if right_sum else 1))
    return aes_encrypt(aes_round_keys(kdf(key, b"AES Auth ID Encryption")[:16]), plain)


def fnv1a(data):
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return struct.pack(">I", value)


TCP, MUX = 1, 3


def opening(user, target=("127.0.0.1", 9), command=TCP, security=5, options=1, version=1, at=None, right_sum=True,
            right_hash=True, nonce=None, identity=None):
    """The header of a request; `security` 5 is `none`, so that what follows needs no cipher."""
    key = command_key(user)
    head = bytes([version]) + os.urandom(33) + bytes([options, security, 0, command])
    if command != MUX:
        head += struct.pack(">HB", target[1], 1) + socket.inet_aton(target[0])
    head += fnv1a(head) if right_hash else b"\0\0\0\0"
    identity = identity or auth_id(key, at, right_sum)
    nonce = nonce or os.urandom(8)

    def seal(what, plain):
        salt = [b"VMess Header AEAD " + what % b"Key", b"VMess Header AEAD " + what % b"Nonce"]
        return gcm_seal(kdf(key, salt[0], identity, nonce)[:16], kdf(key, salt[1], identity, nonce)[:12], plain, identity)

    return identity + seal(b"%s_Length", struct.pack(">H", len(head))) + nonce + seal(b"%s", head)


RESPONSE_HEAD = 38  # length 2 and tag, header 4 and tag


def chunk(data):
    """A piece of a body with security `none` and option 1; an empty one is the end mark."""
    return struct.pack(">H", len(data)) + data


def mux_new(session, target):
    head = struct.pack(">HBBBHB", session, 1, 0, 1, target[1], 1) + socket.inet_aton(target[0])
    return struct.pack(">H", len(head)) + head


# WebSocket ------------------------------------------------------------------------------------------------------------

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def request(path, more=""):
    return (f"GET {path} HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: Go-http-client/1.1\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{more}Upgrade: websocket\r\n\r\n").encode()


def frame(payload):
    """Masked with zeros, which is legal and keeps the bytes readable."""
    size = len(payload)
    if size < 126:
        head = struct.pack(">BB", 0x82, 0x80 | size)
    else:
        head = struct.pack(">BBH", 0x82, 0xFE, size) if size < 65536 else struct.pack(">BBQ", 0x82, 0xFF, size)
    return head + bytes(4) + payload


def connect(port, tls=False, timeout=20):
    made = socket.create_connection(("127.0.0.1", port), timeout)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        made = context.wrap_socket(made, server_hostname="bench.test")
    return made


def read_head(made):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        got = made.recv(1)
        if not got:
            break
        head += got
    return head


def upgraded(port, path, tls=False):
    made = connect(port, tls)
    made.sendall(request(path))
    head = read_head(made)
    if not head.startswith(b"HTTP/1.1 101"):
        raise OSError(f"no upgrade: {head[:60]!r}")
    return made


def socks(port, target, timeout=20):
    """A connection to `target` through the SOCKS 5 proxy at `port`."""
    made = connect(port, timeout=timeout)
    made.sendall(b"\5\1\0")
    if exactly(made, 2) != b"\5\0":
        raise OSError("the proxy refused the method")
    made.sendall(b"\5\1\0\1" + socket.inet_aton(target[0]) + struct.pack(">H", target[1]))
    answer = exactly(made, 10)
    if answer[1] != 0:
        raise OSError(f"the proxy refused: {answer[1]}")
    return made


def exactly(made, size):
    got = b""
    while len(got) < size:
        piece = made.recv(size - len(got))
        if not piece:
            raise OSError(f"ended after {len(got)} of {size} bytes")
        got += piece
    return got
