"""``tritonforge lint``."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar

import click

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from tritonforge_generator.lint import Finding, Host
    from tritonforge_generator.lint.fixing import Mended
    from tritonforge_generator.lint.repositories import Repositories
    from tritonforge_generator.lint.rule import Needs

_Command = TypeVar("_Command", bound=Callable[..., Any])
_NEEDS: Final = ("text", "dir", "repo", "file", "host")
_DIFF_COLORS: Final = {"+": "green", "-": "red", "@": "cyan"}


class _Declared(TypedDict):
    """Options that declare a host."""

    server: str | None
    gpus: int | None
    compute_capability: str | None
    minimum_capability: str | None
    backends: str | None
    agents: str | None
    cache_config: str | None
    rate_limit: bool
    resources: tuple[str, ...]
    without: tuple[str, ...]


_HOST_OPTIONS: Final = (
    click.option("--server", metavar="RELEASE", help="The Triton release that will serve, such as 26.08."),
    click.option("--gpus", type=int, metavar="COUNT", help="How many GPUs the server will have; 0 for none."),
    click.option("--compute-capability", metavar="X.Y", help="Compute capability of its GPUs, such as 9.0."),
    click.option("--minimum-capability", metavar="X.Y", help="Below it the server uses no GPU; 6.0 if unset."),
    click.option("--backends", metavar="NAME[/FILE],...", help="The back-ends installed there, or their files."),
    click.option("--agents", metavar="NAME,...", help="The repository agents that are installed there."),
    click.option("--cache-config", metavar="CONFIG", help="The server's own option of that name."),
    click.option("--rate-limit", is_flag=True, help="The server is started with --rate-limit=execution_count."),
    click.option(
        "--rate-limit-resource", "resources", multiple=True, metavar="NAME:COUNT[:DEVICE]", help="Implies --rate-limit."
    ),
    click.option(
        "--without",
        multiple=True,
        type=click.Choice(["gpu", "ensemble", "metrics"]),
        help="What the server was built without; may be repeated.",
    ),
)


def _host_options(function: _Command) -> _Command:
    return reduce(lambda wrapped, option: option(wrapped), reversed(_HOST_OPTIONS), function)


@click.command()
@click.argument("repositories", nargs=-1, type=click.Path(path_type=Path), metavar="REPOSITORY...")
@click.option("--model", "models", multiple=True, help="Only this model; may be repeated.")
@click.option("--strict", is_flag=True, help="Judge as a server with --disable-auto-complete-config.")
@click.option("--model-config-name", "config_name", metavar="NAME", default="", help="Judge configs/NAME.pbtxt.")
@click.option("--needs", metavar="KIND,...", default="", help=f"Only rules that these decide: {', '.join(_NEEDS)}.")
@_host_options
@click.option("--format", "form", type=click.Choice(["text", "json", "sarif"]), default="text", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
@click.option("--fix", is_flag=True, help="Mend what is safe to mend: show the change, ask, write, and lint again.")
@click.option("--diff", "only_diff", is_flag=True, help="Show what --fix would change; write nothing.")
@click.option("--yes", is_flag=True, help="With --fix: do not ask.")
@click.option("--explain", "explained", metavar="RULE", help="Teach a rule, such as C6, and stop.")
@click.option("--list", "listed", is_flag=True, help="List all rules, and stop.")
def command(
    repositories: tuple[Path, ...],
    models: tuple[str, ...],
    strict: bool,
    config_name: str,
    needs: str,
    form: str,
    as_json: bool,
    fix: bool,
    only_diff: bool,
    yes: bool,
    explained: str | None,
    listed: bool,
    **declared: Unpack[_Declared],
) -> None:
    """Check model repositories against the server's own rules.

    Needs no server and no GPU. Several repositories are judged as one server serves them together. Each finding has
    the text that the server would log, the place and how to mend it. What only a server's machine decides is left out
    unless it is declared (--server, --gpus, --backends and so on).

    Exits 1 when an error is left, 2 when it was called wrongly; warnings alone exit 0.
    """
    _print_any_name()
    if explained is not None or listed:
        _teach(explained)
        return
    if not repositories:
        raise click.UsageError("Missing argument 'REPOSITORY...'.")
    from tritonforge_generator.lint import open_repositories

    form = "json" if as_json else form
    kinds, host = _kinds(needs), _host(declared)

    def opened() -> tuple[Repositories, list[Path]]:
        return open_repositories(
            *repositories, models=models, strict=strict, needs=kinds, host=host, config_name=config_name
        )

    together, chosen = opened()
    if (fix or only_diff) and _mend(together, chosen, kinds, write=fix and not only_diff, yes=yes, form=form):
        together, chosen = opened()
    findings = [found for directory in chosen for found in together.findings(together.read(directory))]
    if not (only_diff and form == "text"):  # a diff alone can be given to `patch`
        _show(findings, form, together, kinds)
    if any(found.severity == "error" for found in findings):
        sys.exit(1)


def _print_any_name() -> None:
    """Print names as they are, although those of files need not be UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")


