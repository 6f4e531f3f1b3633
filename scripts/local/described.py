"""Makes requests from the descriptions of the APIs, at two tenants, as a user of each whom the planted data does not concern.

    described.py FOLDER EXAMPLES URL URL DOCUMENT...

In each tenant a user owns a chat; another one is the caller, who knows the ids and names of both owners. No response is a fault of
the service or one that is not described, what a description allows is not refused, no response has what was planted in the other
tenant or in a chat that the caller is not in, and nothing planted has changed at the end. The requests are the same in every run, but
for the ids and names of the planted data. The output of each run stays in FOLDER.
"""

import json
import os
import secrets
import subprocess
import sys
import time
import uuid

import requests
from websockets.sync.client import connect

HERE = os.path.dirname(os.path.abspath(__file__))
PATIENCE_SECONDS = 30
TEXTS = 3


class User:
    """A user of a tenant, signed in."""

    def __init__(self, url, name):
        self.url, self.name = url, name
        self.username, self.display_name = f"{name}-{secrets.token_hex(4)}", f"{name.capitalize()} {secrets.token_hex(8)}"
        self.account, self.token = {"username": self.username, "password": secrets.token_hex(16)}, None
        self.id = self.call("POST", "/api/auth/register", self.account | {"display_name": self.display_name})["user_id"]
        self.sign_in()

    def sign_in(self):
        """Gets a token; one lives for some minutes, and a run may take longer."""
        self.token = self.call("POST", "/api/auth/sign-in", self.account)["access_token"]

    def call(self, method, path, body=None):
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        response = requests.request(method, self.url + path, json=body, headers=headers, timeout=PATIENCE_SECONDS)
        if not response.ok:
            sys.exit(f"{method} {self.url}{path} returned {response.status_code}: {response.text}")
        return response.json()


class Owner(User):
    """A user with a profile, and with a group in which messages are."""

    def __init__(self, url, name):
        super().__init__(url, name)
        self.about, self.title = f"about {secrets.token_hex(8)}", f"title {secrets.token_hex(8)}"
        self.texts = [f"text {secrets.token_hex(8)}" for _ in range(TEXTS)]
        self.call("PATCH", "/api/users/me", {"about": self.about})
        self.chat = self.call("POST", "/api/chats", {"kind": "group", "title": self.title, "members": []})["chat_id"]
        self._send()
        # A message is in the history once it is stored, which is soon after it is accepted.
        end = time.monotonic() + PATIENCE_SECONDS
        while len(self.messages()) < TEXTS:
            if time.monotonic() > end:
                sys.exit(f"the messages of {url} are not stored after {PATIENCE_SECONDS} s")
            time.sleep(0.1)

    def _send(self):
        address = "ws" + self.url.removeprefix("http") + "/ws"
        with connect(address, subprotocols=["posthouse.v1.json"], open_timeout=PATIENCE_SECONDS) as socket:
            sends = [{"send": {"chat": self.chat, "key": str(uuid.uuid4()), "body": text}} for text in self.texts]
            for number, command in enumerate([{"connect": {"token": self.token, "device": str(uuid.uuid4())}}, *sends]):
                socket.send(json.dumps({"id": number} | command))
                while (frame := json.loads(socket.recv(PATIENCE_SECONDS))).get("id") != number:
                    pass
                if "error" in frame:
                    sys.exit(f"{address} refused {list(command)}: {frame['error']}")

    def messages(self):
        return [entry for entry in self.call("GET", f"/api/messages/{self.chat}")["messages"] if entry["kind"] == "text"]

    def state(self):
        """All that is planted, as the owner reads it."""
        self.sign_in()
        chat, members = self.call("GET", f"/api/chats/{self.chat}"), self.call("GET", f"/api/chats/{self.chat}/members")
        return {"profile": self.call("GET", "/api/users/me"), "chat": chat, "members": members, "messages": self.messages()}

    def closed_to_strangers(self):
        """What no user outside the chat reads."""
        return [self.chat, self.title, *self.texts]

    def closed_to_tenants(self):
        """What no user of another tenant reads."""
        return [*self.closed_to_strangers(), self.id, self.username, self.display_name, self.about]


def run(caller, owners, folder, examples, document):
    """Starts the requests of one caller from one description."""
    caller.sign_in()
    name = f"{caller.name}-{os.path.basename(document).removesuffix('.openapi.json')}"
    # The program writes folders of its own to where it runs.
    place = os.path.join(folder, name)
    os.makedirs(place, exist_ok=True)
    ours, theirs = owners
    planted = {
        "chats": [owner.chat for owner in owners],
        "users": [owner.id for owner in owners],
        "usernames": [owner.username for owner in owners],
        "closed": ours.closed_to_strangers() + theirs.closed_to_tenants(),
    }
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", os.path.join(HERE, "schemathesis.toml"), "run", document,
               "--url", caller.url, "-H", f"Authorization: Bearer {caller.token}", "--max-examples", examples,
               "--generation-deterministic", "--continue-on-failure", "--no-color",
               # A busy machine is no fault.
               "--suppress-health-check", "too_slow"]
    hooks = {"SCHEMATHESIS_HOOKS": os.path.join(HERE, "described_hooks.py"), "PLANTED": json.dumps(planted)}
    with open(os.path.join(place, "log"), "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=place, env=os.environ | hooks, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    return name, process, log.name


def main(folder, examples, one, two, *documents):
    owners = [Owner(one, "ann"), Owner(two, "cleo")]
    callers = [(User(one, "ben"), owners), (User(two, "dan"), owners[::-1])]
    before = [owner.state() for owner in owners]
    failed = False
    for document in documents:
        # A service may have no REST API.
        if not json.load(open(document, encoding="utf-8"))["paths"]:
            continue
        for name, process, log in [run(caller, near_first, folder, examples, document) for caller, near_first in callers]:
            print(f"    {name}")
            if process.wait() != 0:
                failed = True
                text = open(log, encoding="utf-8").read()
                print(text[text.find("= FAILURES =") if "= FAILURES =" in text else 0:])
    for owner, was in zip(owners, before):
        now = owner.state()
        if now != was:
            failed = True
            print(f"what {owner.username} planted was changed:\n    from {json.dumps(was)}\n    to   {json.dumps(now)}")
    sys.exit(failed)


main(*sys.argv[1:])
