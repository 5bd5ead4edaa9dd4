"""The bake-off: several recipes trained under one budget, several seeds, and which of them is the better one."""

from .command import bake_off
from .table import render

__all__ = ["bake_off", "render"]
