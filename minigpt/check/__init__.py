"""Check the exercises of the course: `check.attention(my_attention)` names your mistake."""

from .chapter_03 import analogy as analogy
from .chapter_03 import attention_parameters as attention_parameters
from .chapter_03 import blocks_that_fit as blocks_that_fit
from .chapter_03 import similarity as similarity
from .chapter_04 import attention as attention
from .chapter_04 import attention_by_hand as attention_by_hand
from .chapter_04 import layer as layer
from .chapter_04 import window_mask as window_mask
