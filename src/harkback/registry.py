"""Names to classes: every module of a package is one entry, and so is every entry point of a group."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from harkback.errors import HarkbackError


@dataclass(frozen=True, slots=True)
class Registry:
    """What can be chosen by name.

    A module ``harkback/<package>/sam_audio.py`` is the entry ``sam-audio``; the entry is the one class defined in it
    that has all the attributes of the role. Other installed packages add theirs by an entry point in the group
    ``harkback.<package>``. Listing names imports nothing.
    """

    package: str  #: "learners", "encoders" or "datasets"
    role: tuple[str, ...]  #: attributes that make a class one of these

    def names(self) -> list[str]:
        return sorted({*self._modules(), *self._foreign()})

    def load(self, name: str) -> type[Any]:
        """The class of that name; `HarkbackError` that lists the names if there is none."""
        modules, foreign = self._modules(), self._foreign()
        if name in modules:
            module = importlib.import_module(modules[name])
            fitting = [
                value
                for value in vars(module).values()
                if inspect.isclass(value) and value.__module__ == module.__name__
                if all(hasattr(value, attribute) for attribute in self.role)
            ]
            if len(fitting) != 1:
                raise TypeError(f"{modules[name]} must define one class with {', '.join(self.role)}: {fitting}")
            return fitting[0]
        if name in foreign:
            return self._outside(foreign[name])
        raise HarkbackError(
            f'there is no {self.package.removesuffix("s")} "{name}"', mend=f"choose from {', '.join(self.names())}"
        )

    def _outside(self, entry: EntryPoint) -> type[Any]:
        try:
            found = entry.load()
        except Exception as error:  # Another's code may fail in any way; the user needs to know whose it was.
            raise HarkbackError(
                f"the installed {self.package.removesuffix('s')} does not load: {error}",
                where=entry.value,
                mend="mend or uninstall the package it comes from",
            ) from error
        if not inspect.isclass(found) or not all(hasattr(found, attribute) for attribute in self.role):
            raise HarkbackError(f"is not a class with {', '.join(self.role)}", where=entry.value)
        return found

    def _modules(self) -> dict[str, str]:
        package = importlib.util.find_spec(f"harkback.{self.package}")  # Importing it would load torch.
        assert package is not None
        return {
            name.replace("_", "-"): f"harkback.{self.package}.{name}"
            for _, name, _ in pkgutil.iter_modules(package.submodule_search_locations)
            if not name.startswith("_") and name != "base"
        }

    def _foreign(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=f"harkback.{self.package}")}


LEARNERS = Registry("learners", ("Settings", "learn", "scores"))
ENCODERS = Registry("encoders", ("spec", "encode"))
DATASETS = Registry("datasets", ("splits",))
