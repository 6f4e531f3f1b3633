"""`stomp.py` as it is published, at a gateway."""

import os
import pathlib
import subprocess
import sys
import threading
import unittest
import uuid

import stomp

from users import Dev, Followed, Json, Stomp, User, until

# What headers and bodies may have, and lines and JSON may not.
SPECIAL = 'colon: "quoted" \\ backslash \\c \n\r\n end \U0001f600'
FOLDER = pathlib.Path(__file__).resolve().parent.parent

DEV = None
QUIET = None


def setUpModule():
    global DEV, QUIET
    DEV = Dev()
    unittest.addModuleCleanup(DEV.kill)
    # The library ends a connection by which nothing came for two intervals, as this scale has it.
    QUIET = Stomp(User(DEV), heartbeats=(1_000, 1_000), heart_beat_receive_scale=1.0).connect()


class Stories(unittest.TestCase):
    def pair(self):
        """Returns two users and a chat of both. The second one is there by JSON."""
        ann, ben = User(DEV), User(DEV)
        return ann, ben, ann.direct_chat(ben), self.json(ben)

    def json(self, user):
        there = Json(user)
        self.addCleanup(there.close)
        return there

    def stomp(self, user, *arguments, **options):
        client = Stomp(user, *arguments, **options)
        self.addCleanup(client.close)
        return client.connect()


