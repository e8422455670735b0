"""Check the exercises of the course: `check.attention(my_attention)` names your mistake."""

from .chapter_04 import attention as attention
from .chapter_04 import attention_by_hand as attention_by_hand
from .chapter_04 import layer as layer
from .chapter_04 import window_mask as window_mask
