"""What every refusal is: the root of the tree in `errors`."""

from typing import Any, ClassVar


class Refusal(Exception):
    """A request was refused: `code` for programs, a sentence and a hint for people.

    `details` are facts a program may want, such as the limit and its present value.
    """

    code: ClassVar[str]
    status: ClassVar[int]
    hint: ClassVar[str]

    def __init__(self, sentence: str, *, hint: str = "", **details: Any) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.advice = hint or self.hint
        self.details = details
