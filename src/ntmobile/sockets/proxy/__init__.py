"""The proxy model: browsers and curl reach nodes through a proxy on loopback, without root.

Names of nodes are resolved inside; all other names go out by the ordinary network, untouched.
"""
