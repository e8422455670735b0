"""Check the exercises of the course: `check.attention(my_attention)` names your mistake."""
# ruff: noqa: F403  (each chapter's `__all__` has the names of its checks)

from .chapter_00 import *
from .chapter_01 import *
from .chapter_02 import *
from .chapter_03 import *
from .chapter_04 import *
from .chapter_05 import *
from .chapter_06 import *
from .chapter_07 import *
from .chapter_08 import *
from .chapter_09 import *
from .chapter_10 import *
from .chapter_11 import *
from .chapter_12 import *
from .chapter_13 import *
from .chapter_14 import *
