"""A server that is gone the moment it gets TERM, and clients whose streams are under way when the count falls.

dies_on_term.py serve FILE        on $PORT; each TERM leaves a line in FILE: process, requests under way, streams that it
                                  finished, milliseconds since the last of its requests ended
dies_on_term.py send FLAGS...     single answers and streams in cycles; prints a line of JSON
"""

import argparse
import asyncio
import collections
import json
import os
import random
import signal
import time

OPEN = 0
STREAMS = 0
LAST = time.monotonic()
# One cycle of a revision: single answers make the count grow, streams begin on all replicas, and when only they are left,
# fewer replicas are wanted than they are on. They outlive the window of 6 s.
SINGLE = 20
STREAMS_EACH = 8
GROWING_SECONDS = 5
STREAM_SECONDS = (8, 14)
PAUSE_SECONDS = (0, 8)
CHUNK = b"%x\r\n%s\r\n"


async def stream(writer, seconds):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        event = b"data: token\n\n"
        writer.write(CHUNK % (len(event), event))
        await writer.drain()
        await asyncio.sleep(0.25)
    end = b"data: [DONE]\n\n"
    writer.write(CHUNK % (len(end), end))


async def serve(reader, writer):
    global OPEN, STREAMS, LAST
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if head.startswith(b"get "):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                continue
            OPEN += 1
            try:
                body = await reader.readexactly(int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]))
                if head.startswith(b"post /stream "):
                    await stream(writer, float(body))
                    STREAMS += 1
                    last = b"0\r\n\r\n"
                else:
                    await asyncio.sleep(0.5)
                    last = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
            finally:
                OPEN -= 1
                LAST = time.monotonic()
            writer.write(last)
    except (OSError, asyncio.IncompleteReadError):
        writer.close()


async def serve_all(file):
    def die(*_):
        with open(file, "a") as ended:
            ended.write(f"{os.getpid()} {OPEN} {STREAMS} {(time.monotonic() - LAST) * 1000:.0f}\n")
        os._exit(0)

    # Not the loop's own handler, which would let it finish its turn.
    signal.signal(signal.SIGTERM, die)
    server = await asyncio.start_server(serve, "127.0.0.1", int(os.environ["PORT"]), backlog=1024)
    await server.serve_forever()


async def post(args, host, path, body, outcomes):
    """One request on a connection of its own, read to its end."""
    kind = path.strip("/")
    try:
        reader, writer = await asyncio.open_connection(*args.proxy.split(":"))
        head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write((head + body).encode())
        answer = await asyncio.wait_for(reader.read(-1), 120)
        writer.close()
        # The terminating chunk: a stream without it was cut.
        end = b"data: [DONE]\n\n\r\n0\r\n\r\n" if kind == "stream" else b"\r\n\r\nok"
        if answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(end):
            outcomes[kind] += 1
        else:
            outcomes[f"{kind}: {answer[:12].decode()} ... {answer[-30:]!r}"] += 1
    except (OSError, asyncio.TimeoutError) as error:
        outcomes[f"{kind}: {type(error).__name__}"] += 1


async def cycles(args, number, outcomes):
    chance = random.Random(args.seed * 1000 + number)
    host = f"dies-{number}.default.example.com"
    for _ in range(args.cycles):
        await asyncio.sleep(chance.uniform(*PAUSE_SECONDS))
        until = time.monotonic() + GROWING_SECONDS

        async def single():
            while time.monotonic() < until:
                await post(args, host, "/single", "{}", outcomes)

        async def streaming():
            await asyncio.sleep(GROWING_SECONDS - chance.uniform(0, 1))
            await post(args, host, "/stream", f"{chance.uniform(*STREAM_SECONDS):.2f}", outcomes)

        await asyncio.gather(*(single() for _ in range(SINGLE)), *(streaming() for _ in range(STREAMS_EACH)))


async def send(args):
    outcomes = collections.Counter()
    await asyncio.gather(*(cycles(args, number, outcomes) for number in range(args.revisions)))
    print(json.dumps(dict(sorted(outcomes.items()))))


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve").add_argument("file")
    flags = commands.add_parser("send")
    flags.add_argument("--proxy", required=True)
    flags.add_argument("--revisions", type=int, required=True)
    flags.add_argument("--cycles", type=int, default=2)
    flags.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    asyncio.run(serve_all(args.file) if args.command == "serve" else send(args))


main()
