"""vanish.py PROXY HOST COUNT SOURCE: opens COUNT connections from the address SOURCE, sends a request on each, every second
one a small POST, says so, and stays until it is killed. Whoever kills it makes all clients vanish at once."""

import resource
import signal
import socket
import sys

proxy, host, count, source = sys.argv[1:]
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
if int(count) + 64 > hard:
    sys.exit(f"{count} connections need a higher limit of open files than {hard} (ulimit -Hn)")
address, port = proxy.split(":")
head = f" / HTTP/1.1\r\nhost: {host}\r\n".encode()
requests = [b"GET" + head + b"\r\n", b"POST" + head + b"content-length: 26\r\n\r\nabcdefghijklmnopqrstuvwxyz"]
sockets = []
for n in range(int(count)):
    # An address of its own leaves the ports of an earlier round alone.
    client = socket.create_connection((address, int(port)), timeout=60, source_address=(source, 0))
    client.sendall(requests[n % 2])
    sockets.append(client)
print("sent", flush=True)
signal.pause()
