"""A web server of files, which a test starts; it can be told to fail as servers do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Files(BaseHTTPRequestHandler):
    """Serves `/WAY/name`, where WAY is how: whole, cut (short of its length), ends (no length), closed."""

    folder: Path

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def _answer(self, with_content: bool) -> None:
        _, way, name = self.path.split("/", 2)
        path = self.folder / name
        if way == "closed":
            self.send_error(403)
        elif not name and path.is_dir():
            links = "".join(f'<a href="{entry.name}">{entry.name}</a>' for entry in sorted(path.iterdir()))
            self._send(links.encode(), len(links), path, with_content, "text/html")
        elif not path.is_file():
            self.send_error(404)
        else:
            content = path.read_bytes()
            sent = content if way == "whole" else content[: len(content) // 2]
            self._send(sent, None if way == "ends" else len(content), path, with_content)

    def _send(
        self, sent: bytes, length: int | None, path: Path, with_content: bool, kind: str = "application/octet-stream"
    ) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Last-Modified", formatdate(path.stat().st_mtime, usegmt=True))
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if with_content:
            self.wfile.write(sent)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder; gives the server's address, without a slash at its end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("These", (Files,), {"folder": folder}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
