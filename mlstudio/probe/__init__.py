"""What runs inside the container: standard library only, Python 3.8 and newer.

The probe is packed as one zipapp (`mlstudio.probe.zipapp`), put into the container and started there as its first
process. It starts the user's command, collects what that logs and prints, samples the GPU and the control group, and
writes all of it as numbered frames on its standard output (`mlstudio.probe.wire`).
"""
