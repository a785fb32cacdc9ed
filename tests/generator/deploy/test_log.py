from __future__ import annotations

from tritonforge_generator.deploy.log import failure_from_log, port_taken, unready_models

TABLE = """\
I1120 22:13:25.7 26634 server.cc:674]
+-------+---------+----------------------------------------+
| Model | Version | Status                                 |
+-------+---------+----------------------------------------+
| good  | 1       | READY                                  |
| bad   | 1       | UNAVAILABLE: Internal: text | with bar |
|       |         |                                        |
|       |         | At:                                    |
|       |         |   /home/me/bad/1/model.py(3): execute  |
| worse | 2       | UNAVAILABLE: Internal: other           |
|       |         |                                        |
|       |         | At:                                    |
|       |         |   /tmp/tritonforge-ab_1/backends/onnxruntime/model.py(347): <listcomp> |
| gone  | -       | Not loaded: no version                 |
+-------+---------+----------------------------------------+

| Option | Value | More |
""".splitlines()
ERRORS = """\
I1120 22:00:00.0 1 server.cc:1] "fine"
E1120 22:00:00.0 1 server.cc:241] "CudaDriverHelper has not been initialized."
E1120 22:00:00.0 1 cache.cc:2] "the size is too small"
error: creating server: Internal - no cache
""".splitlines()


def test_unready_models_keep_the_frames_of_foreign_models_only() -> None:
    assert unready_models(TABLE) == {
        "bad version 1": "UNAVAILABLE: Internal: text | with bar\n\nAt:\n/home/me/bad/1/model.py(3): execute",
        "worse version 2": "UNAVAILABLE: Internal: other",
        "gone": "Not loaded: no version",
    }


def test_unready_models_are_the_reason_when_there_are_any() -> None:
    assert failure_from_log([*ERRORS, *TABLE]).startswith("models that did not load:\n  bad version 1: UNAVAILABLE")


def test_error_lines_are_the_reason_otherwise_without_the_harmless_one() -> None:
    assert failure_from_log(ERRORS) == (
        "its errors:\n  the size is too small\n  error: creating server: Internal - no cache"
    )


def test_the_end_of_the_log_is_shown_when_it_has_no_errors() -> None:
    lines = [f"line {number}" for number in range(20)]
    assert failure_from_log(lines) == "the end of its log:\n" + "\n".join(f"  {line}" for line in lines[5:])


def test_failed_loads_are_the_reason_when_the_server_crashed_before_its_table() -> None:
    frames = r"At:\n  /tmp/tritonforge-ab_1/backends/onnxruntime/model.py(3): refuse\n"
    line = (
        rf"""E1120 22:00:00.0 1 model_lifecycle.cc:6] "failed to load 'bad' version 1: Internal: text\n\n{frames}" """
    )
    log = [line.rstrip(), "Segmentation fault"]
    assert failure_from_log(log) == "models that did not load:\n  bad version 1: Internal: text"


def test_a_crash_while_loading_names_the_model() -> None:
    log = [
        'I1120 22:00:00.0 1 model_lifecycle.cc:472] "loading: good:1"',
        'I1120 22:00:00.0 1 model_lifecycle.cc:472] "loading: bad:1"',
        "I1120 22:00:00.0 1 model_lifecycle.cc:839] \"successfully loaded 'good'\"",
        "\x1b[1;31m2026-11-20 22:00 [E:onnxruntime:, sequential_executor.cc:677 ExecuteKernel] out of bounds\x1b[m",
    ]
    assert failure_from_log(log) == "it was loading bad:\n  out of bounds"


def test_help_text_is_left_out() -> None:
    log = ["tritonserver: unrecognized option '--x'", "Usage: tritonserver [options]", "Server:", "  --help", "\thelp"]
    assert failure_from_log(log) == "it does not take its arguments:\n  tritonserver: unrecognized option '--x'"


def test_a_taken_port_is_found() -> None:
    assert port_taken(["error", "failed: Unavailable - Socket '127.0.0.1:8001' already in use "]) == 8001
    assert port_taken(ERRORS) is None
