from .exporting import export as export
from .opening import Origin as Origin
from .opening import open as open
from .sniff import FORMATS as FORMATS
from .sniff import Facts as Facts
from .sniff import Format as Format
from .sniff import Refused as Refused
