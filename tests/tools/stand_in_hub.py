"""A server that answers as the Hugging Face Hub does where huggingface_hub pushes files and fetches them."""

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "c" * 40


class StandInHub(ThreadingHTTPServer):
    """Repositories of models in memory, each with one revision: {USER/NAME: {file: content}}."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}  # by sha256
        self.address = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> "StandInHub":
        Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: StandInHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, content: Any, status: int = 200, **headers: str) -> None:
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self) -> None:
        path, body = self.path.partition("?")[0], self._body()
        if self.headers.get("Authorization") != "Bearer hf_test" and not path.endswith("validate-yaml"):
            return self._answer({"error": "Invalid username or password."}, 401)
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.server.repositories.setdefault(name, {})
            self.server.private[name] = asked.get("visibility") == "private" or asked.get("private") is True
            return self._answer({"url": f"{self.server.address}/{name}"})
        if path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        if match := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = {name: "regular" if name.endswith((".md", ".csv", ".yaml")) else "lfs" for name in files}
            told = [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes.items()]
            return self._answer({"files": told})
        if path.endswith(".git/info/lfs/objects/batch"):
            wanted = [(part["oid"], part["size"]) for part in json.loads(body)["objects"]]
            put = {oid: {"upload": {"href": f"{self.server.address}/lfs/{oid}"}} for oid, _ in wanted}
            return self._answer({"objects": [{"oid": oid, "size": size, "actions": put[oid]} for oid, size in wanted]})
        if match := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            files = self.server.repositories[match[1]]
            for entry in map(json.loads, body.splitlines()):
                value = entry["value"]
                if entry["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    files[value["path"]] = self.server.large[value["oid"]]
            url = f"{self.server.address}/{match[1]}/commit/{COMMIT}"
            return self._answer({"commitUrl": url, "commitOid": COMMIT})
        return self._answer({"error": "not found"}, 404)

    def do_PUT(self) -> None:
        body = self._body()
        oid = self.path.removeprefix("/lfs/")
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.large[oid] = body
        self._answer(b"")

    def do_GET(self) -> None:
        match = re.fullmatch(r"/(.+/.+)/resolve/[^/]+/(.+)", self.path)
        files = self.server.repositories.get(match[1]) if match else None
        if files is None:
            return self._answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        if match[2] not in files:
            return self._answer({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        content = files[match[2]]
        return self._answer(content, X_Repo_Commit=COMMIT, ETag=f'"{hashlib.sha256(content).hexdigest()}"')

    do_HEAD = do_GET
