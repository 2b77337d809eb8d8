"""A server that closes idle connections without a word, and clients whose pauses end just then.

keep_alive.py serve             on $PORT; GET /counts tells what it saw
keep_alive.py send FLAGS...     POSTs in waves, prints a line of JSON
"""

import argparse
import asyncio
import json
import os
import random
import resource

IDLE_SECONDS = 2.0
# A request is near the limit when it arrives this much before or after a connection has been idle for so long.
NEAR_SECONDS = 0.1
# Longer than the spread of a wave: the requests of one wave overlap, so each needs a connection of its own, and all these
# connections are idle until the next one.
SERVICE_SECONDS = 0.4
SPREAD_SECONDS = 0.3


class Server(asyncio.Protocol):
    counts = {"requests": 0, "connections": 0, "reused": 0, "nearTheLimit": 0, "closedForIdleness": 0, "longestIdleMs": 0}

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.buffer = b""
        self.served = 0

    def connection_made(self, transport):
        self.transport = transport
        self.rest()

    def rest(self):
        self.idle_since = self.loop.time()
        self.timer = self.loop.call_later(IDLE_SECONDS, self.idle)

    def idle(self):
        self.timer = None
        if self.served:
            self.counts["closedForIdleness"] += 1
        self.transport.close()

    def connection_lost(self, _error):
        if self.timer:
            self.timer.cancel()

    def data_received(self, data):
        if not self.buffer and self.timer:
            self.timer.cancel()
            self.timer = None
            self.arrived_after = self.loop.time() - self.idle_since
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if len(body) < length:
            return
        self.buffer = b""
        if head.startswith(b"POST "):
            self.count()
            self.loop.call_later(SERVICE_SECONDS, self.answer, body)
        else:
            self.answer(json.dumps(self.counts).encode())

    def count(self):
        counts = self.counts
        counts["requests"] += 1
        if self.served == 0:
            counts["connections"] += 1
        else:
            counts["reused"] += 1
            counts["longestIdleMs"] = max(counts["longestIdleMs"], round(self.arrived_after * 1000))
            counts["nearTheLimit"] += abs(self.arrived_after - IDLE_SECONDS) <= NEAR_SECONDS
        self.served += 1

    def answer(self, body):
        if self.transport.is_closing():
            return
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        self.rest()


async def serve():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", int(os.environ["PORT"]), backlog=4096)
    await server.serve_forever()


class Client:
    def __init__(self, args, failures):
        self.args, self.failures, self.writer, self.closed = args, failures, None, 0

    async def post(self, number, after):
        """One POST, `after` seconds from now; a failure is noted, and the next one has a new connection."""
        await asyncio.sleep(after)
        body = b"request %d" % number
        if self.writer and self.reader.at_eof():
            # Closed between two requests, as any client notices and none should have to: it was idle for seconds only.
            self.closed += 1
            self.writer.close()
            self.writer = None
        try:
            if not self.writer:
                self.reader, self.writer = await asyncio.open_connection(*self.args.proxy.split(":"))
            self.writer.write(
                b"POST / HTTP/1.1\r\nhost: %s\r\ncontent-length: %d\r\n\r\n%s" % (self.args.host.encode(), len(body), body)
            )
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            answer = await self.reader.readexactly(length)
            if head.startswith(b"http/1.1 200 ") and answer == body:
                return
            failure = head.partition(b"\r\n")[0].decode() + " " + answer.decode()[:200]
        except (OSError, asyncio.IncompleteReadError) as error:
            failure = type(error).__name__
        self.failures[failure] = self.failures.get(failure, 0) + 1
        if self.writer:
            self.writer.close()
        self.writer = None


async def send(args):
    chance = random.Random(args.seed)
    low, high = (float(word) for word in args.gap.split("-"))
    failures, sent, waves = {}, 0, 0
    clients = [Client(args, failures) for _ in range(args.clients)]
    while sent < args.requests:
        gap = chance.uniform(low, high - SPREAD_SECONDS)
        some = clients[: args.requests - sent]
        await asyncio.gather(
            *(client.post(sent + n, gap + chance.uniform(0, SPREAD_SECONDS)) for n, client in enumerate(some))
        )
        sent += len(some)
        waves += 1
    result = {"requests": sent, "waves": waves, "failed": sum(failures.values()), "failures": failures}
    print(json.dumps(result | {"clientConnectionsClosed": sum(client.closed for client in clients)}))


def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve")
    flags = commands.add_parser("send")
    flags.add_argument("--proxy", required=True)
    flags.add_argument("--host", required=True)
    flags.add_argument("--requests", type=int, required=True)
    flags.add_argument("--clients", type=int, default=800)
    flags.add_argument("--gap", default="1.0-2.4", help="seconds between an answer and the next request")
    flags.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    asyncio.run(serve() if args.command == "serve" else send(args))


main()
