"""`labels` in a configuration: a node's name for each SID, and the errors in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv6Address, IPv6Network

from hawkwing.config_values import no_text, read_sid, shown
from hawkwing.csid import Block
from hawkwing.yaml_lines import Place
from hawkwing.yaml_mistakes import space_missing

MOST_LABELS = 1 << 16
LONGEST = 63
NAME = rf"^(?=.*[A-Za-z0-9])[A-Za-z0-9._-]{{1,{LONGEST}}}$"
_OTHER = re.compile("[^A-Za-z0-9._-]")
_SHAPE = "must be a mapping of SIDs to names, for example `fcbb:bb00:1::2: r1`"


def read_labels(value: object) -> dict[IPv6Address, str]:
    """The valid labels; `label_faults` reports all others. ValueError if it is not a mapping."""
    if not isinstance(value, dict):
        raise ValueError((isinstance(value, str) and space_missing(value)) or _SHAPE)
    found = {}
    for key, name in value.items():
        if _fault_of_name(name) is None and isinstance(sid := _read(key), IPv6Address):
            found[sid] = name
    return found


def label_faults(value: object, blocks: Sequence[IPv6Network]) -> Iterator[tuple[Place, str]]:
    """The errors in the entries, each with its place; `blocks` are those of compressed SIDs."""
    if not isinstance(value, dict):
        return
    if len(value) > MOST_LABELS:
        yield ("labels",), f"has {len(value):,} labels, at most {MOST_LABELS:,} are possible"
    first: dict[IPv6Address, object] = {}
    for key, name in value.items():
        place: Place = ("labels", str(key))
        sid = _read(key)
        if isinstance(sid, str):
            turned = isinstance(name, str) and isinstance(_read(name), IPv6Address)
            yield place, f"is the wrong way round, write {name}: {key}" if turned else sid
            if turned:
                continue
        elif first.setdefault(sid, key) is not key:
            yield place, f"{shown(key)} has a label already, as {shown(first[sid])}"
        else:
            yield from ((place, text) for text in container_faults({sid: key}, blocks))
        if fault := _fault_of_name(name):
            yield place, fault


def container_faults(labels: Mapping[IPv6Address, object], blocks: Sequence[IPv6Network]) -> Iterator[str]:
    """A sentence for each address that is a container of several SIDs: paths are shown SID by SID."""
    if not blocks:
        return
    for sid in labels:
        for block in map(Block, blocks):
            csids = block.csids(sid)
            if len(csids) > 1:
                each = ", ".join(str(block.container([csid])) for csid in csids)
                yield f"{sid} is a container of {len(csids)} SIDs, label each of them: {each}"


def _read(key: object) -> IPv6Address | str:
    """The SID, or a sentence with its error."""
    try:
        return read_sid(key)
    except ValueError as error:
        if isinstance(key, str) and key.endswith(":") and not key.endswith("::"):
            try:
                IPv6Address(f"{key}:")
            except ValueError:
                pass
            else:
                return f'{key} is not an IPv6 address, write "{key}:" in quotes and a colon behind it'
        return str(error)


def _fault_of_name(name: object) -> str | None:
    if name is None or (isinstance(name, str) and not name.strip()):
        return "is empty, write the node's name"
    if not isinstance(name, str):
        return no_text(name)
    if not name.isprintable():
        return f"{shown(name)} has characters that can't be printed"
    if len(name) > LONGEST:
        return f"{shown(name)} is {len(name)} characters long, a label has at most {LONGEST}"
    if other := _OTHER.search(name):
        allowed = "letters (a to z), digits, '.', '-' and '_'"
        return f"{shown(name)} has the character {other[0]!r} in it, a label has {allowed} only"
    if not re.search("[A-Za-z0-9]", name):
        return f"{name} has no letter or digit in it"
    return None
