from sfisep_core.evaluation.report.svg import inline_svg


def test_drawing_becomes_part_of_the_page() -> None:
    svg = (
        '<?xml version="1.0"?><!DOCTYPE svg PUBLIC "x" "http://www.w3.org/x">'
        '<svg xmlns:xlink="http://x" width="9pt" viewBox="0 0 9 9" xmlns="http://y">'
        "<metadata>http://z</metadata><style>*{}</style>"
        '<g id="a" style="fill: #ffffff; stroke: #262626" clip-path="url(#b)">'
        '<use xlink:href="#a"/><image xlink:href="data:image/png;base64,AA"/></g></svg>'
    )
    assert inline_svg(svg, name="n", label='"what"') == (
        '<svg viewBox="0 0 9 9" role="img" aria-label="&#34;what&#34;">'
        '<g id="n-a" style="fill: none; stroke: currentColor" clip-path="url(#n-b)">'
        '<use href="#n-a"/><image href="data:image/png;base64,AA"/></g></svg>'
    )
