"""The checking service, ``devilgan serve``: an HTTP server with a page, a queue in a database, and worker processes.

The server receives bytes, hashes them and shows reports. It never parses a stranger's file and imports no torch; a
worker hands each file to a jail.
"""
