"""The files that start a distributed campaign fit each other, the command line, and the schemas of their readers."""

from __future__ import annotations

import copy
import json
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import referencing
import yaml
from jsonschema.validators import validator_for

from tritonforge_generator.cli.load import command as load
from tritonforge_load.campaign import Campaign, read_campaign
from tritonforge_load.command import MASTER_PORT

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "load_tests" / "deploy"
KUBERNETES = DEPLOY / "kubernetes"

WHEELS = {"check-jsonschema": "0.39.0", "kubernetes-validate": "1.37.0"}
"""Packages that bring the schemas of Compose and Kubernetes."""


def with_defaults(value: Any) -> Any:
    """What Compose makes of ``${NAME:-default}`` when the environment names nothing."""
    if isinstance(value, dict):
        return {key: with_defaults(one) for key, one in value.items()}
    if isinstance(value, list):
        return [with_defaults(one) for one in value]
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) if isinstance(value, str) else value


def parsed(words: list[str]) -> dict[str, Any]:
    """Options of a command line of ``tritonforge load``; refused ones raise."""
    name, *arguments = words
    command = load.commands[name]
    with command.make_context(name, list(arguments), parent=click.Context(load)) as context:
        return context.params


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    told: dict[str, Any] = with_defaults(yaml.safe_load((DEPLOY / "compose.yaml").read_text()))
    return told


@pytest.fixture(scope="module")
def manifests() -> dict[tuple[str, str], dict[str, Any]]:
    found = [
        manifest
        for path in sorted(KUBERNETES.glob("*.yaml"))
        for manifest in yaml.safe_load_all(path.read_text())
        if manifest["kind"] != "Kustomization"
    ]
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in found}


def container_of(job: dict[str, Any]) -> dict[str, Any]:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = container
    return found


class TestCompose:
    def test_commands_are_understood(self, compose: dict[str, Any]) -> None:
        master = parsed(compose["services"]["master"]["command"])
        worker = parsed(compose["services"]["worker"]["command"])
        assert master["master"]
        assert master["campaign"] == worker["campaign"]
        assert master["url"] == worker["url"] == "grpc://triton:8001"
        assert worker["master_host"] == "master"
        assert str(master["expect_workers"]) == compose["services"]["worker"]["deploy"]["replicas"]

    def test_what_is_mounted_is_there(self, compose: dict[str, Any]) -> None:
        for service in compose["services"].values():
            for volume in service["volumes"]:
                source, target, *_ = volume.split(":")
                assert source in compose["volumes"] or (DEPLOY / source).is_dir(), volume
                assert target.startswith("/")
        campaign = Path(compose["services"]["master"]["command"][1])
        assert (DEPLOY / "../campaigns" / campaign.name).is_file()

    def test_the_image_is_built_from_the_checkout(self, compose: dict[str, Any]) -> None:
        build = compose["services"]["master"]["build"]
        context = (DEPLOY / build["context"]).resolve()
        assert context == ROOT
        assert (context / build["dockerfile"]) == DEPLOY / "Dockerfile"
        assert compose["services"]["worker"]["build"] == build


class TestKubernetes:
    def test_commands_are_understood(self, manifests: dict[tuple[str, str], dict[str, Any]]) -> None:
        workers = manifests["Job", "tritonforge-load-workers"]
        master = parsed(container_of(manifests["Job", "tritonforge-load-master"])["args"])
        worker = parsed(container_of(workers)["args"])
        assert master["expect_workers"] == workers["spec"]["completions"] == workers["spec"]["parallelism"]
        assert ("Service", worker["master_host"]) in manifests
        assert master["campaign"] == worker["campaign"]

    def test_the_service_leads_to_the_master(self, manifests: dict[tuple[str, str], dict[str, Any]]) -> None:
        service = manifests["Service", "tritonforge-load-master"]["spec"]
        jobs = {
            name: manifests["Job", f"tritonforge-load-{name}"]["spec"]["template"] for name in ("master", "workers")
        }
        labels = {name: template["metadata"]["labels"].items() for name, template in jobs.items()}
        assert service["selector"].items() <= labels["master"]
        assert not service["selector"].items() <= labels["workers"]
        (port,) = service["ports"]
        (target,) = container_of(manifests["Job", "tritonforge-load-master"])["ports"]
        assert port["port"] == target["containerPort"] == MASTER_PORT
        assert port["targetPort"] == target["name"]

    @pytest.mark.parametrize("job", ["tritonforge-load-master", "tritonforge-load-workers"])
    def test_what_is_mounted_is_there(self, manifests: dict[tuple[str, str], dict[str, Any]], job: str) -> None:
        volumes = {one["name"]: one for one in manifests["Job", job]["spec"]["template"]["spec"]["volumes"]}
        container = container_of(manifests["Job", job])
        mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
        assert mounts.keys() == volumes.keys()
        config = manifests["ConfigMap", volumes["campaign"]["configMap"]["name"]]
        folder, _, name = str(container["args"][1]).rpartition("/")
        assert folder == mounts["campaign"]
        assert name in config["data"]

    def test_the_campaign_is_one(self, manifests: dict[tuple[str, str], dict[str, Any]], tmp_path: Path) -> None:
        (text,) = manifests["ConfigMap", "tritonforge-load-campaign"]["data"].values()
        (tmp_path / "campaign.yaml").write_text(text)
        assert isinstance(read_campaign(tmp_path / "campaign.yaml"), Campaign)

    def test_kustomize_names_every_file(self, manifests: dict[tuple[str, str], dict[str, Any]]) -> None:
        told = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
        assert {*told["resources"], "kustomization.yaml"} == {path.name for path in KUBERNETES.iterdir()}
        images = {container_of(one)["image"] for (kind, _), one in manifests.items() if kind == "Job"}
        assert {one["name"] for one in told["images"]} == images


