from .answers import read_answers as read_answers
from .answers import remade_answers as remade_answers
from .board import text as text
from .board import to_rows as to_rows
from .board import write_page as write_page
from .entries import (
    Submission as Submission,
)
from .entries import (
    read_evidence as read_evidence,
)
from .entries import (
    read_submission as read_submission,
)
from .entries import (
    read_verdicts as read_verdicts,
)
from .entries import (
    write_submission as write_submission,
)
from .kit import Kit as Kit
from .kit import read_kit as read_kit
from .looks import first_look as first_look
from .looks import latent_of as latent_of
from .looks import verdict_of as verdict_of
from .models import FULL as FULL
from .models import QUICK as QUICK
from .models import Effort as Effort
from .red import (
    Entry as Entry,
)
from .red import (
    check_entry as check_entry,
)
from .red import (
    hidden as hidden,
)
from .red import (
    read_entries as read_entries,
)
from .red import (
    write_entry as write_entry,
)
from .roster import HARD as HARD
from .roster import KINDS as KINDS
from .rounds import new_round as new_round
from .scoring import Scores as Scores
from .scoring import score as score
