import pytest

from tritonforge_client import Client, InvalidInput


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
        None,
        3,
    ],
)
def test_other_targets_are_refused(target: str) -> None:
    with pytest.raises(InvalidInput, match=r"target: expected grpc://host:port, .*, got"):
        Client(target)


def test_several_targets_speak_one_protocol() -> None:
    with Client(["grpc://a:1", "grpc://b"]) as client:
        assert [transport.endpoint for transport in client._session.caller.transports] == ["a:1", "b:8001"]
    for targets in ([], ["grpc://a", "http://b"]):
        with pytest.raises(InvalidInput, match="or several of one protocol"):
            Client(targets)
