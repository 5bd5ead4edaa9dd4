"""Training lists in the formats of other toolkits, written and read."""

from .exporting import export_lists
from .importing import import_lists

__all__ = ["export_lists", "import_lists"]