class Conversations(Stories):
    def test_each_version_is_spoken(self):
        for version in ("1.2", "1.1", "1.0"):
            with self.subTest(version):
                ann, _, chat, b = self.pair()
                a = self.stomp(ann, version=version)
                self.assertEqual(a.connected[0]["version"], version)
                a.receipt(a.library.subscribe, "/chats", id="s", ack="client", receipt="subscribed")
                b.send(chat, f"by {version}")
                until("it comes", lambda: a.entries("s"))
                self.assertEqual(a.entries("s")[0]["body"], f"by {version}")
                of_subscription = {"subscription": "s"} if version == "1.1" else {}
                a.receipt(a.library.ack, f"{chat}.1", receipt="acknowledged", **of_subscription)
                a.publish(chat, "and back")
                until("the other has it", lambda: "and back" in b.bodies())
                a.receipt(a.library.unsubscribe, id="s", receipt="unsubscribed")
                a.close()
                self.assertEqual(a.errors, [])

    def test_a_user_with_stomp_and_one_with_json_have_every_message_once_and_in_order(self):
        ann, ben, chat, b = self.pair()
        a = self.stomp(ann)
        subscription = f"chat: {SPECIAL}"
        a.receipt(a.library.subscribe, f"/chats/{chat}", id=subscription, receipt="it\\is: subscribed")
        said = {who: [f"{who} {n}: {SPECIAL}\0" for n in range(100)] for who in ("ann", "ben")}
        answers = threading.Thread(target=lambda: [b.send(chat, body) for body in said["ben"]])
        answers.start()
        for body in said["ann"]:
            a.publish(chat, body)
        answers.join()
        until("all are here", lambda: len(a.entries(subscription)) >= 200 and len(b.bodies()) >= 100)
        entries = a.entries(subscription)
        self.assertEqual([entry["seq"] for entry in entries], [*range(1, 201)])
        for user, who in ((ann, "ann"), (ben, "ben")):
            self.assertEqual([entry["body"] for entry in entries if entry["sender"] == user.id], said[who])
        self.assertEqual(b.bodies(), said["ann"])
        names = [headers["message-id"] for headers, _ in a.messages]
        self.assertEqual(names, [f"{chat}.{seq}" for seq in range(1, 201)])
        self.assertEqual(a.errors, [])

    def test_a_receipt_says_that_a_message_is_accepted_and_a_reply_that_it_is_stored(self):
        ann, _, chat, b = self.pair()
        a = self.stomp(ann)
        a.receipt(a.library.subscribe, "/replies", id="replies")
        key = str(uuid.uuid4())
        a.receipt(a.library.send, f"/chats/{chat}", "hello", key=key)
        until("it is stored", lambda: a.of("stored"))
        # The same key is the same message.
        a.receipt(a.library.send, f"/chats/{chat}", "hello", key=key)
        until("it is said again", lambda: len(a.of("stored")) == 2)
        self.assertEqual([(stored["key"], stored["seq"]) for stored in a.of("stored")], [(key, 1)] * 2)
        a.publish(chat, "and then")
        until("the other has it", lambda: "and then" in b.bodies())
        self.assertEqual(b.bodies(), ["hello", "and then"])

    def test_an_acknowledgement_moves_what_others_see_as_delivered(self):
        ann, _, chat, b = self.pair()
        a = self.stomp(ann)
        a.receipt(a.library.subscribe, "/chats", id="all", ack="client-individual")
        for body in ("one", "two", "three"):
            b.send(chat, body)
        until("all are here", lambda: len(a.entries("all")) == 3)
        acks = [headers["ack"] for headers, _ in a.messages]
        marks = lambda: [mark.get("delivered_seq") for mark in b.pushed("receipt") if mark["user"] == ann.id]
        a.library.ack(acks[0])
        until("the first is delivered", lambda: 1 in marks())
        a.receipt(a.library.nack, acks[1])
        # As of a program that unsubscribes while it works on what came.
        a.library.unsubscribe("all")
        a.receipt(a.library.ack, acks[2])
        until("the last is delivered", lambda: 3 in marks())
        self.assertEqual((marks(), a.errors, a.ends), ([1, 3], [], 0))

    def test_heart_beats_keep_a_quiet_connection_longer_than_their_interval(self):
        # Their interval is 25 s, and the first comes after a part of it.
        until("two heart-beats", lambda: QUIET.beats >= 2 or QUIET.ends, limit_s=60)
        self.assertEqual((len(QUIET.connected), QUIET.ends, QUIET.errors), (1, 0, []))
        self.assertTrue(QUIET.library.is_connected())

    def test_the_program_of_the_docs_talks(self):
        shown = (FOLDER / "../../docs/stomp.md").read_text().split("```python\n")[1].split("```")[0]
        program = FOLDER / "examples/stomp_py.py"
        self.assertEqual(shown, program.read_text())
        ann, _, chat, b = self.pair()
        variables = {"HOST": "127.0.0.1", "PORT": str(DEV.port), "ACCESS_TOKEN": ann.token, "CHAT": chat}
        environment = {**os.environ, **variables, "DEVICE": str(uuid.uuid4())}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen([sys.executable, program], env=environment, **pipes) as running:
            self.addCleanup(running.kill)
            until("the other has it", lambda: "hello" in b.bodies())
            b.send(chat, "hello to you")
            lines = iter(running.stdout.readline, "")
            printed = [next(lines)]
            while "hello to you" not in printed[-1]:
                printed.append(next(lines))
            running.stdin.write("\n")
            running.stdin.close()
            self.assertEqual(running.wait(20), 0)
        kinds = [line.split(" ", 1)[0] for line in printed]
        self.assertEqual(sorted(kinds), ["message", "message", "stored"])


class Returns(Stories):
    def test_a_client_whose_session_is_ended_by_the_server_comes_back_and_misses_nothing(self):
        ann, _, chat, b = self.pair()
        followed = Followed(chat)
        a = self.stomp(ann, followed.begin, returns=True)
        b.send(chat, "before")
        until("it comes", lambda: followed.applied(a))
        refresh_token = ann.refresh_token
        ann.sign_in()
        DEV.call("POST", "/api/auth/sign-out", {"refresh_token": refresh_token})
        during = [f"during {n}" for n in range(20)]
        for body in during:
            b.send(chat, body)
        until("the client is back", lambda: len(a.connected) == 2)
        b.send(chat, "after")
        everything = ["before", *during, "after"]
        until("all are here", lambda: len(followed.applied(a)) >= len(everything))
        self.assertEqual([*followed.applied(a).values()], everything)
        seqs = [entry["seq"] for entry in a.entries("chat")]
        self.assertEqual(seqs, sorted(set(seqs)))

    def test_what_is_not_known_to_be_stored_is_sent_again_with_its_key_and_stored_once(self):
        ann, _, chat, b = self.pair()
        followed = Followed(chat)
        a = self.stomp(ann, followed.begin, returns=True)
        bodies = [f"message {n}" for n in range(20)]
        keys = [a.publish(chat, body) for body in bodies]
        # The server ends the connection behind them, for what is refused.
        a.library.begin("a transaction")
        until("the client is back", lambda: len(a.connected) == 2)
        for key, body in zip(keys, bodies):
            if key not in a.receipts:
                a.publish(chat, body, key)
        a.receipt(a.library.send, f"/chats/{chat}", bodies[0], key=keys[0])
        until("all are here", lambda: len(b.bodies()) >= len(bodies) and len(followed.applied(a)) >= len(bodies))
        self.assertEqual([*followed.applied(a).values()], b.bodies())
        self.assertEqual(sorted(b.bodies()), sorted(bodies))


