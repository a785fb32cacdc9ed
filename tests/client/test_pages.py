"""Large messages reuse the memory of those before."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from tritonforge_client import keep_pages

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "kept":
    before = faults()
    keep_pages()
    assert faults() - before < 100, "the block was written to"
def call():
    held = [b"x" * 600_000 for _ in range(4)]  # a tensor, its message, the reply and what is made of it

call()  # once, so that the heap has grown
before = faults()
for _ in range(100):
    call()
print(faults() - before)
"""


def faults_of(how: str) -> int:
    run = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives large blocks back at once")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    assert faults_of("as it is") > 5_000  # what it costs without
    assert faults_of("kept") < 500
