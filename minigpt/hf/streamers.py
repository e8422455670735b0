"""Show a text while it is generated: printed, or word by word to a loop in another thread."""

from collections import deque
from functools import partial
from queue import Queue
from typing import Self

from torch import Tensor

from minigpt.generation import stream_text


class TextStreamer:
    """Prints a text word by word, for `generate(streamer=...)`.

    Any tokenizer with `decode` can be used; it gets `decode_kwargs`. The printed parts together are
    what `decode` returns for all ids. Names and use are those of transformers.
    """

    def __init__(self, tokenizer, skip_prompt: bool = False, **decode_kwargs):
        self.tokenizer, self.skip_prompt, self.decode_kwargs = tokenizer, skip_prompt, decode_kwargs
        self.reset()

    def reset(self) -> None:
        """Forget the text; the next one may begin."""
        self.steps, self.next_tokens_are_prompt = deque(), True
        decode = partial(self.tokenizer.decode, **self.decode_kwargs)
        self.texts = stream_text(iter(self.steps.popleft, None), decode)  # a text for each step

    def put(self, value: Tensor) -> None:
        """Take the prompt, (1, T), or a new id, (1,). Raises ValueError for more than one text."""
        if value.ndim > 1 and len(value) > 1:
            raise ValueError(f"{len(value)} texts cannot be streamed at once; pass one prompt")
        is_prompt, self.next_tokens_are_prompt = self.next_tokens_are_prompt, False
        if not (is_prompt and self.skip_prompt):
            self.steps.append(value)
            self.on_finalized_text(next(self.texts))

    def end(self) -> None:
        """Show the rest of the text."""
        self.steps.append(None)
        self.on_finalized_text(next(self.texts), stream_end=True)
        self.reset()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Print new text; override it to do something else."""
        print(text, end="\n" if stream_end else "", flush=True)


class TextIteratorStreamer(TextStreamer):
    """Gives the words to a `for` loop, while `generate` runs in another thread.

    `timeout`, in seconds, is how long to wait for a word before `queue.Empty` is raised.
    """

    def __init__(self, tokenizer, skip_prompt=False, timeout: float | None = None, **decode_kwargs):
        super().__init__(tokenizer, skip_prompt, **decode_kwargs)
        self.text_queue, self.timeout = Queue(), timeout

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.text_queue.put(text)
        if stream_end:
            self.text_queue.put(None)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        if (text := self.text_queue.get(timeout=self.timeout)) is None:
            raise StopIteration
        return text
