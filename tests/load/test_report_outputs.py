from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from load.made_results import bare_result
from support.extras import run_without_extras

from tritonforge_client.extras import MissingExtraError
from tritonforge_load.errors import LoadError
from tritonforge_load.measure import read_result
from tritonforge_load.report.outputs import check_outputs, write_outputs, write_page

FORMATS = ("html", "junit", "csv", "json")
FILES = ["bare.json", "bare.csv", "bare-timeline.csv", "bare.xml", "bare.html"]

_WRITE_WITH_LITTLE_ROOM = """
import resource, sys
from pathlib import Path
from tritonforge_load.errors import LoadError
from load.made_results import made_result
from tritonforge_load.measure import json_from_result
from tritonforge_load.report.outputs import write_outputs
result = made_result()
room_bytes = len(json_from_result(result)) - 1  # the largest of the files
resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, room_bytes))
try:
    write_outputs(result, Path(sys.argv[1]), ("json", "csv", "junit", "html"))
except LoadError as error:
    sys.exit(str(error))
"""


def test_writes_all_formats_once(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    paths = write_outputs(bare_result(), folder, FORMATS)
    assert [path.name for path in paths] == FILES
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert read_result(folder / "bare.json").phase("main").total.sent == bare_result().phase("main").total.sent


def test_writes_only_what_is_wanted(tmp_path: Path) -> None:
    assert [path.name for path in write_outputs(bare_result(), tmp_path, ("junit",))] == ["bare.xml"]
    assert write_outputs(bare_result(), tmp_path / "none", ()) == ()


def test_a_disk_without_room_keeps_what_was_there_and_lets_the_others_through(tmp_path: Path) -> None:
    before = tmp_path / "digits.json"
    before.write_text("older")
    done = subprocess.run(
        [sys.executable, "-c", _WRITE_WITH_LITTLE_ROOM, str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=120, env={"PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "outputs could not be written: " in done.stderr
    assert "digits.json: File too large" in done.stderr
    assert "Written: digits.csv, digits-timeline.csv, digits.xml, digits.html" in done.stderr
    assert before.read_text() == "older"
    names = ["digits-timeline.csv", "digits.csv", "digits.html", "digits.json", "digits.xml"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names, "no part of a file is left"


def test_a_path_that_is_no_folder_is_said(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(LoadError, match=r"bare.xml: (File exists|Not a directory).* Written: nothing"):
        write_outputs(bare_result(), taken, ("junit",))
    with pytest.raises(LoadError, match=r"taken/x.html: cannot be written"):
        write_page(bare_result(), taken / "x.html")


def test_a_missing_package_keeps_back_the_page_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(LoadError, match=r"bare.html: .*tritonforge\[report\].* Written: bare.json, .*bare.xml"):
        write_outputs(bare_result(), tmp_path, FORMATS)
    assert json.loads((tmp_path / "bare.json").read_text())["campaign"] == "bare"
    with pytest.raises(MissingExtraError):
        check_outputs(FORMATS)
    check_outputs(("json", "csv", "junit"))


def test_formats_without_plots_need_no_extra_for_reports() -> None:
    hidden = "for name in ('matplotlib', 'jinja2'): sys.modules[name] = None\n"
    code = "from tritonforge_load.report.outputs import check_outputs\ncheck_outputs(['json', 'csv', 'junit'])\n"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{hidden}{code}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    bare = run_without_extras("import tritonforge_load.report.junit, tritonforge_load.report.csv_files")
    assert bare.returncode == 0, bare.stderr


def test_a_campaign_of_another_name_stays_in_the_folder(tmp_path: Path) -> None:
    (path,) = write_outputs(replace(bare_result(), campaign="../../up"), tmp_path, ("junit",))
    assert path == tmp_path / ".._.._up.xml"


def test_files_can_be_read_by_others(tmp_path: Path) -> None:
    path = write_page(bare_result(), tmp_path / "page.html")
    assert path.stat().st_mode & 0o777 == 0o644
