"""A messenger in memory and its users: those with STOMP have the public library as it is, those with JSON a WebSocket."""

import http.client
import itertools
import json
import os
import socket
import subprocess
import threading
import time
import urllib.request
import uuid

import stomp
import websocket
from stomp.adapter.ws import WSTransport
from stomp.connect import BaseConnection, StompConnection10, StompConnection11
from stomp.protocol import Protocol10, Protocol11

LIMIT_S = 20
PASSWORD = "a password of a test 1"
NAMES = itertools.count(1)


def until(what, condition, limit_s=LIMIT_S):
    """Waits for a condition."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit_s} s: {what}")
        time.sleep(0.02)


class Dev:
    """A messenger in a process of its own."""

    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
        binary = os.environ["POSTHOUSE_COMPACT"]
        arguments = [binary, "dev", "--http-addr", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until("the messenger answers", self.answers)

    def answers(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/docs", timeout=5):
                return True
        except (OSError, http.client.HTTPException):
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def call(self, method, path, body=None, token=None):
        """Makes one call and returns the body of its response."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
            text = response.read()
        return json.loads(text) if text else None


class User:
    """A registered user and their tokens."""

    def __init__(self, dev):
        self.dev = dev
        self.name = f"python-{time.time_ns()}-{next(NAMES)}"
        dev.call("POST", "/api/auth/register", {"username": self.name, "password": PASSWORD})
        self.sign_in()
        self.id = self.call("GET", "/api/users/me")["user_id"]

    def sign_in(self):
        tokens = self.dev.call("POST", "/api/auth/sign-in", {"username": self.name, "password": PASSWORD})
        self.token, self.refresh_token = tokens["access_token"], tokens["refresh_token"]

    def call(self, method, path, body=None):
        return self.dev.call(method, path, body, self.token)

    def direct_chat(self, other):
        return self.call("POST", "/api/chats", {"kind": "direct", "members": [other.id]})["chat_id"]

    def group(self):
        return self.call("POST", "/api/chats", {"kind": "group", "title": "Tea", "members": []})["chat_id"]


class Json:
    """A user with `posthouse.v1.json`, who sends and keeps what comes."""

    def __init__(self, user):
        self.frames = []
        address = f"ws://127.0.0.1:{user.dev.port}/ws"
        self.socket = websocket.create_connection(address, subprotocols=["posthouse.v1.json"])
        self.ids = itertools.count(1)
        threading.Thread(target=self.read, daemon=True).start()
        self.ask(connect={"token": user.token, "device": str(uuid.uuid4())})

    def read(self):
        try:
            while text := self.socket.recv():
                self.frames.append(json.loads(text))
        except (OSError, websocket.WebSocketException):
            pass

    def close(self):
        self.socket.close()

    def ask(self, **command):
        """Runs a command and returns its result."""
        number = next(self.ids)
        self.socket.send(json.dumps({"id": number, **command}))
        until(f"an answer to {[*command]}", lambda: any(frame.get("id") == number for frame in self.frames))
        answer = next(frame for frame in self.frames if frame.get("id") == number)
        assert "error" not in answer, answer
        return answer.get("result")

    def send(self, chat, body):
        """Sends a message and returns its seq once it is stored."""
        key = str(uuid.uuid4())
        self.ask(send={"chat": chat, "key": key, "body": body})
        until(f"{body!r} is stored", lambda: any(stored["key"] == key for stored in self.pushed("stored")))
        return next(stored["seq"] for stored in self.pushed("stored") if stored["key"] == key)

    def pushed(self, kind):
        return [frame[kind] for frame in list(self.frames) if frame.get(kind)]

    def bodies(self):
        return [message["body"] for message in self.pushed("message")]


class Connection11(StompConnection11):
    """1.1 as the library makes `WSStompConnection`, which it has for 1.2 alone."""

    def __init__(self, transport):
        BaseConnection.__init__(self, transport)
        Protocol11.__init__(self, transport)


