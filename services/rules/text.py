"""YAML as text that people write: plain values only, each with the line it stands on, and nothing built of it.

PyYAML composes the nodes. Deviations from its safe loader: plain words are those of YAML 1.2 (`off` is a word, `1:30`
no number, a date a text), a key given twice is refused, and so are tags, anchors and aliases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

from services.rules.trouble import Document, Place, RulesFileError, Trouble, dotted

MAX_CHARACTERS: Final = 1_000_000
_PLAIN: Final = (
    ("null", r"null|~|", ["n", "~", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(0|[1-9][0-9]*)\.[0-9]+([eE][-+]?[0-9]+)?", list("-+0123456789")),
)
_SCALARS: Final = frozenset({"str", *(name for name, *_ in _PLAIN)})
_INDENT: Final = "look at this line and the one before it: indent with spaces, close what you open"


class _Loader(yaml.SafeLoader):
    """The nodes of a text, with the plain words of YAML 1.2."""

    yaml_implicit_resolvers: Any = {}  # its own, or those of YAML 1.1 would hold


for _name, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _first)


def parse(text: str) -> Document:
    """Return what a text says.

    Raises:
        RulesFileError: no YAML, more than plain values, or a key that is given twice.
    """
    if len(text) > MAX_CHARACTERS:
        allowed, shorter = f"at most {MAX_CHARACTERS:,} characters", f"shorten it by {len(text) - MAX_CHARACTERS:,}"
        raise RulesFileError([Trouble(1, "the file", ..., allowed, shorter)])
    try:
        loader = _Loader(text)
        reading = _Reading(loader)
        said = reading.value(loader.get_single_node(), ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = f"YAML; {error.problem or error.context}"
        raise RulesFileError([Trouble(mark.line + 1 if mark else 1, "the text", ..., what, _INDENT)]) from error
    except (yaml.YAMLError, RecursionError) as error:
        what = f"YAML in text that can be read; {str(error).splitlines()[0]}"
        raise RulesFileError([Trouble(1, "the text", ..., what, _INDENT)]) from error
    if reading.troubles:
        raise RulesFileError(reading.troubles)
    return Document(said, reading.lines)


class _Reading:
    """One walk over the nodes."""

    def __init__(self, loader: _Loader) -> None:
        self._loader = loader
        self._met: set[int] = set()
        self.lines: dict[Place, int] = {(): 1}
        self.troubles: list[Trouble] = []

    def value(self, node: yaml.Node | None, place: Place) -> Any:
        """Return a node's plain value, and note the lines in it."""
        if node is None:
            return None
        if id(node) in self._met:  # the same node a second time: an alias, of which a short text can make a huge one
            self._refuse(node, place, "each value written out", "write what the alias stands for in its place")
            return None
        self._met.add(id(node))
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return dict(self._pairs(node, place))
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self._entry(each, (*place, i)) for i, each in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag.removeprefix("tag:yaml.org,2002:") in _SCALARS:
            return self._scalar(node, place)
        self._refuse(node, place, "plain values: text, numbers, true, false, lists and maps", f"leave {node.tag} out")
        return None

    def _pairs(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, Any]]:
        seen = set()
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or key in seen:
                allowed = "words as keys" if key is None else f"{key!r} once"
                self._refuse(key_node, place, allowed, "write each key once, as a word")
                continue
            seen.add(key)
            self.lines[(*place, key)] = key_node.start_mark.line + 1
            yield key, self.value(value_node, (*place, key))

    def _entry(self, node: yaml.Node, place: Place) -> Any:
        self.lines[place] = node.start_mark.line + 1
        return self.value(node, place)

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        try:
            return self._loader.construct_object(node)
        except (ValueError, KeyError):  # `!!int a`, `!!bool a`
            self._refuse(node, place, "a value of the kind it says it is", "leave the tag out")
            return None

    def _refuse(self, node: yaml.Node, place: Place, allowed: str, next_step: str) -> None:
        self.troubles.append(Trouble(node.start_mark.line + 1, dotted(place), ..., allowed, next_step))


def written(document: dict[str, Any]) -> str:
    """Return a document of plain values as YAML text that `parse` reads back as it was."""
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
