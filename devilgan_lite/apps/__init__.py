"""What needs a browser, HTTP, Jupyter or ART, beside the core: each folder here can be taken away, and the rest works.

Nothing in the core and no other application imports one; what two of them use is a file beside the folders. An
application's ``commands.py`` adds to ``devilgan``: ``COMMANDS``, ``GROUPS`` of commands, and ``HEALTH`` for its doctor.
"""
