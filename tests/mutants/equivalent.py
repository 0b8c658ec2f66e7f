"""Changes that no test can notice, and why: they are not counted."""

from __future__ import annotations

from collections.abc import Iterable

from tests.mutants.operators import Mutant

_BOUNDARY = "at that very moment both ways have the same result"
_SHORTCUT = "a shortcut: the longer way has the same result"

#: (file, statement, statement as changed): reason.
EQUIVALENT: dict[tuple[str, str, str], str] = {
    (
        "hawkwing/config.py",
        "if data.split()[:1] and data.split()[0] in Config.model_fields:",
        "if data.split()[:2] and data.split()[0] in Config.model_fields:",
    ): "two words are there only if one is",
    ("hawkwing/config.py", "gc.disable()", "(left out)"): "only the time differs",
    (
        "hawkwing/resolver.py",
        "answer = await resolver.resolve(name + '.', dns.rdatatype.AAAA, search=False)",
        "answer = await resolver.resolve(name + '.', dns.rdatatype.AAAA, search=True)",
    ): "a name with a dot at its end is not searched for",
    (
        "hawkwing/addresses.py",
        "_TEMPORARY, _DAD_FAILED, _DEPRECATED, _TENTATIVE = (1, 8, 32, 64)",
        "_TEMPORARY, _DAD_FAILED, _DEPRECATED, _TENTATIVE = (1, 8, 33, 64)",
    ): "the other bit is compared next",
    (
        "hawkwing/watch.py",
        "for told, of_paths in zip(now.statuses, found, strict=True):",
        "for told, of_paths in zip(now.statuses, found, strict=False):",
    ): "both are made from the same list",
    (
        "hawkwing/yaml_lines.py",
        "begin = yaml.Mark('', 0, 0, 0, '', 0)",
        "begin = yaml.Mark('', 1, 0, 0, '', 0)",
    ): "the second value counts characters, and only lines are shown",
    (
        "hawkwing/config_base.py",
        "if not raw.keys() <= known.keys():",
        "if not raw.keys() < known.keys():",
    ): _SHORTCUT,
    (
        "hawkwing/config_models.py",
        "title = 'the top level'",
        "title = 'Xthe top levelX'",
    ): "no key belongs there from below",
    (
        "hawkwing/config_models.py",
        "shape = 'with the key services'",
        "shape = 'Xwith the key servicesX'",
    ): "a file that is no mapping has sentences of its own",
    (
        "hawkwing/config_values.py",
        "_ORDINARY = (*range(32, 64), 252, 253)",
        "_ORDINARY = (*range(33, 64), 252, 253)",
    ): _SHORTCUT,
    (
        "hawkwing/config_values.py",
        "_ORDINARY = (*range(32, 64), 252, 253)",
        "_ORDINARY = (*range(32, 64), 253, 253)",
    ): _SHORTCUT,
    (
        "hawkwing/config_values.py",
        "_ORDINARY = (*range(32, 64), 252, 253)",
        "_ORDINARY = (*range(32, 64), 252, 254)",
    ): _SHORTCUT,
    (
        "hawkwing/control.py",
        "self._path.unlink(missing_ok=True)",
        "self._path.unlink(missing_ok=False)",
    ): "the error would be suppressed, or the socket is there",
    (
        "hawkwing/control.py",
        "def _pieces(answer: object, depth: int=2) -> Iterator[str]:",
        "def _pieces(answer: object, depth: int=3) -> Iterator[str]:",
    ): "smaller pieces are the same text",
    (
        "hawkwing/controller/questions.py",
        "empty: bool = False",
        "empty: bool = True",
    ): "each answer sets it before it is read",
    (
        "hawkwing/controller/questions.py",
        "if question.held_until > now:",
        "if question.held_until >= now:",
    ): _BOUNDARY,
    (
        "hawkwing/controller/questions.py",
        "if question.entry is None or due < question.entry:",
        "if question.entry is None or due <= question.entry:",
    ): _BOUNDARY,
    ("hawkwing/desired.py", "if total <= most:", "if total < most:"): _SHORTCUT,
    (
        "hawkwing/desired.py",
        "asked = {'intents': application.intents, 'return_intents': application.return_intents}",
        "asked = {'XintentsX': application.intents, 'return_intents': application.return_intents}",
    ): "there is no limit of queries to be told",
}


