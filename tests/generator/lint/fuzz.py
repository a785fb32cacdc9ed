"""Mutated configs and ONNX files: lint never fails, hangs, or opens anything outside of the repository.

``python -m generator.lint.fuzz 100000 1000`` runs that many of each, a third number is the seed; the tests run a few.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from generator.lint.cases import BATCHED, MODEL_PY, ONNX_BATCHING, TWO, external_bytes, sequence_bytes, write_model
from generator.lint.ensemble_cases import ENSEMBLES, write_repository
from generator.lint.table import CASES

from tritonforge_generator.lint import lint_repository, open_repositories
from tritonforge_generator.lint.fixing import mend_repositories

_LIMIT_S = 20.0
_ESCAPES = (
    "../secret",
    "../../secret/secret",
    "../../secret/model.onnx",
    "1/../../../secret/secret",
    "/etc/passwd",
    "link",
    "1/link",
    "links/secret",
    "a\\000b",
    "long" * 100,
    "1/model.onnx/below/a/file",
    "$$TRITON_MODEL_DIRECTORY/../../secret",
)
_FLAT = "data_type: TYPE_FP32 dims: [1]"
_PATHS = (
    'output { name: "y" data_type: TYPE_FP32 dims: [4] label_filename: "@" }',
    'default_model_filename: "@"',
    'runtime: "@"',
    'name: "@"',
    'cc_model_filenames { key: "9.0" value: "@" }',
    'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "@" } }',
    'parameters { key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "@" } }',
    f'model_warmup {{ name: "w" batch_size: 1 inputs {{ key: "x" value {{ {_FLAT} input_data_file: "@" }} }} }}',
    f'sequence_batching {{ state {{ {_FLAT} initial_state {{ name: "s" {_FLAT} data_file: "@" }} }} }}',
    'platform: "ensemble" ensemble_scheduling { step { model_name: "@" model_version: -1 } }',
    'model_operations { op_library_filename: "@" }',
)
_TOKENS = (
    *(b"{", b"}", b"[", b"]", b"<", b">", b":", b",", b";", b"#", b'"', b"'", b"\\", b"\n", b"\x00", b"\xff", b"\r"),
    *(
        b"-1",
        b"- 1",
        b"+1",
        b"1_0",
        b"\xc2\xa0",
        b"0",
        b"99999999999",
        b"1e400",
        b"nan",
        b"0x",
        b"\\x",
        b"\\u12",
        b"TYPE_FP32",
        b"KIND_GPU",
        b"dims: ",
    ),
    *(b"{" * 400, b"ensemble_scheduling { step { ", b"input [ { ", b'backend: "tensorrt" ', b'backend: "python" '),
    *(b'platform: "onnxruntime" ', b"dynamic_batching { } ", b"instance_group { } ", b"[extension.name] { }"),
)
Random = random.Random


class _Watch:
    """Notes what is opened outside of a folder; audit hooks cannot be removed, so there is one for all."""

    def __init__(self) -> None:
        self.allowed: tuple[str, ...] | None = None
        self.outside: list[str] = []
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.allowed is None or event not in {"open", "os.listdir", "os.scandir"}:
            return
        path = arguments[0]
        if isinstance(path, (str, bytes, os.PathLike)):
            real = os.path.realpath(os.fsdecode(path))
            if not any(real == folder or real.startswith(folder + os.sep) for folder in self.allowed):
                self.outside.append(f"{event} {real}")


_WATCH = _Watch()


@contextmanager
def watched(repository: Path) -> Iterator[None]:
    """Fail when anything but the repository and installed packages is opened."""
    code = {Path(entry).resolve() for entry in (*sys.path, sys.prefix, sys.base_prefix) if entry != ""}
    _WATCH.outside.clear()
    _WATCH.allowed = (str(repository.resolve()), *(str(folder) for folder in code))
    try:
        yield
    finally:
        _WATCH.allowed = None
    if _WATCH.outside:
        raise AssertionError(f"it opened {', '.join(_WATCH.outside)}")


@contextmanager
def _limited() -> Iterator[None]:
    def too_slow(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"it took more than {_LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, too_slow)
    signal.setitimer(signal.ITIMER_REAL, _LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def prepare(folder: Path) -> Path:
    """Write a repository with links that lead out of it, beside secrets; return the repository."""
    secret = folder / "secret"
    secret.mkdir()
    for name in ("secret", "model.py", "config.pbtxt"):
        (secret / name).write_text(MODEL_PY)
    (secret / "model.onnx").write_bytes(bytes(BATCHED["1/model.onnx"]))  # type: ignore[arg-type]
    repository = folder / "repository"
    write_repository(repository)
    files: dict[str, str | bytes] = {**BATCHED, "1/model.py": MODEL_PY, "02/": "", "x/": "", "warmup/full": b"0" * 16}
    write_model(repository / "m", "", files)
    for link, target in {"link": "secret", "1/link": "model.onnx", "links": "", "warmup/link": "secret"}.items():
        (repository / "m" / link).symlink_to(secret / target)
    (repository / "outside").symlink_to(secret)
    (repository / "linked" / "1").mkdir(parents=True)
    (repository / "linked" / "config.pbtxt").symlink_to(secret / "config.pbtxt")
    (repository / "linked" / "1" / "model.onnx").symlink_to(secret / "model.onnx")
    return repository


_TEXTS = [case.broken for case in CASES if case.broken is not None] + [case.valid for case in CASES]
_TEXTS += [case.broken for case in ENSEMBLES]


def mutated_config(chance: Random) -> bytes:
    """Return a config that is broken somewhere, and that as a rule names a file outside."""
    text = chance.choice(_TEXTS).encode()
    if chance.random() < 0.4:
        text += chance.choice(_PATHS).replace("@", chance.choice(_ESCAPES)).encode() + b"\n"
    for _ in range(chance.choice((0, 1, 1, 2, 4))):
        start = chance.randint(0, len(text))
        end = min(len(text), start + chance.choice((0, 0, 1, 3, 12)))
        other = chance.choice(_TEXTS).encode()
        cut = chance.randint(0, len(other))
        inserted = chance.choice((b"", chance.choice(_TOKENS), bytes([chance.randrange(256)]), other[cut : cut + 20]))
        text = text[:start] + inserted + text[end:]
    return text


_GRAPHS = [bytes(BATCHED["1/model.onnx"]), bytes(TWO["1/model.onnx"]), sequence_bytes(), external_bytes()]  # type: ignore[arg-type]


def mutated_graph(chance: Random) -> bytes:
    """Return an ONNX file with some bytes changed, moved or missing."""
    content = bytearray(chance.choice(_GRAPHS))
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        position = chance.randrange(len(content)) if content else 0
        match chance.randrange(4):
            case 0:
                content[position : position + 1] = bytes([chance.randrange(256)])
            case 1:
                del content[position : position + chance.choice((1, 4, 50))]
            case 2:
                content[position:position] = bytes(content[: chance.randrange(30)])
            case _:
                content[position:position] = b"\xff\xff\xff\xff\x0f"
    return bytes(content)


def judge(repository: Path, *, strict: bool, mend: bool) -> None:
    """Lint the repository's models that matter, and see that the findings can be printed and the mends add nothing."""
    with watched(repository), _limited():
        found = lint_repository(repository, models=["m", "linked"], strict=strict)
        assert all(finding.text != "" for finding in found)
        json.dumps([finding.to_json() for finding in found])
        if mend:
            together, chosen = open_repositories(repository, models=["m"], strict=strict)
            mend_repositories(together, chosen)


