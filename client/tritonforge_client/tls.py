"""TLS: whom the client trusts, and how it shows who it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tritonforge_client.errors import InvalidInput

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """Certificates of a connection, as files in PEM form.

    Attributes:
        root_certificates: Whom to trust; ``None`` for the authorities that the system trusts.
        certificate: The client's own certificate and those above it, for servers that ask for one (mTLS).
        private_key: The key of that certificate.

    Raises:
        InvalidInput: A file is missing, or one of certificate and key is given without the other.
    """

    root_certificates: Path | str | None = None
    certificate: Path | str | None = None
    private_key: Path | str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.private_key is None):
            raise _tls_error("certificate", "a certificate with its private_key, or neither", "one of them")
        for name in ("root_certificates", "certificate", "private_key"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise _tls_error(name, "a file in PEM form", str(path))

    def ssl_context(self) -> ssl.SSLContext:
        """The same for Python's sockets.

        Raises:
            InvalidInput: A file is not in PEM form, or key and certificate do not belong together.
        """
        import ssl  # takes longer than all of the client

        try:
            context = ssl.create_default_context(cafile=self.root_certificates)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.private_key)
        except ssl.SSLError as error:
            raise _tls_error("tls", "certificates and a key in PEM form", str(error)) from error
        return context


def _tls_error(field: str, expected: str, got: str) -> InvalidInput:
    return InvalidInput(f"{field}: expected {expected}, got {got}", field=field, expected=expected, got=got)
