"""A receiver of webhooks: it prints what became of mail, if the call is really from your server.

Run it as `python webhook.py SECRET_FILE PORT`; the secret is the one that `secret_file` of the [[webhook]] names.
"""

import hashlib
import hmac
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SECRET = Path(sys.argv[1]).read_bytes().strip()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers["Content-Length"]), 1_000_000))
        signature = self.headers["X-Posthouse-Signature"] or ""
        at = signature.partition(",")[0].removeprefix("t=")
        expected = f"t={at},v1=" + hmac.new(SECRET, at.encode() + b"." + body, hashlib.sha256).hexdigest()
        good = hmac.compare_digest(expected.encode(), signature.encode()) and abs(time.time() - int(at)) < 300
        if good:
            told = json.loads(body)  # the same id again: a repetition, which you may have seen
            print(told["id"], told["event"], told["recipient"], flush=True)
        self.send_response(204 if good else 403)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Receiver)
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
