"""Certificates made for a test."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def self_signed(folder: Path, name: str = "IP:127.0.0.1") -> Path:
    """Make a certificate that nobody but itself vouches for; the test is skipped where there is no openssl.

    Args:
        folder: Where its files go.
        name: Whom it is for, as ``subjectAltName`` says it.

    Returns:
        ``both.pem`` with key and certificate; each alone is beside it, in ``key.pem`` and ``certificate.pem``.
    """
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificates")
    both, key, certificate = (folder / f"{part}.pem" for part in ("both", "key", "certificate"))
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName={name}"
    subprocess.run([*command.split(), "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    both.write_text(key.read_text() + certificate.read_text())
    return both
