"""What is sent: workloads, where their values come from, and how answers are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from tritonforge_client.extras import require_extra
from tritonforge_generator.declared import DeclaredModel, PlacedError
from tritonforge_load.campaign.quantities import Share

if TYPE_CHECKING:
    from pydantic import Field, model_validator
else:
    _pydantic = require_extra("pydantic", "load")
    Field, model_validator = _pydantic.Field, _pydantic.model_validator

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\s()*#@]+$")]
"""A name in gates and tables; ``#`` and ``@`` number the runs of a phase."""

Count = Annotated[int, Field(ge=1)]

Scalar: TypeAlias = bool | int | float | str
"""One element of a tensor."""

_SOURCES: Final = ("random", "values", "images", "file", "package")


class ArraySource(DeclaredModel):
    """An array of an ``.npz`` file, or the one of an ``.npy`` file.

    Attributes:
        file: Path of the file, relative to the campaign file.
        package: Instead of ``file``, a file inside an installed package, ``package:path/in/it.npz``.
        key: Name of the array in an ``.npz`` file; the tensor's name when left out.
    """

    file: str | None = None
    package: str | None = Field(default=None, pattern=r"^[\w.]+:[^:]+$")
    key: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> ArraySource:
        if (self.file is None) == (self.package is None):
            raise ValueError("expected one of file and package")
        _check_key(self.path, self.key)
        return self

    @property
    def path(self) -> str:
        """The file as it is written, for messages."""
        return self.file if self.file is not None else str(self.package)

    @property
    def is_table(self) -> bool:
        """Whether it is a CSV file, which only labels can be."""
        return self.path.endswith(".csv")


class InputSource(DeclaredModel):
    """Where the values of one input come from: random, given, rows of an array or images.

    Attributes:
        random: ``normal`` (mean 0, deviation 1) or ``uniform`` (from ``low`` to ``high``); integers are rounded down.
        low: Smallest value of ``uniform``; 0 when left out.
        high: Upper bound of ``uniform``, left out of the range. When left out 1, for integers 2 (what masks and types
            take), for integers whose name says token ids 1000 (which every vocabulary has).
        pool: How many different random tensors are made before load starts; 32 when left out.
        values: Elements of one row in row-major order, the same in every request.
        images: Folder of ``.jpg``, ``.jpeg`` and ``.png`` files, relative to the campaign file. They are taken in the
            order of their names, turned as their EXIF data says, and stretched to the input's height and width
            (bilinear, over all pixels where it shrinks). The input is UINT8 (pixels as they are) or floating point:
            ``(pixels * scale - mean) / std``, as ``preprocess`` of the generator has it. Channels: 1 is grey, 3 is RGB,
            4 is RGBA.
        limit: How many images are taken, the first ones; all when left out.
        layout: Axes of an image, ``NCHW`` or ``NHWC``; found from the input's dims when left out.
        scale: What pixels are multiplied with first; 1/255 when left out.
        mean: Taken off after that, one value a channel; 0 when left out.
        std: Divided by after that, one value a channel; 1 when left out.
        shape: Size of dimensions that the model leaves open (-1), for all dimensions without the batch; of random
            values, ``values`` and images.
        file: As in ``ArraySource``.
        package: As in ``ArraySource``.
        key: As in ``ArraySource``.
    """

    random: Literal["normal", "uniform"] | None = None
    low: float | None = None
    high: float | None = None
    pool: Count | None = None
    values: tuple[Scalar, ...] | None = Field(default=None, min_length=1)
    images: str | None = Field(default=None, min_length=1)
    limit: Count | None = None
    layout: Literal["NCHW", "NHWC"] | None = None
    scale: float | None = None
    mean: tuple[float, ...] | None = Field(default=None, min_length=1)
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(default=None, min_length=1)
    shape: tuple[Count, ...] | None = None
    file: str | None = None
    package: str | None = Field(default=None, pattern=r"^[\w.]+:[^:]+$")
    key: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> InputSource:
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            expected = f"{', '.join(_SOURCES[:-1])} or {_SOURCES[-1]}"
            raise PlacedError("an input has one source", expected=expected, got=" and ".join(given) or "none")
        for name, (sources, what) in _ONLY.items():
            if name in self.model_fields_set and given[0] not in sources:
                raise PlacedError(what, at=(name,), action="Remove it")
        self._check_range()
        _check_key(self.file or self.package or "", self.key)
        if self.mean is not None and self.std is not None and len(self.mean) != len(self.std):
            raise PlacedError(at=("std",), expected=f"{len(self.mean)} values, as mean has", got=f"{len(self.std)}")
        return self

    def _check_range(self) -> None:
        for name in ("low", "high"):
            if self.random == "normal" and name in self.model_fields_set:
                raise PlacedError("only uniform values have it", at=(name,), action="Remove it")
        low = self.low if self.low is not None else 0.0
        # What high is when it is left out follows from the input's type, which is not known yet.
        if (self.low is not None or self.high is not None) and (self.high is None or self.high <= low):
            got = "nothing" if self.high is None else f"{self.high:g}"
            raise PlacedError(at=("high",), expected=f"above low ({low:g})", got=got)

    @property
    def array(self) -> ArraySource | None:
        """The array that rows are taken from; ``None`` where they come from elsewhere."""
        if self.file is None and self.package is None:
            return None
        return ArraySource(file=self.file, package=self.package, key=self.key)

    @property
    def has_rows(self) -> bool:
        """Whether it has different rows, each of which is sent once before the first is sent again."""
        return self.array is not None or self.images is not None


