"""Bridges to toolboxes of other people, each an extra of its own: ``interop.art``."""
