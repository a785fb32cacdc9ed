import pytest

from tritonforge_client import errors
from tritonforge_client.core.call import Call
from tritonforge_client.core.status import error_from_status

# Server texts as the real server sends them; the contract tests provoke most of them.
TABLE = [
    ("UNAVAILABLE", 503, "[request id: <id_unknown>] Exceeds maximum queue size", errors.QueueFull),
    ("UNAVAILABLE", 503, "Request timeout expired", errors.QueueTimeout),
    ("UNAVAILABLE", 503, "in ensemble 'e', Request for model 'm' is not at ready state", errors.NotReady),
    ("UNAVAILABLE", 503, "Server not ready", errors.NotReady),
    (
        "UNAVAILABLE",
        503,
        "Server is stopping, scheduler for model has stopped accepting new inference requests",
        errors.ShuttingDown,
    ),
    ("UNAVAILABLE", 503, "anything else", errors.Unavailable),
    ("NOT_FOUND", 404, "Request for unknown model: 'm' is not found", errors.ModelNotFound),
    ("INVALID_ARGUMENT", 400, "Request for unknown model: 'm' is not found", errors.ModelNotFound),
    ("NOT_FOUND", 404, "Request for unknown model: 'm' has no available versions", errors.ModelNotFound),
    ("INVALID_ARGUMENT", 400, "requested model 'm' is not available", errors.ModelNotFound),
    (
        "INVALID_ARGUMENT",
        400,
        "unexpected shape for input 'x' for model 'm'. Expected [-1,4], got [1,3]",
        errors.InvalidInput,
    ),
    ("INVALID_ARGUMENT", 400, "", errors.InvalidInput),
    ("INTERNAL", 500, "Stub process 'm_0' is not healthy.", errors.ServerError),
    ("UNIMPLEMENTED", 501, "doesn't support models with decoupled transaction policy", errors.Unimplemented),
    ("CANCELLED", 499, "cancelled", errors.Cancelled),
    ("DEADLINE_EXCEEDED", 504, "upstream request timeout", errors.DeadlineExceeded),
    ("UNAVAILABLE", 502, "failed to connect to all addresses; last error: Connection refused", errors.ConnectionFailed),
]


def call() -> Call:
    return Call(endpoint="h:1", timeout_s=1.0, model="m", request_id="r")


@pytest.mark.parametrize(("grpc_status", "http_status", "message", "kind"), TABLE)
def test_both_protocols_give_the_same_class(
    grpc_status: str, http_status: int, message: str, kind: type[errors.TritonError]
) -> None:
    for status in (grpc_status, http_status):
        error = error_from_status(status, message, call())
        assert type(error) is kind
        assert error.server_message == message
        assert (error.model, error.endpoint, error.request_id) == ("m", "h:1", "r")
        assert message.removeprefix("[request id: <id_unknown>] ") in str(error)
        assert "id_unknown" not in str(error)


def test_the_status_is_named_where_no_class_says_it() -> None:
    for status in ("DATA_LOSS", 418):
        error = error_from_status(status, "odd", call())
        assert type(error) is errors.ServerError
        assert str(status) in str(error)


def test_only_what_was_not_run_is_retryable() -> None:
    retryable = {kind for *_, kind in TABLE if kind.retryable}
    assert retryable == {
        errors.QueueFull,
        errors.NotReady,
        errors.ShuttingDown,
        errors.Unavailable,
        errors.ConnectionFailed,
    }
