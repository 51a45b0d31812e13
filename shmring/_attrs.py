"""The attrs of rings and recordings: dicts and lists that cannot be changed, because the ring would not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

__all__ = ["fixed", "other_pixels"]


def _refuse(self: Any, *_args: Any, **_options: Any) -> NoReturn:
    raise TypeError(
        "attrs are fixed when their ring is created: change a copy (copy.deepcopy(attrs)), and create "
        "another ring with it"
    )


class FixedDict(dict[str, Any]):
    """A dict that cannot be changed; pickled or copied, it is a plain dict."""

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a dict."""
        return dict, (dict(self),)


class FixedList(list[Any]):
    """A list that cannot be changed; pickled or copied, it is a plain list."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a list."""
        return list, (list(self),)


def fixed(value: Any) -> Any:
    """Return a copy of something JSON-able that cannot be changed."""
    if isinstance(value, dict):
        return FixedDict({key: fixed(item) for key, item in value.items()})
    if isinstance(value, list):
        return FixedList(fixed(item) for item in value)
    return value


def other_pixels(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Say in what the pixels of two rings differ, if both say it: bgr24, not rgb24."""
    differ = [
        f"{key} {there[key]!r}, not {wanted[key]!r}"
        for key in ("pix_fmt", "size", "color")
        if key in there and key in wanted and there[key] != wanted[key]
    ]
    return "; ".join(differ)
