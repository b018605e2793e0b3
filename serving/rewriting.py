"""A YAML mapping changed in its text, so that comments and order stay."""

from __future__ import annotations

from typing import Any

import yaml


def rewrite(text: str, new: dict[str, Any]) -> str:
    """Make a YAML text hold another mapping; entries at its top that stay the same keep their text.

    Comments inside an entry that changes are lost, and all of them where the text is too unusual to be changed in place.

    Example:
        >>> rewrite("version: 1  # of the file", {"version": 2}).splitlines()
        ['version: 2  # of the file']
    """
    changed = _in_place(text, new)
    try:
        if changed is not None and yaml.safe_load(changed) == new:
            return changed
    except yaml.YAMLError:
        pass
    return _dump(new)


def _in_place(text: str, new: dict[str, Any]) -> str | None:
    """The text with the entries exchanged that differ; None where it is no plain block of entries."""
    root, old = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        return None
    there = [key.value for key, _ in root.value]
    for key, value in reversed(root.value):
        if key.value in new and key.value in old and new[key.value] == old[key.value]:
            continue
        start, end = key.start_mark.index, value.end_mark.index
        while (line := text.rfind("\n", start, end - 1)) >= 0 and _no_content(text[line + 1 : end]):
            end = line + 1  # what stands below an entry belongs to the next one
        ends_line = text[start:end].endswith("\n")
        if key.value in new:
            made = _dump({key.value: new[key.value]})
            text = text[:start] + (made if ends_line else made.rstrip("\n")) + text[end:]
        else:
            after = end if ends_line else text.find("\n", end) + 1 or len(text)
            text = text[:start] + text[after:]
    added = {name: value for name, value in new.items() if name not in there}
    return text + ("" if text.endswith("\n") or not text else "\n") + (_dump(added) if added else "")


def _no_content(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _dump(mapping: dict[str, Any]) -> str:
    return str(yaml.safe_dump(mapping, sort_keys=False, allow_unicode=True))