EQUIVALENT[
    "hawkwing/desired.py",
    "yield Part('queries', targets, (*place, 'applications', index, name_of_key))",
    "yield Part('queries', targets, (*place, 'XapplicationsX', index, name_of_key))",
] = "there is no limit of queries to be told"
EQUIVALENT["hawkwing/locks.py", "self.path.unlink(missing_ok=True)", "self.path.unlink(missing_ok=False)"] = (
    "the error would be suppressed"
)
EQUIVALENT["hawkwing/locks.py", "asking.recv(1)", "asking.recv(2)"] = "nobody sends anything"
EQUIVALENT["hawkwing/logs.py", "super().__init__()", "(left out)"] = "its base class keeps nothing it needs"

EQUIVALENT["hawkwing/yaml_mistakes.py", "if len(opened) > MAX_DEPTH:", "if len(opened) >= MAX_DEPTH:"] = (
    "what is nested deeper than that was refused before"
)

EQUIVALENT["hawkwing/controller/questions.py", "due: float = 0.0", "due: float = 1.0"] = (
    "each entry of the schedule sets it before it is read"
)
EQUIVALENT["hawkwing/selections.py", "self.changes += 1", "self.changes += 2"] = "it only has to grow"
_PLAIN = "_PLAIN_NAME = re.compile('{}[a-zA-Z0-9_.-]*[a-zA-Z_-]\\\\.?{}')"
EQUIVALENT["hawkwing/config_values.py", _PLAIN.format("", ""), _PLAIN.format("X", "X")] = _SHORTCUT

_DIGEST = (
    "return hashlib.sha256('\\x00'.join((' '.join(words) for words in texts)).encode()).hexdigest()[:16]"
)
for _separator in ("'\\x00'", "' '"):
    _other = f"'X{_separator[1:-1]}X'"
    EQUIVALENT["hawkwing/dataplane/source.py", _DIGEST, _DIGEST.replace(_separator, _other)] = (
        "only whether two are the same counts"
    )

_OPTIONS = (
    "_OPTIONS = (('grpc.use_local_subchannel_pool', 1), ('grpc.enable_http_proxy', 0), "
    "('grpc.enable_retries', 0), ('grpc.keepalive_time_ms', 330000), ('grpc.keepalive_timeout_ms', 20000), "
    "('grpc.http2.max_pings_without_data', 0), ('grpc.http2.bdp_probe', 0))"
)
for _number in ("330000", "20000"):
    _later = _OPTIONS.replace(_number, str(int(_number) + 1))
    EQUIVALENT["hawkwing/controller/channel.py", _OPTIONS, _later] = "a millisecond in minutes"

_READ = "for details in error.errors(include_url=False, include_context=False, include_input=False):"
for _name in ("url", "context", "input"):
    _more = _READ.replace(f"include_{_name}=False", f"include_{_name}=True")
    EQUIVALENT["hawkwing/config.py", _READ, _more] = "only place and sentence of an error are read"

EQUIVALENT[
    "hawkwing/dataplane/refusal.py",
    "wanted = hard if hard != resource.RLIM_INFINITY and hard < OPEN_FILES else OPEN_FILES",
    "wanted = hard if hard != resource.RLIM_INFINITY and hard <= OPEN_FILES else OPEN_FILES",
] = "both are the same number then"
EQUIVALENT["hawkwing/steering.py", "if time.monotonic() > end:", "if time.monotonic() >= end:"] = _BOUNDARY

