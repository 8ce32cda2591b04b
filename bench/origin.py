"""The far end of `faults`, told what to do by the first line of each connection:

echo            everything back, until the end
send N          N bytes of the pattern, then waits
give N          N bytes of the pattern, then closes
drip MS COUNT   1,000 bytes of the pattern every MS milliseconds, COUNT times, then closes
late MS N       reads to the end, waits MS milliseconds, then N bytes of the pattern
reset N         N bytes of the pattern, a tenth of a second, then a reset
"""

import asyncio
import contextlib
import random
import resource
import socket
import struct
import sys

PATTERN = random.Random(1).randbytes(65_521)


def pattern(start, size):
    """`size` bytes of the endless pattern from `start` on."""
    start %= len(PATTERN)
    return (PATTERN * ((start + size) // len(PATTERN) + 1))[start:start + size]


async def write(writer, size):
    at = 0
    while at < size:
        piece = min(size - at, 65_536)
        writer.write(pattern(at, piece))
        at += piece
        await writer.drain()


async def serve(reader, writer):
    with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
        words = (await reader.readline()).decode("latin-1").split() or ["nothing"]
        if words[0] == "echo":
            while piece := await reader.read(65_536):
                writer.write(piece)
                await writer.drain()
        elif words[0] == "send":
            await write(writer, int(words[1]))
            await reader.read()
        elif words[0] == "give":
            await write(writer, int(words[1]))
        elif words[0] == "drip":
            for number in range(int(words[2])):
                writer.write(pattern(number * 1000, 1000))
                await writer.drain()
                await asyncio.sleep(int(words[1]) / 1000)
        elif words[0] == "late":
            await reader.read()
            await asyncio.sleep(int(words[1]) / 1000)
            await write(writer, int(words[2]))
        elif words[0] == "reset":
            await write(writer, int(words[1]))
            await asyncio.sleep(0.1)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
    with contextlib.suppress(OSError):
        writer.close()
        await writer.wait_closed()


async def main(port):
    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=4096)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(main(int(sys.argv[1])))
