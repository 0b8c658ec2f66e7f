"""Reads a configuration: a YAML file, the environment variables that override it, and the files it names."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from hawkwing.config_models import Application, Config, Hawkeye, Service, Tls, forget_what_was_read
from hawkwing.config_values import FALSE_WORDS, TRUE_WORDS
from hawkwing.config_warnings import warnings_for
from hawkwing.desired import excess, too_long_to_sign
from hawkwing.errors import ConfigError
from hawkwing.hmac_keys import key_problems, key_warnings
from hawkwing.pem import pem_problems
from hawkwing.yaml_lines import Document, Fault, Place, problem_lines, read_yaml_file
from hawkwing.yaml_mistakes import space_missing

__all__ = [
    "ENVIRONMENT",
    "Application",
    "Config",
    "Hawkeye",
    "Reading",
    "Service",
    "Tls",
    "check_config",
    "load_config",
    "read_config",
]

ENVIRONMENT: Mapping[str, Place] = MappingProxyType(
    {
        "HAWKWING_CLIENT_IPV6_ADDRESS": ("client_ipv6_address",),
        "HAWKWING_HAWKEYE_ENABLED": ("hawkeye", "enabled"),
        "HAWKWING_HAWKEYE_ADDRESS": ("hawkeye", "address"),
        "HAWKWING_HAWKEYE_PORT": ("hawkeye", "port"),
    }
)
_NO_ENVIRONMENT: Mapping[str, str] = MappingProxyType({})
_CLIENT_EXAMPLE = """at least this is needed:
  services:
    web:
      domain_name: wb.hawk.net
      applications: [{port: 80, sid: [fcbb:bb00:1::2]}]"""
_SERVER_EXAMPLE = "for a server, sr_domain: [fcbb::/16] is enough"


@dataclass(frozen=True)
class Reading:
    """A configuration, and the line of each value in its file."""

    path: Path
    config: Config
    _document: Document
    _variables: Mapping[Place, str]

    def lines(self, found: Iterable[tuple[Place, str]], kind: str = "") -> list[str]:
        """Formats sentences with their places as lines `FILE:LINE: kind place: sentence`."""
        faults = [Fault(self._document.line_of(place), place, text) for place, text in found]
        return problem_lines(self.path, self._document, faults, self._variables, kind)

    def warnings(self) -> list[str]:
        """The warnings of `hawkwing check`, as lines `FILE:LINE: warning: ...`."""
        found = warnings_for(self.config, self._document.data)
        if not self.config.hawkeye.enabled:
            tls = pem_problems(self.config.hawkeye.tls, self.path)
            found += [(("hawkeye", "tls", key), text) for key, text in tls]
        return [*self.lines(found, "warning: "), *self.key_warnings()]

    def key_warnings(self) -> list[str]:
        """Only those about the files of `hmac`, which matter to a server, too."""
        return self.lines(key_warnings(self.config.hmac, self.path), "warning: ")


def load_config(
    path: Path, environ: Mapping[str, str] = _NO_ENVIRONMENT, require_services: bool = True
) -> Config:
    """Like `read_config`, without the places."""
    return read_config(path, environ, require_services).config


def check_config(path: Path, environ: Mapping[str, str] = _NO_ENVIRONMENT) -> tuple[Config, list[str]]:
    """Like `read_config` for a client, with the warnings."""
    reading = read_config(path, environ)
    return reading.config, reading.warnings()


def read_config(
    path: Path, environ: Mapping[str, str] = _NO_ENVIRONMENT, require_services: bool = True
) -> Reading:
    """Reads a configuration file; raises ConfigError with all its problems, in the order of their lines.

    `require_services`: for a client, which needs services and the files for TLS. Both roles need those of
    `hmac`.
    """
    # Nothing becomes garbage here before the end: collections would take half of the time for a large file.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _load(path, environ, require_services)
    finally:
        forget_what_was_read()
        if collecting:
            gc.enable()


def _load(path: Path, environ: Mapping[str, str], require_services: bool) -> Reading:
    document = read_yaml_file(path)
    example = _CLIENT_EXAMPLE if require_services else _SERVER_EXAMPLE
    if not isinstance(document.data, dict):
        raise ConfigError([f"{path}:{document.line_of(())}: {_no_configuration(document.data, example)}"])

    variables = _override(document.data, environ)
    faults = list(document.faults)
    config: Config | None = None
    try:
        config = Config.model_validate(document.data)
    except ValidationError as error:
        for details in error.errors(include_url=False, include_context=False, include_input=False):
            place = details["loc"]
            if place not in document.unread:
                faults.append(Fault(document.line_of(place), place, details["msg"]))
    top = ("services",)
    if (
        require_services
        and not document.data.get("services")
        and all(fault.place[:1] != top for fault in faults)
    ):
        what = "is empty" if "services" in document.data else "is missing"
        faults.append(Fault(document.line_of(top), top, f"{what}, {example}"))
    if require_services and config is not None and config.hawkeye.enabled:
        for key, text in pem_problems(config.hawkeye.tls, path):
            place = ("hawkeye", "tls", key)
            faults.append(Fault(document.line_of(place), place, text))
    if config is not None:
        found = [*excess(config), *key_problems(config.hmac, path), *too_long_to_sign(config)]
        faults += [Fault(document.line_of(place), place, text) for place, text in found]
    if config is not None and not faults:
        return Reading(path, config, document, variables)
    raise ConfigError(problem_lines(path, document, faults, variables))


def _no_configuration(data: object, example: str) -> str:
    if data is None:
        return f"is empty, {example}"
    if isinstance(data, list):
        return "must be a mapping with keys such as services, here is a list"
    if isinstance(data, str):
        if found := space_missing(data):
            return found
        if data.split()[:1] and data.split()[0] in Config.model_fields:
            return f"{data.split()[0]} has no colon"
    return "must be a mapping with keys such as services, here is a single value"


def _override(data: dict[str, Any], environ: Mapping[str, str]) -> dict[Place, str]:
    """Overrides the file with the environment; returns the variable for each changed place."""
    variables: dict[Place, str] = {}
    for name, place in ENVIRONMENT.items():
        text = environ.get(name, "").strip()
        if not text:
            continue
        value: object = text
        if place[-1] == "enabled" and text.lower() in (*TRUE_WORDS, *FALSE_WORDS, "0", "1"):
            value = text.lower() in (*TRUE_WORDS, "1")
        elif place[-1] == "port" and re.fullmatch(r"[0-9]{1,18}", text):
            value = int(text)
        target = data
        if len(place) > 1:
            if data.get("hawkeye") is None:
                data["hawkeye"] = {}
                variables["hawkeye",] = name
            target = data["hawkeye"]
        if isinstance(target, dict):
            target[str(place[-1])] = value
            variables[place] = name
    return variables