_NOT_YAML = "raise YamlError(*(forbidden_character(text) or (1, 'is not valid YAML'))) from None"
for _text in ("1, 'Xis not valid YAMLX'", "2, 'is not valid YAML'"):
    EQUIVALENT["hawkwing/yaml_lines.py", _NOT_YAML, _NOT_YAML.replace("1, 'is not valid YAML'", _text)] = (
        "an error without a line is about such a character"
    )

EQUIVALENT["hawkwing/choice.py", "_better_for: int = 0", "_better_for: int = 1"] = (
    "it is set together with the path that it counts for"
)
_BETTER = "self._better, self._better_for = ((), 0)"
EQUIVALENT["hawkwing/choice.py", _BETTER, _BETTER.replace("0", "1")] = (
    "it is set together with the path that it counts for"
)
EQUIVALENT[
    "hawkwing/metric_families.py",
    "yield ('hawkwing_agent', who, 1)",
    "yield ('hawkwing_agent', who, 2)",
] = "an info metric has labels only"
EQUIVALENT[
    "hawkwing/control.py",
    "if isinstance(answer, list) and len(answer) > _PIECE:",
    "if isinstance(answer, list) and len(answer) >= _PIECE:",
] = "smaller pieces are the same text"
EQUIVALENT["hawkwing/measured.py", "self._probed = False", "(left out)"] = (
    "each look sets it before it is read"
)
EQUIVALENT["hawkwing/measured.py", "self._probed = False", "self._probed = True"] = (
    "each look sets it before it is read"
)
EQUIVALENT["hawkwing/choice.py", "under: int = 0", "under: int = 1"] = (
    "it counts for a path that has been left only, which has set it"
)
EQUIVALENT["hawkwing/control.py", "_PIECE = 500", "_PIECE = 501"] = "smaller pieces are the same text"
EQUIVALENT["hawkwing/steering.py", "_NO_ADDRESS = IPv6Address(0)", "_NO_ADDRESS = IPv6Address(1)"] = (
    "nobody reads the address of a stand-in"
)
EQUIVALENT[
    "hawkwing/addresses.py",
    "is_global = int(scope, 16) == _GLOBAL_SCOPE",
    "is_global = int(scope, 17) == _GLOBAL_SCOPE",
] = "only whether it is zero counts"

_CONTROLLERS = "listed.append((Candidate(binding.controller_path, preference=1 << 32), 'controller'))"
for _higher in ("2 << 32", "1 << 33"):
    EQUIVALENT["hawkwing/usage.py", _CONTROLLERS, _CONTROLLERS.replace("1 << 32", _higher)] = (
        "it only has to be higher than any in the file"
    )
_PREFERRED = "preferred = max((used.preference for used in binding.configured), default=one.preference)"
EQUIVALENT["hawkwing/usage.py", _PREFERRED, _PREFERRED.replace("max(", "min(")] = (
    "paths that are used together have the same preference"
)
EQUIVALENT[
    "hawkwing/choice.py",
    "best = max((one.preference for one in usable), default=0)",
    "best = max((one.preference for one in usable), default=1)",
] = "without a path none has it"

_JSON = "return json.dumps(schema(), indent=2, ensure_ascii=True) + '\\n'"
EQUIVALENT["hawkwing/config_schema.py", _JSON, _JSON.replace("True", "False")] = "all of it is ASCII"
EQUIVALENT[
    "hawkwing/yaml_lines.py",
    "begin = yaml.Mark('', 0, 0, 0, '', 0)",
    "begin = yaml.Mark('', 0, 0, 1, '', 0)",
] = "the fourth value is the column, and only lines are shown"


def reason(mutant: Mutant) -> str:
    """Why a change makes no difference; empty where it does."""
    return EQUIVALENT.get((mutant.file, mutant.before, mutant.after), "")


def outdated(found: Iterable[Mutant]) -> list[str]:
    """Entries for files among these changes that are none of them any more."""
    there = {(mutant.file, mutant.before, mutant.after) for mutant in found}
    files = {file for file, _before, _after in there}
    return [" ".join(entry) for entry in EQUIVALENT if entry[0] in files and entry not in there]
