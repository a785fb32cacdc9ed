from google.protobuf.json_format import MessageToDict

from tritonforge_client import InferBatchStatistics, InferStatistics, ModelStatistics, StatisticDuration
from tritonforge_client.core.proto import messages
from tritonforge_client.core.statistics import model_statistics_from_json


def field_names(message: str) -> set[str]:
    return {field.name for field in getattr(messages(), message).DESCRIPTOR.fields}


def test_fields_are_those_of_the_proto_file() -> None:
    for kind, message, left_out in (
        (StatisticDuration, "StatisticDuration", set()),
        (InferStatistics, "InferStatistics", set()),
        (InferBatchStatistics, "InferBatchStatistics", set()),
        (ModelStatistics, "ModelStatistics", {"memory_usage", "response_stats"}),
    ):
        assert set(kind.__dataclass_fields__) == field_names(message) - left_out


def test_a_message_is_read() -> None:
    message = messages().ModelStatistics(name="m", version="2", last_inference=7, inference_count=5, execution_count=3)
    for number, name in enumerate(InferStatistics.__dataclass_fields__, start=1):
        duration = getattr(message.inference_stats, name)
        duration.count, duration.ns = number, number * 1000
    batch = message.batch_stats.add(batch_size=4)
    batch.compute_infer.count, batch.compute_infer.ns = 2, 9000
    statistics = model_statistics_from_json(MessageToDict(message, preserving_proto_field_name=True))
    assert (statistics.name, statistics.version, statistics.last_inference) == ("m", "2", 7)
    assert (statistics.inference_count, statistics.execution_count) == (5, 3)
    for number, name in enumerate(InferStatistics.__dataclass_fields__, start=1):
        assert getattr(statistics.inference_stats, name) == StatisticDuration(count=number, ns=number * 1000)
    assert statistics.batch_stats[0].batch_size == 4
    assert statistics.batch_stats[0].compute_infer.mean_us == 4.5
    assert statistics.batch_stats[0].compute_input.mean_us is None


def test_fields_that_a_server_leaves_out_count_as_zero() -> None:
    statistics = model_statistics_from_json({"name": "m"})
    assert statistics.inference_stats.cache_hit == StatisticDuration(count=0, ns=0)
    assert statistics.batch_stats == ()
