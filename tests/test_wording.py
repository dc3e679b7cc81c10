"""The word list of pages finds what it lists, in prose only."""

from pathlib import Path

from tests.wording import find_wrong_words


def test_words_that_have_a_better_one_are_found_in_prose_only(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<p>The Chances <b>are</b> good.</p><code>mend(gap)</code><p>an engaged audience, recommended</p>")
    (found,) = find_wrong_words(page)
    assert found.startswith("page.html: …The Chances are good.")
    assert found.endswith("write probability")
