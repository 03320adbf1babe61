"""A game for the end of a workshop: blue teams judge models of unknown status, red teams make backdoored ones.

``new_round`` makes the models and commits to the answers, ``Submission`` holds a blue team's answer, ``check_entry``
checks a red team's model, ``read_answers`` and ``score`` end the round, and ``write_page`` writes the scoreboard.
"""

import lazy_loader

# what is asked for is imported then: ``devilgan --help`` needs no torch
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