class Connection10(StompConnection10):
    """Likewise 1.0."""

    def __init__(self, transport):
        BaseConnection.__init__(self, transport)
        Protocol10.__init__(self, transport)


class Stomp(stomp.ConnectionListener):
    """A client of the public library, and what it reports.

    `begin` runs with every connection, and the client comes back by the library's `on_disconnected`, with the user's token of that moment.
    """

    def __init__(self, user, begin=None, version="1.2", returns=False, token=None, **options):
        self.user = user
        self.begin = begin
        self.returns = returns
        self.token = token
        self.device = str(uuid.uuid4())
        self.connected = []
        self.messages = []
        self.errors = []
        self.receipts = []
        self.beats = 0
        self.ends = 0
        self.numbers = itertools.count(1)
        subprotocol = f"v{version.replace('.', '')}.stomp"
        address = {
            "host_and_ports": [("127.0.0.1", user.dev.port)],
            "ws_path": "/ws",
            "header": {"Sec-WebSocket-Protocol": subprotocol},
            **options,
        }
        if version == "1.2":
            self.library = stomp.WSStompConnection(**address)
        else:
            self.library = {"1.1": Connection11, "1.0": Connection10}[version](WSTransport(**address))
        self.library.set_listener("story", self)

    def connect(self):
        self.library.connect(passcode=self.token or self.user.token, device=self.device, wait=True)
        return self

    def close(self):
        self.returns = False
        if self.library.is_connected():
            self.library.disconnect()
            until("the end", lambda: not self.library.is_connected())

    def on_connected(self, frame):
        if self.begin:
            self.begin(self)
        self.connected.append(frame.headers)

    def on_message(self, frame):
        self.messages.append((frame.headers, json.loads(frame.body)))

    def on_receipt(self, frame):
        self.receipts.append(frame.headers["receipt-id"])

    def on_error(self, frame):
        self.errors.append((frame.headers, json.loads(frame.body)["error"]))

    def on_heartbeat(self):
        self.beats += 1

    def on_disconnected(self):
        self.ends += 1
        if self.returns:
            self.connect()

    def receipt(self, send, *arguments, receipt=None, **headers):
        """Has a frame sent with a receipt, and waits for that."""
        receipt = receipt or f"receipt: {next(self.numbers)}"
        send(*arguments, receipt=receipt, **headers)
        until(f"a receipt for {receipt!r}", lambda: receipt in self.receipts)

    def publish(self, chat, body, key=None):
        key = key or str(uuid.uuid4())
        self.library.send(f"/chats/{chat}", body, key=key, receipt=key)
        return key

    def of(self, kind):
        """Returns what came of this kind."""
        return [frame[kind] for headers, frame in list(self.messages) if headers["type"] == kind]

    def entries(self, subscription):
        """Returns the entries that a subscription brought."""
        of = [frame for headers, frame in list(self.messages) if headers["subscription"] == subscription]
        return [frame["message"] for frame in of if "message" in frame]


class Followed:
    """A chat as the page on STOMP says that a client follows it: subscribe first, ask for what was missed then, and apply each seq once."""

    def __init__(self, chat):
        self.chat = chat

    def begin(self, client):
        """Is to be called with every connection."""
        client.library.subscribe("/replies", id="replies")
        client.library.subscribe(f"/chats/{self.chat}", id="chat")
        last = max(self.applied(client), default=0)
        asked = {"id": 1, "history": {"chat": self.chat, "after": last}}
        client.library.send("/commands", json.dumps(asked))

    def applied(self, client):
        """Returns the bodies by their seq: those that came, and those of pages."""
        entries = client.entries("chat")
        for result in client.of("result"):
            entries.extend(result.get("history", {}).get("messages", []))
        by_seq = {entry["seq"]: entry["body"] for entry in entries}
        gapless = itertools.takewhile(lambda seq: seq in by_seq, itertools.count(1))
        return {seq: by_seq[seq] for seq in gapless}
