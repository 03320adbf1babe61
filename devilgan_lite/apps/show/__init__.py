"""The show for a room: which pairs are shown, the stage and the page for phones, their server, votes, a live scan."""
