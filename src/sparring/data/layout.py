"""How a folder of images is laid out: where it is, its parts, its classes and its files."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from sparring.core.errors import InputError
from sparring.core.spec import suggest
from sparring.data.download import data_folders
from sparring.data.tree import Tree, open_tree

TRAIN, VALIDATION, TEST, WHOLE = "train", "validation", "test", "whole"
PARTS = {TRAIN: TRAIN, "val": VALIDATION, "valid": VALIDATION, VALIDATION: VALIDATION, TEST: TEST}  # by folder's name


class ImageFile(NamedTuple):
    """One image: its part (train, validation, test or whole), its tree and path there, and its label."""

    part: str
    tree: Tree
    path: str
    label: int

    @property
    def where(self) -> str:
        """The file's name, for messages."""
        return f"{self.tree.place}/{self.path}"


def locate(path: str) -> Path:
    """Return the directory or zip that `path` means; raise InputError, naming where it was looked for, if none."""
    folders = data_folders()
    try:
        given = Path(path).expanduser()
        places = [given.absolute(), *(folder / given for folder in folders)]
        found = next((place for place in places if place.exists()), None)
    except (OSError, RuntimeError) as error:  # too long a name, a locked folder, an unknown user's home
        raise InputError(f"folder: {path[:80]!r} cannot be looked for ({str(error)[:80]})") from None
    if found is None:
        looked = ", ".join(dict.fromkeys(map(str, places)))
        raise InputError(f"folder: {path!r} does not exist; looked for {looked}")
    return found


def find_parts(root: Path, stack_of_files: ExitStack) -> Mapping[str, Tree]:
    """Return the trees of class folders in `root`: train, test and perhaps validation, or one whole."""
    zips = {name: root / f"{name}.zip" for name in PARTS if (root / f"{name}.zip").is_file()}
    if _divided(zips):
        return _named({name: _unwrap(open_tree(place, stack_of_files)) for name, place in zips.items()}, str(root))
    tree = _unwrap(open_tree(root, stack_of_files))
    named = [name for name in PARTS if name in tree.top() and tree.has_folders(name)]
    if not _divided(named):
        return {WHOLE: tree}
    beside = [name for name in tree.top() if name not in named]
    if beside:
        raise InputError(f"{tree.place}: {beside[0]!r} lies beside {' and '.join(named)}; move it away")
    return _named({name: tree.below(name) for name in named}, tree.place)


def _divided(names: Collection[str]) -> bool:
    return TRAIN in names and len(names) > 1


def _named(trees: Mapping[str, Tree], where: str) -> Mapping[str, Tree]:
    """Return the parts by what they are for; a validation part beside train alone serves as the test."""
    found: dict[str, Tree] = {}
    for name, tree in trees.items():
        if PARTS[name] in found:
            raise InputError(f"{where}: {name!r} is a second {PARTS[name]} part; move one away")
        found[PARTS[name]] = tree
    if TEST not in found:
        found[TEST] = found.pop(VALIDATION)
    return {part: found[part] for part in (TRAIN, VALIDATION, TEST) if part in found}


def _unwrap(tree: Tree) -> Tree:
    """Leave out folders that hold one folder of folders each, as zips of a folder have one."""
    top = tree.top()
    return _unwrap(tree.below(top[0])) if len(top) == 1 and tree.has_folders(top[0]) else tree


def find_classes(parts: Mapping[str, Tree], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the classes in the order of their labels: those `wanted`, or all; the same in every part."""
    first, *others = parts.values()
    top = first.top()
    if not top:
        zips = [name for name in first.files if name.endswith(".zip") and "/" not in name]
        hint = f", as in {zips[0]}? Then give its path" if zips else "; images belong in one folder a class"
        raise InputError(f"{first.place}: holds no class folders{hint}")
    for tree in parts.values():
        for name in wanted:
            if name not in tree.top():
                raise InputError(f"{tree.place}: there is no class folder {name!r}{suggest(name, tree.top())}")
    if len(set(wanted)) < len(wanted):
        raise InputError(f"folder: classes names {max(wanted, key=wanted.count)!r} twice")
    for other in () if wanted else others:
        _agree(first, other)
    return wanted or tuple(sorted(top, key=int) if all(map(str.isdecimal, top)) else top)


def _agree(first: Tree, other: Tree) -> None:
    odd = sorted(set(first.top()) ^ set(other.top()))
    if odd:
        inside, outside = (first, other) if odd[0] in first.top() else (other, first)
        raise InputError(f"{inside.place}/{odd[0]}: there is no such class folder in {outside.place}; make both agree")


def find_images(part: str, tree: Tree, classes: tuple[str, ...]) -> Iterator[ImageFile]:
    """List the images of the classes, class by class."""
    by_class: dict[str, list[str]] = {name: [] for name in classes}
    for path in sorted(tree.files):
        folder, _, rest = path.partition("/")
        if folder not in by_class:
            continue
        if "/" in rest:
            raise InputError(f"{tree.place}/{path}: lies too deep; images belong directly in their class folder")
        if rest:
            by_class[folder].append(path)
    for label, (name, paths) in enumerate(by_class.items()):
        if not paths:
            raise InputError(f"{tree.place}/{name}: empty class folder; add images or remove it")
        yield from (ImageFile(part, tree, path, label) for path in paths)
