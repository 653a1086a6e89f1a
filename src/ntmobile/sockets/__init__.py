"""The framework built-in type: a node inside the application, without root and without a device.

Source: paper, Implementation models (the framework built-in type). The public face is
`ntmobile.Node`.
"""
