"""Microcontroller boards: the memory that a network may use there."""

from __future__ import annotations

from dataclasses import dataclass

from mbsearch.errors import SpecError, did_you_mean

_KIB = 2**10


@dataclass(frozen=True, slots=True)
class Board:
    """A board and the memory of its chip; the firmware needs part of this memory too.

    `ram` is the largest contiguous SRAM, in bytes: an arena has to be contiguous. `flash` is in
    bytes, `clock` in MHz. `source` names the manufacturer's document.
    """

    name: str
    chip: str
    ram: int
    flash: int
    clock: int
    source: str

    @property
    def limits(self) -> list[str]:
        """The board's memory as values for ``--limit``."""
        return [f"ram_bytes={self.ram}", f"flash_bytes={self.flash}"]


_ROWS = (
    Board("stm32h743", "STM32H743", 512 * _KIB, 2048 * _KIB, 480, "ST DS12110, AXI SRAM"),
    Board("stm32f746", "STM32F746", 320 * _KIB, 1024 * _KIB, 216, "ST DS10916, SRAM1 and SRAM2"),
    Board("stm32l4r5", "STM32L4R5", 640 * _KIB, 2048 * _KIB, 120, "ST DS12023"),
    Board("nano33ble", "nRF52840", 256 * _KIB, 1024 * _KIB, 64, "Nordic nRF52840 PS v1.7"),
    Board("rp2040", "RP2040", 264 * _KIB, 2048 * _KIB, 133, "RP2040 datasheet; flash of a Pico"),
    Board("esp32s3", "ESP32-S3", 512 * _KIB, 8192 * _KIB, 240, "Espressif; flash of a WROOM-1-N8"),
    Board("max78000", "MAX78000", 512 * _KIB, 442 * _KIB, 100, "ADI; memory of its accelerator"),
)
BOARDS = {board.name: board for board in _ROWS}
"""The boards by name."""


def find_board(name: str) -> Board:
    """Return a board by its name.

    Raises:
        SpecError: there is no board of this name; the message lists those that there are.
    """
    board = BOARDS.get(name.lower())
    if board is None:
        raise SpecError(
            f"--board: expected one of {', '.join(BOARDS)}, got {name!r}"
            + did_you_mean(name, BOARDS)
        )
    return board
