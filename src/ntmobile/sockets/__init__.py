"""The framework built-in type: a node inside the application, without root and without a device.

Source: paper, abstract (implementation models). The public face is `ntmobile.Node`.
"""
