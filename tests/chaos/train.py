"""What runs in the containers: logs numbers that can be told from each other, and writes down how far it came.

Its arguments: a word by which its process is found, how many steps, milliseconds between two, the exit code.
"""

import mmap
import os
import sys
import time

import mlstudio

steps, pause, code = int(sys.argv[2]), float(sys.argv[3]) / 1000, int(sys.argv[4])
while True:
    try:
        with open("/tmp/ledger", "wb") as file:
            file.write(bytes(8))
            file.flush()
            os.fsync(file.fileno())
        break
    except OSError:  # The disk is full.
        time.sleep(0.1)
ledger = mmap.mmap(os.open("/tmp/ledger", os.O_RDWR), 8)
for step in range(steps):
    mlstudio.log(step=step, loss=step / 2, third=step / 3)
    ledger[:] = (step + 1).to_bytes(8, "little")
    if step % 10 == 0:
        print("line", step, "x" * (step % 97), flush=True)
    time.sleep(pause)
print("done", flush=True)
sys.exit(code)
