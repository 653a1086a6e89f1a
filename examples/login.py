"""Make a node's state, once: python login.py STATE USER@DOMAIN NAME CA-FILE < PASSWORD-FILE."""

import asyncio
import sys

import ntmobile

state, who, name, ca = sys.argv[1:]
password = sys.stdin.readline().rstrip("\n")
print(asyncio.run(ntmobile.Node.login(state, who, name=name, password=password, ca=ca)))
