"""Whether a campaign fits the models of a server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tritonforge_client import Client
from tritonforge_client.errors import TritonError
from tritonforge_generator.errors import SpecError
from tritonforge_load.campaign import Campaign, Workload
from tritonforge_load.errors import LoadError
from tritonforge_load.payloads import check_of, requests_of


@dataclass(frozen=True, slots=True)
class ModelFit:
    """A workload that fits its model.

    Attributes:
        workload: The workload.
        model: The model.
        requests: How many different requests there are.
        size_bytes: Memory that their values take in each process that sends.
    """

    workload: str
    model: str
    requests: int
    size_bytes: int


def fits_of(campaign: Campaign, base: Path, *, say: Callable[[str], None] | None = None) -> list[ModelFit | SpecError]:
    """Make the requests of every workload as a run does, and send none.

    Args:
        campaign: The campaign, with the server that is asked.
        base: Folder that relative paths start from.
        say: Told how far it is, where many images take long.

    Returns:
        For each workload that it fits, or why it does not.

    Raises:
        LoadError: The server is not there or not ready.
    """
    target = campaign.target
    try:
        with Client(target.url) as client:
            client.wait_ready(timeout_s=target.wait_ready_s)
            return [_fit(client, workload, campaign, base, say) for workload in campaign.workload]
    except TritonError as error:
        raise LoadError(f"{target.url}: {error}") from error


def _fit(
    client: Client, workload: Workload, campaign: Campaign, base: Path, say: Callable[[str], None] | None
) -> ModelFit | SpecError:
    try:
        client.wait_ready(workload.model, timeout_s=campaign.target.wait_ready_s)
        requests = requests_of(workload, client.spec(workload.model), base=base, seed=campaign.seed, say=say)
        check_of(workload, requests, base=base)
    except SpecError as error:
        return error
    except TritonError as error:
        return SpecError(f"workload {workload.name!r}: model {workload.model!r}: {error}")
    arrays = {id(array): array.nbytes for request in requests for array in request.inputs.values()}
    return ModelFit(workload.name, workload.model, len(requests), sum(arrays.values()))
