"""What the screens are looked at with: the widths of a screen and of a phone, and a judge of contrast."""

from __future__ import annotations

from pathlib import Path

WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
CONTRAST = (Path(__file__).parent / "contrast.js").read_text("utf-8")
