"""IPython's configuration in the project's own environment; `make setup` puts it into .venv/etc/ipython.

A cell that needs a name from another cell gets one sentence that says which cell to run. Nothing is imported before
that happens, so a kernel starts as fast as ever.
"""

c = get_config()  # noqa: F821  # IPython hands it in
c.InteractiveShellApp.exec_lines = [
    "get_ipython().set_custom_exc((NameError,), lambda shell, *error, **more: __import__("
    "'devilgan_lite.apps.course.lesson.order', fromlist=['explain']).explain(shell, *error, **more))"
]
