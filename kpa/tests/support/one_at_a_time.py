"""Takes WORK seconds for each GET and notes when it began and ended, in a file of FOLDER that has the name of HOST."""
import http.server, os, socketserver, threading, time

noted = open(os.path.join(os.environ["FOLDER"], os.environ["HOST"]), "a", buffering=1)
lock = threading.Lock()

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are two writes.
    disable_nagle_algorithm = True

    def do_GET(self):
        began = time.monotonic_ns()
        time.sleep(float(os.environ["WORK"]))
        body = b"hello\n"
        ended = time.monotonic_ns()
        with lock:
            noted.write(f"{began} {ended}\n")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024

Server((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
