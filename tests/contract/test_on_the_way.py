"""What goes along with requests: certificates, tokens, compression, trace context."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract.conftest import KINDS, made_client
from contract.models import write_models

from tritonforge_client import TLS, Attempt, Client, InvalidInput, Options, TritonError, Unavailable
from tritonforge_generator.deploy import EmbeddedTriton

pytestmark = pytest.mark.triton

ONES = np.ones((1, 4), np.float32)


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and a server and a client that it signed."""
    folder = tmp_path_factory.mktemp("certificates")
    key = ("-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl("req", "-x509", *key, "-subj", "/CN=ours", "-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.pem")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
    for name in ("server", "client"):
        paths = ("-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.csr")
        openssl("req", *key, "-subj", f"/CN={name}", *paths)
        signed = ("-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca.key", "-CAcreateserial", "-days", "2")
        extensions = ("-extfile", f"{folder}/names")
        openssl("x509", "-req", "-in", f"{folder}/{name}.csr", *signed, *extensions, "-out", f"{folder}/{name}.pem")
    return folder


@pytest.fixture(scope="module")
def secured(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A target of a Triton that asks for certificates (mTLS; over gRPC, its HTTP server knows no TLS)."""
    repository = tmp_path_factory.mktemp("secured") / "models"
    repository.mkdir()
    write_models(repository)
    flags = {"use-ssl": "true", "use-ssl-mutual": "true", "server-cert": certificates / "server.pem"}
    flags |= {"server-key": certificates / "server.key", "root-cert": certificates / "ca.pem"}
    arguments = [f"--grpc-{name}={value}" for name, value in flags.items()]
    server = EmbeddedTriton(repository, model_control_mode="explicit", load_models=["add_sub"], arguments=arguments)
    with server:
        yield server.grpc_url.replace("grpc://", "grpcs://")


@pytest.mark.parametrize("kind", ["grpc", "grpc-async"])
def test_client_and_server_know_each_other(secured: str, certificates: Path, kind: str) -> None:
    tls = TLS(
        root_certificates=certificates / "ca.pem",
        certificate=certificates / "client.pem",
        private_key=certificates / "client.key",
    )
    with made_client(kind, secured, tls=tls) as client:
        assert client.infer("add_sub", {"a": ONES, "b": ONES}).value["sum"].tolist() == [[2, 2, 2, 2]]


@pytest.mark.parametrize("kind", ["grpc", "grpc-async"])
def test_strangers_are_refused(secured: str, certificates: Path, kind: str) -> None:
    for tls in (TLS(root_certificates=certificates / "ca.pem"), None):  # no certificate; no trust
        with made_client(kind, secured, tls=tls, options=Options(timeout_s=3)) as client, pytest.raises(Unavailable):
            client.infer("add_sub", {"a": ONES, "b": ONES})


def test_certificates_are_looked_at_before_anything_is_sent(certificates: Path) -> None:
    with pytest.raises(InvalidInput, match=r"root_certificates: expected a file in PEM form, got nowhere\.pem"):
        TLS(root_certificates="nowhere.pem")
    with pytest.raises(InvalidInput, match="a certificate with its private_key"):
        TLS(certificate=certificates / "client.pem")
    with pytest.raises(InvalidInput, match="grpcs:// or https://"):
        Client("grpc://localhost", tls=TLS())
    with pytest.raises(InvalidInput, match="expected certificates and a key in PEM form"):
        Client("https://localhost", tls=TLS(root_certificates=certificates / "names"))


def test_a_token_is_asked_for_at_each_call(client: Client) -> None:
    tokens = iter(["one", "two"])
    options = Options(token=lambda: next(tokens))
    for _ in range(2):
        client.infer("add_sub", {"a": ONES, "b": ONES}, options=options)
    assert list(tokens) == []
    with pytest.raises(InvalidInput, match="authorization") as caught:
        client.infer("add_sub", {"a": ONES, "b": ONES}, options=Options(token=lambda: "sec\nret"))
    assert "ret" not in str(caught.value).replace("authorization", "")


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compressed_requests_give_the_same_answers(client: Client, compression: Any) -> None:
    zeros = np.zeros((100, 1000), np.float32)
    zeros[5, 7] = 3
    reply = client.infer("identity", {"IN_FP32": zeros}, options=Options(compression=compression))
    np.testing.assert_array_equal(reply.value["OUT_FP32"], zeros)
    with pytest.raises(TritonError, match="unexpected inference input"):
        client.infer("identity", {"nothing": zeros}, options=Options(compression=compression))


class Watcher:
    """A hook that notes what it sees, and adds a header."""

    def __init__(self) -> None:
        self.seen: list[tuple[Attempt, str]] = []

    @contextmanager
    def attempt(self, attempt: Attempt) -> Iterator[Mapping[str, str]]:
        outcome = "left"
        try:
            yield {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
            outcome = "ok"
        except TritonError as error:
            outcome = error.code
            raise
        finally:
            self.seen.append((attempt, outcome))


@pytest.mark.parametrize("kind", KINDS)
def test_hooks_see_every_attempt(server: EmbeddedTriton, kind: str) -> None:
    watcher = Watcher()
    with made_client(kind, server, hooks=[watcher]) as client:
        client.infer("add_sub", {"a": ONES, "b": ONES}, request_id="r")
        with pytest.raises(TritonError):
            client.infer("nosuch", {"a": ONES})
    ((first, ok), (second, not_found)) = watcher.seen
    assert (first.model, first.number, first.request_id, ok) == ("add_sub", 1, "r", "ok")
    assert (second.model, second.request_id, not_found) == ("nosuch", None, "not_found")
