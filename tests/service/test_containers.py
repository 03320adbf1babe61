"""Dockerfile and compose.yml by simple rules: no container runs here, so what can be read off them must be right."""

import inspect
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from devilgan_lite.cli.serve import serve

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yml").read_text())
PINNED = re.compile(r"[a-z0-9./-]+:\d+\.\d+[a-z0-9.-]*(@sha256:[0-9a-f]{64})?")


def instructions(text: str) -> list[tuple[str, str]]:
    """Keyword and rest of each instruction."""
    joined = re.sub(r"\\\n\s*", " ", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    return [(word.upper(), rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def faults(text: str) -> list[str]:
    """What is wrong with a Dockerfile."""
    found, lines = [], instructions(text)
    for word, rest in lines:
        if word == "FROM" and not PINNED.fullmatch(rest.split()[0]):
            found.append(f"base without a version: {rest}")
        if word == "ADD":
            found.append("ADD: COPY says what comes from where")
        if word == "RUN" and re.search(r"(curl|wget)[^|]*\|\s*(ba)?sh", rest):
            found.append("runs what it downloads")
        if word == "RUN" and "pip install" in rest and "--no-cache-dir" not in rest:
            found.append("keeps pip's cache")
        if word in ("ENV", "ARG") and re.search(r"(?i)(password|secret|token|key)\w*=\S", rest):
            found.append("a secret in the image")
        if word in ("CMD", "ENTRYPOINT") and not rest.startswith("["):
            found.append(f"{word} through a shell, which swallows signals")
    words = [word for word, _ in lines]
    users = [rest for word, rest in lines if word == "USER"]
    if not users or users[-1].split(":")[0] in ("root", "0"):
        found.append("runs as root")
    elif words.index("ENTRYPOINT") < words.index("USER"):
        found.append("USER comes after ENTRYPOINT")
    if "HEALTHCHECK" not in words:
        found.append("no HEALTHCHECK")
    return found


def test_the_dockerfile_keeps_the_rules() -> None:
    assert faults(DOCKERFILE) == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("python:3.11-slim-bookworm", "python", "base"),
        ("python:3.11-slim-bookworm", "python:latest", "base"),
        ("COPY data", "ADD https://example.org/data", "ADD"),
        ("USER 10001\n", "", "root"),
        ("USER 10001", "USER root", "root"),
        ("HEALTHCHECK", "LABEL", "HEALTHCHECK"),
        ("--no-cache-dir ", "", "cache"),
        ('CMD ["--keys", "/run/secrets/keys"]', "CMD devilgan", "shell"),
        ('PIP_OPTIONS=""', "PASSWORD=hunter2", "secret"),
    ],
)
def test_the_rules_can_fail(old: str, new: str, says: str) -> None:
    assert old in DOCKERFILE
    assert any(says in fault for fault in faults(DOCKERFILE.replace(old, new, 1)))


def test_the_image_is_made_of_what_is_there() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for word, rest in instructions(DOCKERFILE) if word == "COPY" for name in rest.split()[:-1]}
    assert copied == kept and all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r"/source\[([\w,]+)\]", DOCKERFILE)
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()
    assert project["scripts"]["devilgan"] and {project["readme"], *project["license-files"]} <= copied


def test_the_image_starts_a_command_that_exists() -> None:
    told: list[str] = sum(
        (json.loads(rest) for word, rest in instructions(DOCKERFILE) if word in ("ENTRYPOINT", "CMD")), []
    )
    assert told[:2] == ["devilgan", "serve"]
    known = inspect.signature(serve).parameters
    assert all(option[2:].replace("-", "_") in known for option in told if option.startswith("--"))
    (check,) = [shlex.split(rest) for word, rest in instructions(DOCKERFILE) if word == "HEALTHCHECK"]
    assert f":{known['port'].default}/healthz" in " ".join(check)


def test_compose_is_closed_and_complete() -> None:
    service, database = COMPOSE["services"]["service"], COMPOSE["services"]["database"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"]) and "ports" not in database
    assert service["read_only"] and service["cap_drop"] == ["ALL"] and "privileged" not in service
    assert "no-new-privileges:true" in service["security_opt"] and service["mem_limit"] and service["pids_limit"]
    assert service["depends_on"] == {"database": {"condition": "service_healthy"}} and database["healthcheck"]["test"]
    assert PINNED.fullmatch(database["image"])
    for one in (service, database):
        for mount in one["volumes"]:
            assert mount.split(":")[0] in COMPOSE["volumes"]
    assert service["secrets"] == list(COMPOSE["secrets"])


def test_compose_names_what_the_service_reads() -> None:
    database = inspect.get_annotations(serve)["database"]
    (option,) = [one for one in database.__metadata__ if getattr(one, "envvar", None)]
    environment: dict[str, Any] = COMPOSE["services"]["service"]["environment"]
    assert list(environment) == [option.envvar]
    user, name = re.fullmatch(
        r"postgresql://(\w+):\$\{POSTGRES_PASSWORD:\?.*\}@database/(\w+)", environment[option.envvar]
    ).groups()  # type: ignore[union-attr]
    assert user == name == COMPOSE["services"]["database"]["environment"]["POSTGRES_USER"]
    assert "hunter" not in json.dumps(COMPOSE) and json.dumps(COMPOSE).count("POSTGRES_PASSWORD:?") == 2
