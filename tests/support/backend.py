"""A command for `serve -- COMMAND`: listens at $PEERAUTH_BACKEND and answers each line with facts about itself.

Its words change what it does: `late` (seconds), `deaf` (ignores SIGTERM), `child` (starts another that is as deaf), `never`
(makes no socket), `exit` (a code, at once), `die` (a code, at the first connection), `brief` (ends by itself when told `end`).
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time


def facts() -> dict[str, object]:
    """What it got from whoever started it."""
    return {
        "pid": os.getpid(),
        "words": sys.argv[1:],
        "variables": {name: value for name, value in os.environ.items() if name.startswith("PEERAUTH_")},
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "files": [os.path.realpath(f"/proc/self/fd/{number}") for number in range(3)],
        "group": os.getpgrp() == os.getpid(),
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
print("on standard output", flush=True)
time.sleep(float(words.get("late", 0)))
if "never" in words:
    time.sleep(60)
with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(os.environ["PEERAUTH_BACKEND"])
    listening.listen()
    while True:
        caller, _ = listening.accept()
        threading.Thread(target=serve, args=(caller,), daemon=True).start()
