"""Answers hello. HOST and PORT: where; STARTS_IN: seconds before it listens; LEAVES_IN: seconds that it
serves on after SIGTERM, else it ends at once. WORK_MS: milliseconds that a GET takes; NOTES: a folder, in a file of
which, named as HOST, it notes when each began and ended, in nanoseconds.

GET / says hello, after ?ms=N milliseconds; POST says what it was told; /listened says since when it listens, in
milliseconds of the wall clock; /events?n=N&ms=M streams N server-sent events, one every M milliseconds."""
import http.server, os, signal, socketserver, threading, time

LISTENED = 0
HOST = os.environ.get("HOST", "127.0.0.1")
NOTES = open(os.path.join(os.environ["NOTES"], HOST), "a", buffering=1) if "NOTES" in os.environ else None

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are two writes.
    disable_nagle_algorithm = True

    def do_GET(self):
        path, _, query = self.path.partition("?")
        asked = dict(part.split("=") for part in query.split("&") if part)
        pause = int(asked.get("ms", os.environ.get("WORK_MS", "0"))) / 1000
        if path == "/events":
            return self.events(int(asked["n"]), pause)
        began = time.monotonic_ns()
        time.sleep(pause)
        if NOTES:
            NOTES.write(f"{began} {time.monotonic_ns()}\n")
        self.answer(b"%d\n" % LISTENED if path == "/listened" else b"hello\n")

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def events(self, count, pause):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(count):
            event = b"data: %d\n\n" % number
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            time.sleep(pause)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024

if "LEAVES_IN" in os.environ:
    leave = lambda *_: threading.Timer(float(os.environ["LEAVES_IN"]), os._exit, [0]).start()
    signal.signal(signal.SIGTERM, leave)

time.sleep(float(os.environ.get("STARTS_IN", "0")))
server = Server((HOST, int(os.environ["PORT"])), Handler)
LISTENED = time.time_ns() // 1_000_000
server.serve_forever()