_ONLY: Final = {
    **dict.fromkeys(("low", "high", "pool"), (("random",), "only random values have it")),
    **dict.fromkeys(("limit", "layout", "scale", "mean", "std"), (("images",), "only images have it")),
    "shape": (("random", "values", "images"), "only random values, values and images have it"),
    "key": (("file", "package"), "key names an array of a file"),
}


def _check_key(path: str, key: str | None) -> None:
    if key is not None and path.endswith((".npy", ".csv")):
        raise PlacedError("only .npz files have several arrays", at=("key",), action="Remove it")


class Check(DeclaredModel):
    """Comparing a share of the answers while load runs, row by row.

    Attributes:
        sample: Share of requests whose answer is compared.
        output: The output that is compared.
        labels: Right classes, one integer a row of the inputs: a row is right when its largest value is at that place.
            For images also a CSV file with a line ``file,label`` for each image, in any order.
        golden: Right outputs, one a row of the inputs: a row is right when all values are within the tolerances.
        rtol: Relative tolerance of ``golden``.
        atol: Absolute tolerance of ``golden``.
    """

    sample: Share = 0.01
    output: str
    labels: ArraySource | None = None
    golden: ArraySource | None = None
    rtol: float = Field(default=1e-3, ge=0)
    atol: float = Field(default=1e-5, ge=0)

    @model_validator(mode="after")
    def _one_reference(self) -> Check:
        if (self.labels is None) == (self.golden is None):
            raise ValueError("expected one of labels and golden")
        if self.golden is not None and self.golden.is_table:
            raise PlacedError(at=("golden",), expected="an .npz or .npy file", got=self.golden.path)
        return self


class Workload(DeclaredModel):
    """Requests of one kind.

    Attributes:
        name: Its name in gates and tables.
        model: The model that is called.
        weight: How often it is chosen, relative to the others.
        batch: Rows a request; of several sizes, each is used in turn. Models without a batch dimension have 1.
        inputs: Values by input; what is left out is random (``normal`` for floating point, else ``uniform``), and
            optional inputs are left out of the request.
        check: Comparing answers; needs an input from a file or images.
    """

    name: Name
    model: str = Field(min_length=1)
    weight: float = Field(default=1.0, gt=0)
    batch: Count | tuple[Count, ...] = 1
    inputs: dict[str, InputSource] = Field(default_factory=dict)
    check: Check | None = None

    @property
    def batches(self) -> tuple[int, ...]:
        """Rows a request, each in turn."""
        return (self.batch,) if isinstance(self.batch, int) else self.batch

    @model_validator(mode="after")
    def _check_has_rows(self) -> Workload:
        if self.batches == ():
            raise PlacedError(at=("batch",), expected="at least one size", got="an empty list")
        if self.check is None:
            return self
        action = "Give an input a file, a package or images"
        if not any(source.has_rows for source in self.inputs.values()):
            raise PlacedError("answers can only be compared for given inputs", at=("check",), action=action)
        labels = self.check.labels
        if labels is not None and labels.is_table and all(source.images is None for source in self.inputs.values()):
            raise PlacedError("labels by file name are for images", at=("check", "labels"), action="Give an .npz file")
        return self
