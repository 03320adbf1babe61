"""``devilgan film``: the morph of any pair, opened in a browser where there is one."""
