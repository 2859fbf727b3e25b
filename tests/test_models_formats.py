"""The page on formats says what really happens."""

import formats_table


def test_the_page_on_formats_is_what_comes_out() -> None:
    page = formats_table.PAGE.read_text()
    assert formats_table.page() == page, "python tests/formats_table.py > docs/formats.md"
