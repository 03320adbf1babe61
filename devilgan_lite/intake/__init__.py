"""A stranger's file behind walls: a jail opens it, scans it or sanitizes it, and reports what it saw."""
