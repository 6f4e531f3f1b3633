"""Serves the Kafka console to browsers: console.py PORT SETTINGS."""

import shlex
import sys

from textual_serve.server import Server

port, settings = sys.argv[1:]
console = [sys.executable, "-c", "from kaskade.main import cli; cli()", "admin", "--config-file", settings]
Server(shlex.join(console), host="127.0.0.1", port=int(port), title="Kafka").serve()