def _run(count: int, seed: int, step: Callable[[Random, int], None]) -> float:
    started = time.perf_counter()
    for number in range(count):
        chance = Random(seed * 10_000_000 + number)
        try:
            step(chance, number)
        except BaseException:
            print(f"failed at {seed=} {number=}", file=sys.stderr)
            raise
    return time.perf_counter() - started


def fuzz_configs(repository: Path, count: int, seed: int = 0) -> float:
    """Judge mutated configs; return the seconds that it took."""

    def step(chance: Random, number: int) -> None:
        (repository / "m" / "config.pbtxt").write_bytes(mutated_config(chance))
        judge(repository, strict=number % 2 == 1, mend=number % 4 == 0)

    return _run(count, seed, step)


def fuzz_graphs(repository: Path, count: int, seed: int = 0) -> float:
    """Judge mutated ONNX files; return the seconds that it took."""

    def step(chance: Random, number: int) -> None:
        config = ONNX_BATCHING if number % 2 else 'backend: "onnxruntime"'
        (repository / "m" / "config.pbtxt").write_text(config)
        (repository / "m" / "1" / "model.onnx").write_bytes(mutated_graph(chance))
        judge(repository, strict=False, mend=number % 4 == 1)

    return _run(count, seed, step)


def main(configs: int, graphs: int, seed: int = 0) -> None:
    folder = Path(tempfile.mkdtemp(prefix="lint-fuzz-"))
    try:
        repository = prepare(folder)
        print(f"{configs} configs in {fuzz_configs(repository, configs, seed):.0f} s")
        print(f"{graphs} ONNX files in {fuzz_graphs(repository, graphs, seed):.0f} s")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
