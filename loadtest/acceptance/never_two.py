"""A server that works on when its client has left, and clients that leave.

never_two.py serve             on $PORT; GET /counts tells the most requests that it ever ran at once
never_two.py send FLAGS...     clients that stay or leave at random moments; prints a line of JSON
"""

import argparse
import asyncio
import collections
import json
import os
import random
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Parts of one answer; the first pause is before its head.
PARTS = 4
PART_SECONDS = 0.025


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    counts = {"running": 0, "most": 0, "begun": 0, "ended": 0, "withoutItsClient": 0}

    def do_GET(self):
        with self.lock:
            body = json.dumps(self.counts).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        with self.lock:
            self.counts["begun"] += 1
            self.counts["running"] += 1
            self.counts["most"] = max(self.counts["most"], self.counts["running"])
        alone = done = False
        try:
            length = int(self.headers["content-length"])
            body = self.rfile.read(length)
            alone = len(body) < length
            for part in range(PARTS):
                # As a GPU does: what was begun is computed, whoever waits for it.
                time.sleep(PART_SECONDS)
                if part == PARTS - 1:
                    # The work is done; from the last byte on, whoever reads it may send the next request.
                    self.end()
                    done = True
                try:
                    if part == 0:
                        self.send_response(200)
                        self.send_header("content-length", str(PARTS * 1024))
                        self.end_headers()
                    self.wfile.write(b"x" * 1024)
                except OSError:
                    alone = True
        finally:
            if not done:
                self.end()
        with self.lock:
            self.counts["withoutItsClient"] += alone
        self.close_connection |= alone

    def end(self):
        with self.lock:
            self.counts["running"] -= 1
            self.counts["ended"] += 1

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, *_):
        # A client that has gone.
        pass


async def leave(writer, chance):
    if chance.random() < 0.5:
        # A reset instead of a FIN.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


async def client(args, chance, until, outcomes):
    address, port = args.proxy.split(":")
    head = f"POST /work HTTP/1.1\r\nhost: {args.host}\r\ncontent-length: 2000\r\n\r\n".encode()
    while time.monotonic() < until:
        fate = chance.choices(["stays", "leaves early", "leaves in its body", "leaves in the answer"], [3, 3, 2, 2])[0]
        try:
            reader, writer = await asyncio.open_connection(address, int(port))
            if fate == "leaves in its body":
                writer.write(head + b"x" * chance.randrange(0, 2000))
                await asyncio.sleep(chance.uniform(0, 0.3))
            else:
                writer.write(head + b"x" * 2000)
                if fate == "leaves early":
                    # While it is held, or while the server works on what nobody will read.
                    await asyncio.sleep(chance.choice([0.001, 0.05, 0.5]) * chance.random())
                else:
                    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
                    if not answer.startswith(b"HTTP/1.1 200 "):
                        fate = answer.split(b"\r\n")[0].decode()
                    elif fate == "leaves in the answer":
                        await reader.read(chance.randrange(1, 1024))
                    else:
                        await asyncio.wait_for(reader.readexactly(PARTS * 1024), 60)
            await leave(writer, chance)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            fate = f"{fate}: {type(error).__name__}"
        outcomes[fate] += 1


async def send(args):
    outcomes = collections.Counter()
    until = time.monotonic() + args.seconds
    await asyncio.gather(
        *(client(args, random.Random(args.seed * 1000 + n), until, outcomes) for n in range(args.clients))
    )
    print(json.dumps(dict(sorted(outcomes.items()))))


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve")
    flags = commands.add_parser("send")
    flags.add_argument("--proxy", required=True)
    flags.add_argument("--host", required=True)
    flags.add_argument("--seconds", type=float, required=True)
    flags.add_argument("--clients", type=int, default=12)
    flags.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.command == "serve":
        Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
    else:
        asyncio.run(send(args))


main()
