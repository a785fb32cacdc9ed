"""What applications are tested with: the real client over a transport that answers without a server."""

from tritonforge_client.testing.answers import Answer, Arrays
from tritonforge_client.testing.dialect import Operation, Question
from tritonforge_client.testing.transport import AsyncFakeTransport, FakeRequest, FakeTransport

__all__ = ["Answer", "Arrays", "AsyncFakeTransport", "FakeRequest", "FakeTransport", "Operation", "Question"]
