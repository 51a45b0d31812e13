"""What the package offers to its users."""


def members(thing: object) -> dict[str, object]:
    """What a class of ours, or a base of ours, offers: methods and properties, not fields of a dataclass."""
    kinds = [kind for kind in getattr(thing, "__mro__", ()) if kind.__module__.startswith("shmring")]
    found = {
        name: member for kind in kinds for name, member in vars(kind).items() if not name.startswith("_")
    }
    return {name: found[name] for name in found.keys() - getattr(thing, "__dataclass_fields__", {}).keys()}