class Refusals(Stories):
    def test_what_is_refused_is_an_error_behind_which_the_connection_ends(self):
        ben = User(DEV)
        others = ben.group()
        for what, frame, code in (
            ("a subscription to what is not there", lambda a, _: a.library.subscribe("/topic/a", id="t"), "not_found"),
            ("a message to what is not there", lambda a, _: a.library.send("/queue/a", "hello"), "not_found"),
            ("no key", lambda a, chat: a.library.send(f"/chats/{chat}", "hello"), "invalid_argument"),
            ("a message to a chat of others", lambda a, _: a.publish(others, "hello"), "not_a_member"),
            ("a transaction", lambda a, _: a.library.begin("t"), "method_not_allowed"),
            ("the end of no subscription", lambda a, _: a.library.unsubscribe("none"), "not_found"),
            ("an acknowledgement without a subscription", lambda a, chat: a.library.ack(f"{chat}.1"), "invalid_argument"),
        ):
            with self.subTest(what):
                ann = User(DEV)
                chat = ann.direct_chat(ben)
                a = self.stomp(ann)
                frame(a, chat)
                until("it is refused", lambda: a.errors and a.ends)
                [(headers, error)] = a.errors
                self.assertEqual((headers["message"], error["code"]), (code, code))
                self.assertFalse(a.library.is_connected())
                a.connect()
                a.receipt(a.library.send, f"/chats/{chat}", "still here", key=chat)

    def test_with_its_replies_a_client_reads_of_what_is_refused_and_goes_on(self):
        ann, ben, chat, _ = self.pair()
        a = self.stomp(ann)
        a.receipt(a.library.subscribe, "/replies", id="replies")
        a.library.send(f"/chats/{ben.group()}", "hello", key=chat, receipt="others")
        a.library.subscribe("/topic/a", id="t", receipt="topic")
        until("both are refused", lambda: len(a.of("error")) == 2)
        refusals = {frame["id"]: frame["error"]["code"] for headers, frame in a.messages}
        self.assertEqual(refusals, {"others": "not_a_member", "topic": "not_found"})
        a.receipt(a.library.send, f"/chats/{chat}", "still here", key=chat)
        self.assertEqual((a.errors, a.ends), ([], 0))

    def test_a_token_that_is_not_taken_is_an_error_and_no_connection(self):
        client = Stomp(User(DEV), token="forged")
        with self.assertRaises(stomp.exception.ConnectFailedException):
            client.connect()
        until("it is refused", lambda: client.errors and client.ends)
        self.assertEqual(client.errors[0][1]["code"], "unauthenticated")
        self.assertEqual(client.connected, [])

    def test_a_subscription_to_a_chat_of_others_brings_nothing_until_the_user_is_a_member(self):
        ann, ben, chat, b = self.pair()
        tea = ben.group()
        a = self.stomp(ann)
        a.receipt(a.library.subscribe, f"/chats/{tea}", id="tea")
        a.receipt(a.library.subscribe, f"/chats/{chat}", id="chat")
        b.send(tea, "among us")
        b.send(chat, "to you")
        until("what comes behind it is here", lambda: a.entries("chat"))
        self.assertEqual(a.entries("tea"), [])
        ben.call("POST", f"/api/chats/{tea}/members", {"user_ids": [ann.id]})
        b.send(tea, "welcome")
        until("it comes", lambda: "welcome" in [entry["body"] for entry in a.entries("tea")])
        self.assertNotIn("among us", [entry["body"] for entry in a.entries("tea")])


if __name__ == "__main__":
    unittest.main()
