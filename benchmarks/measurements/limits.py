"""The limit itself: what the TLS libraries in use can sign and encrypt in a second on the contender's core, and on both."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from benchmarks.bench import Bench, Measurement
from benchmarks.contenders import Contender
from benchmarks.results import Column, Sample, Sheet
from benchmarks.running import CONTENDER_CORE, LOAD_CORE, Failed, pinned

OURS, SYSTEM = "peerauth's library", "the system's OpenSSL"
BOTH = "peerauth's library, two processes on two cores"
ALONE = "signatures alone"  # in peerauth's library: what a handshake cannot take less than
COLUMNS = (
    Column("sign", "RSA-4096 signatures", "1/s", "more"),
    Column("gcm", "AES-256-GCM", "GB/s", "more"),
)
_RECORD = 16384


def plan(bench: Bench, _contenders: Sequence[Contender]) -> list[Measurement]:
    """Plan the sheet of the two libraries."""
    seconds = 1 if bench.quick else 2
    sheet = Sheet("limits", "limits", "Signatures and encryption of the libraries alone", COLUMNS, baseline=OURS)
    return [Measurement(sheet, {OURS: _ours(seconds), BOTH: _both(seconds), SYSTEM: _system(seconds)})]


def _ours(seconds: int) -> Callable[[], Sample]:
    return lambda: Sample(_alone(seconds))


def _both(seconds: int) -> Callable[[], Sample]:
    """Cores of a virtual machine may be two threads of one: then nothing is twice as fast with two of them."""

    def measure() -> Sample:
        with ThreadPoolExecutor() as beside:
            one, other = beside.map(lambda core: _alone(seconds, core), (CONTENDER_CORE, LOAD_CORE))
        return Sample({key: one[key] + other[key] for key in one})

    return measure


def signatures(bench: Bench) -> Callable[[], Sample]:
    """How many signatures peerauth's library makes, for a sheet whose `rate` is handshakes: in turn with them."""
    return lambda: Sample({"rate": _alone(min(bench.seconds, 2))["sign"]})


def _alone(seconds: float, core: str = CONTENDER_CORE) -> dict[str, float]:
    command = (sys.executable, "-m", "benchmarks.measurements.limits", str(seconds))
    found: dict[str, float] = json.loads(_pinned(*command, core=core))
    return found


def _system(seconds: int) -> Callable[[], Sample]:
    def measure() -> Sample:
        signing = _pinned("openssl", "speed", "-seconds", str(seconds), "rsa4096")
        sealing = _pinned("openssl", "speed", "-seconds", str(seconds), "-bytes", str(_RECORD), "-evp", "aes-256-gcm")
        signed = re.search(r"^rsa +4096 bits +\S+ +\S+ +([\d.]+)", signing, re.MULTILINE)
        sealed = re.search(r"^AES-256-GCM +([\d.]+)k", sealing, re.MULTILINE | re.IGNORECASE)
        if signed is None or sealed is None:
            raise Failed("openssl speed prints something else")
        return Sample({"sign": float(signed[1]), "gcm": float(sealed[1]) / 1e6})

    return measure


def _pinned(*command: str, core: str = CONTENDER_CORE) -> str:
    done = subprocess.run(pinned(core, command), capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise Failed(f"{command[0]}: {done.stderr.strip()[-200:]}")
    return done.stdout


def speed(seconds: float) -> dict[str, float]:
    """Signatures (PSS and SHA-256, as in TLS 1.3) and gigabytes a second of `cryptography`'s OpenSSL, in this thread."""
    key = rsa.generate_private_key(65537, 4096)
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    sealing = Cipher(algorithms.AES(bytes(32)), modes.GCM(bytes(12))).encryptor()
    record, room = bytes(_RECORD), bytearray(_RECORD + 16)
    return {
        "sign": _rate(seconds, lambda: key.sign(b"x" * 130, scheme, hashes.SHA256())),
        "gcm": _rate(seconds, lambda: sealing.update_into(record, room)) * _RECORD / 1e9,
    }


def _rate(seconds: float, once: Callable[[], object]) -> float:
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        once()
        count += 1
    return count / (time.perf_counter() - start)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(speed(float(sys.argv[1]))))
