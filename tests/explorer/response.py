"""How long the page takes from an input to the pictures, in a browser.

    python -m tests.explorer.response [MOVES]

For each slider, how long after an input event the first changed picture and the last one have been painted.
"""

import statistics
import sys
from typing import Any

from tests.browser import launched
from tests.explorer.serving import served

SLIDERS = ("rate", "depth", "points", "dim", "noise", "shift", "seed")
# Moves a slider and returns the times at which the first and the last picture changed and were painted.
MOVE = """([id, value]) => new Promise((resolve) => {
  const slider = document.getElementById(id);
  const times = [];
  const watch = new MutationObserver(() => requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => times.push(performance.now() - start);
    channel.port2.postMessage(0);
  }));
  watch.observe(document.querySelector('.pictures'), {childList: true, subtree: true, characterData: true});
  slider.value = value;
  const start = performance.now();
  slider.dispatchEvent(new Event('input', {bubbles: true}));
  setTimeout(() => { watch.disconnect(); resolve([times[0], times.at(-1)]); }, 700);
})"""


def response(page: Any, slider: str, moves: int) -> tuple[list[float], list[float]]:
    """Milliseconds to the first and to the last picture, for moves to values that have not been shown before."""
    low, high = (float(page.locator(f"#{slider}").get_attribute(name)) for name in ("min", "max"))
    places = [low + (high - low) * (0.3 + 0.4 * k / moves) for k in range(moves)]
    times = [page.evaluate(MOVE, [slider, place]) for place in places]
    first, last = zip(*(pair for pair in times if pair[0] is not None), strict=True)
    return list(first), list(last)


def main(moves: int) -> None:
    """Print the medians and the slowest moves."""
    with served() as (_, address), launched() as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(address)
        page.wait_for_function("window.did_handshake")
        for slider in SLIDERS:
            first, last = response(page, slider, moves)
            row = (statistics.median(first), max(first), statistics.median(last), max(last))
            sys.stdout.write(f"{slider:<8}" + "".join(f"{value:8.0f}" for value in row) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 12)
