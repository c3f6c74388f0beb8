"""Every folder of configs in Hydra's search path, after the project's own; `--info searchpath` shows them."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from robot import folders


class Folders(SearchPathPlugin):
    """A person's folders, and those of plug-ins."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in folders.folders()[1:]:
            search_path.append(provider=folder.whose, path=f"file://{folder.path}")


def register() -> None:
    """Hydra keeps its plug-ins for the life of the process."""
    Plugins.instance().register(Folders)