class TestImage:
    LINES = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text()).splitlines()

    def test_what_is_copied_is_there_and_not_ignored(self) -> None:
        ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
        assert "*" in ignored
        for line in self.LINES:
            if line.startswith("COPY ") and "--from" not in line:
                for source in shlex.split(line)[1:-1]:
                    assert (ROOT / source).exists(), source
                    assert f"!{source}" in ignored, source

    def test_it_starts_what_is_installed(self) -> None:
        project = (ROOT / "pyproject.toml").read_text()
        extras = re.search(r"\[(load,report)\]", (DEPLOY / "Dockerfile").read_text())
        assert extras is not None
        assert all(f"\n{extra} = [" in project for extra in extras[1].split(","))
        entry = next(line for line in self.LINES if line.startswith("ENTRYPOINT "))
        program, *words = json.loads(entry.removeprefix("ENTRYPOINT "))
        assert f"\n{program} = " in project.partition("[project.scripts]")[2]
        assert words == ["load"]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    # They are only read: the Python that they ask for need not be this one.
    command += ["--python-version", "3.13", "--only-binary", ":all:"]
    command += [f"{name}=={version}" for name, version in WHEELS.items()]
    if subprocess.run(command, timeout=300, check=False).returncode != 0:
        pytest.skip("the wheels cannot be downloaded")
    return folder


@pytest.mark.peer
class TestSchemas:
    """By the schemas of the readers themselves, from packages that bring them."""

    def test_compose_knows_all_of_it(self, wheels: Path) -> None:
        (wheel,) = wheels.glob("check_jsonschema-*.whl")
        schema = json.loads(zipfile.ZipFile(wheel).read("check_jsonschema/builtin_schemas/vendor/compose-spec.json"))
        validator = validator_for(schema)(schema)
        told = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
        assert [error.message for error in validator.iter_errors(told)] == []
        told["services"]["master"]["comand"] = []
        assert list(validator.iter_errors(told)) != []

    @pytest.mark.parametrize("version", ["1.30.0", "1.37.0"])
    def test_kubernetes_knows_all_of_it(
        self, wheels: Path, version: str, manifests: dict[tuple[str, str], dict[str, Any]]
    ) -> None:
        (wheel,) = wheels.glob("kubernetes_validate-*.whl")
        folder = f"kubernetes_validate/kubernetes-json-schema/v{version}-local-strict"
        names = {"Job": "job-batch-v1", "Service": "service-v1", "ConfigMap": "configmap-v1"}
        with zipfile.ZipFile(wheel) as archive:
            definitions = json.loads(archive.read(f"{folder}/_definitions.json"))
            for (kind, _), manifest in manifests.items():
                schema = json.loads(archive.read(f"{folder}/{names[kind]}.json"))
                errors = kubernetes_errors(schema, definitions, manifest)
                assert errors == []
            wrong = copy.deepcopy(manifests["Job", "tritonforge-load-workers"])
            container_of(wrong)["arg"] = []
            schema = json.loads(archive.read(f"{folder}/{names['Job']}.json"))
            assert kubernetes_errors(schema, definitions, wrong) != []


def kubernetes_errors(schema: dict[str, Any], definitions: dict[str, Any], manifest: dict[str, Any]) -> list[str]:
    registry = referencing.Resource.from_contents(definitions) @ referencing.Registry()
    validator = jsonschema.Draft202012Validator(schema, registry=registry)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]
