import pytest

from tritonforge_client import TLS, Client, InvalidInput


@pytest.mark.parametrize(
    ("target", "endpoint"),
    [
        ("grpc://localhost:9001", "localhost:9001"),
        ("http://localhost:9000/", "localhost:9000"),
        ("grpc://localhost", "localhost:8001"),
        ("http://10.0.0.1", "10.0.0.1:8000"),
        ("grpc://[::1]:5", "[::1]:5"),
        ("http://[::1]", "[::1]:8000"),
        ("grpcs://h:1", "h:1"),
        ("https://h", "h:8000"),
        ("grpc+dns://h:9001", "h:9001"),
        ("grpc+dns://h", "h:8001"),
        ("grpcs+dns://h", "h:8001"),
        ("http+dns://h/", "h:8000"),
        ("https+dns://h:1", "h:1"),
        ("http+dns://[::1]", "[::1]:8000"),
        ("dns:///h:9001", "h:9001"),
        ("dns:///h", "h:8001"),
    ],
)
def test_targets(target: str, endpoint: str) -> None:
    with Client(target) as client:
        assert [transport.endpoint for transport in client._session.caller.transports] == [endpoint]


@pytest.mark.parametrize(
    "target",
    [
        "",
        "localhost:8001",
        "grpc://",
        "grpc://h:0",
        "grpc://h:70000",
        "grpc://h:x",
        "http://h/v2",
        "http://u:p@h:1",
        "http://h?x=1",
        "http://h#x",
        "ftp://h:1",
        "dns://h:1",
        "dns:h:1",
        "dns:///",
        "dns:///h:0",
        "dns:////h",
        "dns://8.8.8.8/h:1",
        "grpc+dns://",
        "ftp+dns://h:1",
        "dns+grpc://h:1",
        "grpc+dns+dns://h:1",
        None,
        3,
    ],
)
def test_other_targets_are_refused(target: str) -> None:
    with pytest.raises(InvalidInput, match=r"target: expected grpc://host:port, .*, got"):
        Client(target)


def test_grpcs_own_spelling_is_grpc_without_tls() -> None:
    with Client(["dns:///a:1", "grpc+dns://b", "grpc://c"]) as client:
        assert [transport.endpoint for transport in client._session.caller.transports] == ["a:1", "b:8001", "c:8001"]
    with pytest.raises(InvalidInput, match="tls: expected a target grpcs:// or https:// for tls, got 'dns:///a:1'"):
        Client("dns:///a:1", tls=TLS())


def test_several_targets_speak_one_protocol() -> None:
    with Client(["grpc://a:1", "grpc://b"]) as client:
        assert [transport.endpoint for transport in client._session.caller.transports] == ["a:1", "b:8001"]
    for targets in ([], ["grpc://a", "http://b"], ["dns:///a", "grpcs+dns://b"]):
        with pytest.raises(InvalidInput, match="or several of one protocol"):
            Client(targets)
