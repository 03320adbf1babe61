"""A stranger's file as a module: one door, ``files.open``. Everything is read as data; nothing in a file is executed."""

from devilgan_lite.files.program import Operation, Program, Refused

__all__ = ["Operation", "Program", "Refused"]
