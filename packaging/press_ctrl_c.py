#!/usr/bin/env python3
"""Starts a server in a terminal of its own, types Ctrl-C when it listens, and checks that it ends in order.

  packaging/press_ctrl_c.py COMMAND...
"""

import os
import pty
import select
import sys
import time

TIME_LIMIT = 60


def main():
    process, terminal = pty.fork()
    if process == 0:
        os.execvp(sys.argv[1], sys.argv[1:])
    printed, pressed = b"", False
    deadline = time.monotonic() + TIME_LIMIT
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            text = os.read(terminal, 4096)
        except OSError:  # The program closed its terminal.
            text = b""
        if not text:
            break
        printed += text
        if not pressed and b"127.0.0.1:" in printed:
            os.write(terminal, b"\x03")
            pressed = True
    else:
        os.kill(process, 9)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if not pressed or status not in (0, 130):
        sys.exit(f"Ctrl-C: pressed {pressed}, exit code {status}, printed {printed.decode(errors='replace')}")
    print(f"ok Ctrl-C: exit code {status}")


main()
