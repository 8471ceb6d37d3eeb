"""axe-core, for the browser tests: what it finds serious or critical on a page as it is now."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

DESK = {"width": 1280, "height": 900}
LOOKS = (DESK, "light"), (DESK, "dark"), ({"width": 360, "height": 780}, "light")


def serious_violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{rule['id']}: {node['target']} {node['failureSummary']}" for rule in found
            if rule["impact"] in ("serious", "critical") for node in rule["nodes"]]


def check_accessibility(page: Page) -> None:
    """No serious violation of the page as it is now, on a desk in light and dark, and on a phone."""
    for size, colours in LOOKS:
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=colours, reduced_motion="reduce")        # half-way through a fade, contrast is another
        page.wait_for_function("dark => document.body.classList.contains('dark') === dark", arg=colours == "dark")
        assert serious_violations(page) == [], (size, colours)
