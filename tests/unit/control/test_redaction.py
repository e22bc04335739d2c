# SPDX-License-Identifier: Apache-2.0
"""Attack: a request with more secrets than are looked for, or with strange ones, makes an error that tells them."""

from __future__ import annotations

import contextvars
from collections.abc import Callable

from pylae.control import redaction
from pylae.control.redaction import HiddenWords, Secrets, redacted, told
from pylae.hiding import MASK


def within(words: list[str], look: Callable[[HiddenWords], None]) -> None:
    """Looks on behalf of a request that hides words."""

    def work() -> None:
        hiding = redaction.begin(Secrets(()))
        hiding.add(words)
        look(hiding)

    contextvars.Context().run(work)


def test_what_an_exception_says_is_told_while_every_word_is_known() -> None:
    error = RuntimeError("sesame-1 is wrong")

    def look(hiding: HiddenWords) -> None:
        assert hiding.are_all
        assert redacted(told(error)) == f"RuntimeError: {MASK} is wrong"

    within(["sesame-1", "sesame-2"], look)
    assert told(error) == "RuntimeError: sesame-1 is wrong"


def test_past_the_last_word_there_is_room_for_only_the_kind_of_an_exception_is_told() -> None:
    words = [f"sesame-{number}" for number in range(redaction.MAX_WORDS)]

    def full(hiding: HiddenWords) -> None:
        assert hiding.are_all
        assert "wrong" in told(RuntimeError("wrong"))

    within([*words, "sesame-1", "abc"], full)

    def overfull(hiding: HiddenWords) -> None:
        assert not hiding.are_all
        assert redacted(told(RuntimeError("one-too-many is wrong"))) == "RuntimeError"

    within([*words, "one-too-many"], overfull)


def test_a_word_that_comes_later_is_hidden_too() -> None:
    def look(hiding: HiddenWords) -> None:
        assert hiding.hide("sesame-1 sesame\n2") == f"{MASK} sesame\n2"
        hiding.add(["sesame\n2"])
        assert hiding.hide("sesame-1 sesame\n2 'sesame\\n2'") == f"{MASK} {MASK} '{MASK}'"

    within(["sesame-1"], look)
