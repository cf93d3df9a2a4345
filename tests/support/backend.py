"""A command for `serve -- COMMAND`: listens at $PEERAUTH_BACKEND and answers each line with facts about itself.

Told `end`, it ends. Its words change what it does: `late` (by so many seconds), `deaf` (to SIGTERM), `child` (it starts one
that is as deaf), `never` (it makes no socket), `exit` (with this code, at once).
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path


def facts() -> dict[str, object]:
    """What it got from whoever started it."""
    return {
        "pid": os.getpid(),
        "words": sys.argv[1:],
        "variables": {name: value for name, value in os.environ.items() if name.startswith("PEERAUTH_")},
        "descriptors": sorted(path.name for path in Path("/proc/self/fd").iterdir()),
        "files": [os.path.realpath(f"/proc/self/fd/{number}") for number in range(3)],
        "group": os.getpgrp() == os.getpid(),
        "directory": str(Path.cwd()),
        "child": CHILD and CHILD.pid,
    }


def serve(sock: socket.socket) -> None:
    """Answer each line."""
    with sock, sock.makefile("rwb") as lines:
        for line in lines:
            if line == b"end\n":
                os._exit(0)
            lines.write(json.dumps(facts()).encode() + b"\n")
            lines.flush()


words = dict(word.partition("=")[::2] for word in sys.argv[1:])
CHILD = None
if "deaf" in words:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "child" in words:
    CHILD = subprocess.Popen([sys.executable, "-c", "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"])
if "exit" in words:
    sys.exit(int(words["exit"]))
sys.stdout.write("on standard output\n")
sys.stdout.flush()
time.sleep(float(words.get("late", 0)))
if "never" in words:
    time.sleep(60)
with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(os.environ["PEERAUTH_BACKEND"])
    listening.listen()
    while True:
        caller, _ = listening.accept()
        threading.Thread(target=serve, args=(caller,), daemon=True).start()