def _teach(rule_id: str | None) -> None:
    from tritonforge_generator.cli.output import print_table
    from tritonforge_generator.lint import explain
    from tritonforge_generator.lint.mending import MENDS
    from tritonforge_generator.lint.rule import RULES

    if rule_id is not None:
        click.echo(explain(rule_id))
        return
    rows = [
        [rule.id, rule.severity, rule.needs, "yes" if rule.id in MENDS else "", rule.meaning.partition("\n")[0]]
        for rule in sorted(RULES.values(), key=lambda rule: (rule.id[0], int(rule.id[1:])))
    ]
    print_table("Rules", ["rule", "severity", "decided from", "--fix", "meaning"], rows, wide=4)


def _kinds(text: str) -> Collection[Needs]:
    from tritonforge_generator.lint.rule import ALL_NEEDS

    asked = _names(text)
    unknown = sorted(asked - set(_NEEDS))
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}; known are {', '.join(_NEEDS)}.", param_hint="--needs")
    return frozenset(kind for kind in ALL_NEEDS if kind in asked) if asked else ALL_NEEDS


def _names(text: str | None) -> frozenset[str]:
    return frozenset(name.strip() for name in (text or "").split(",") if name.strip() != "")


def _host(declared: _Declared) -> Host | None:
    """Return the host, or ``None`` when nothing of it was declared."""
    from tritonforge_generator.lint.host import Feature, Host, capability_from, resource_from

    if all(value is None or value is False or value == () for value in declared.values()):
        return None
    capability, minimum = declared["compute_capability"], declared["minimum_capability"]
    backends, agents, resources = declared["backends"], declared["agents"], declared["resources"]
    features: tuple[Feature, ...] = ("gpu", "ensemble", "metrics")
    return Host(
        release=declared["server"] or "",
        gpus=declared["gpus"],
        compute_capability=None if capability is None else capability_from(capability),
        minimum_capability=capability_from(minimum or "6.0"),
        backends=None if backends is None else _names(backends),
        agents=None if agents is None else _names(agents),
        has_cache=declared["cache_config"] is not None,
        rate_limit=declared["rate_limit"] or len(resources) > 0,
        resources=tuple(resource_from(text) for text in resources),
        without=frozenset(feature for feature in features if feature in declared["without"]),
    )


def _mend(
    repositories: Repositories, chosen: Sequence[Path], needs: Collection[Needs], *, write: bool, yes: bool, form: str
) -> bool:
    """Show what can be mended, and write it when that is wanted; return whether anything was written."""
    from tritonforge_generator.lint.fixing import mend_repositories

    changes = mend_repositories(repositories, chosen, needs)
    # Standard output is for the findings when a program reads them.
    _show_diffs(changes, to_stderr=form != "text")
    if not changes:
        click.echo("nothing can be mended safely", err=True)
    if not changes or not write:
        return False
    for change in changes:
        change.check()
    if not yes and not click.confirm(f"Write {_count(len(changes), 'config')}?", err=True):
        return False
    for change in changes:
        change.write()
    click.echo(f"mended {', '.join(sorted({rule for change in changes for rule in change.rules}))}", err=True)
    return True


def _show_diffs(changes: Iterable[Mended], *, to_stderr: bool) -> None:
    stream = sys.stderr if to_stderr else sys.stdout
    for change in changes:
        for line in change.diff().split("\n")[:-1]:
            click.secho(line, err=to_stderr, fg=_DIFF_COLORS.get(line[:1]) if stream.isatty() else None)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _show(findings: Sequence[Finding], form: str, repositories: Repositories, needs: Collection[Needs]) -> None:
    from tritonforge_generator.cli.output import print_json, print_table

    if form == "json":
        print_json({"findings": [found.to_json() for found in findings]})
    elif form == "sarif":
        print_json(_sarif(findings, repositories, needs))
    elif not findings:
        click.echo("no findings")
    elif sys.stdout.isatty():
        rows = [
            [found.model, found.rule, found.severity, f"{found.text}\n{_place(found)}\n{found.fix}".strip()]
            for found in findings
        ]
        title = "what the server says, where, and what to do"
        print_table("Findings", ["model", "rule", "severity", title], rows, wide=3)
    else:
        _show_lines(findings)


def _show_lines(findings: Sequence[Finding]) -> None:
    from tritonforge_generator.lint.formats import line_of

    for found in findings:
        click.echo(line_of(found))
    errors = sum(found.severity == "error" for found in findings)
    click.echo(f"{_count(errors, 'error')}, {_count(len(findings) - errors, 'warning')}", err=True)


def _sarif(findings: Sequence[Finding], repositories: Repositories, needs: Collection[Needs]) -> dict[str, Any]:
    from importlib.metadata import version

    from tritonforge_generator.lint.fixing import mends_of
    from tritonforge_generator.lint.formats import sarif

    mends = mends_of(findings, repositories, needs)
    return sarif(findings, version=version("tritonforge"), root=Path.cwd(), mends=mends)


def _place(found: Finding) -> str:
    position = f":{found.line}:{found.column}" if found.line is not None else ""
    return f"{found.file}{position} {found.field}".strip()
